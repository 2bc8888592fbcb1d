"""The conformance table of the hypergradient estimators: a new estimator is one row."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import hypergrad
from metahpo.base import Estimator, Problem


class Row(NamedTuple):
    """An estimator, and what it estimates on the scalar dynamics: ``(rate, start)``."""

    make: Callable[[Problem, int], Estimator]
    formula: Callable[..., tuple[float, float]]
    exact: bool = True  # the gradient of the outer loss itself
    unrolled: bool = True  # one training, whose final state is in info
    random: bool = False  # with a standard error


ROWS = {
    "clipped": Row(
        lambda p, t: hypergrad.clipped(hypergrad.reverse(p, t), 1e200), forms.scalar_exact
    ),
    "reverse": Row(hypergrad.reverse, forms.scalar_exact),
    "reverse_none": Row(lambda p, t: hypergrad.reverse(p, t, "none"), forms.scalar_exact),
    "reverse_sqrt": Row(lambda p, t: hypergrad.reverse(p, t, "sqrt"), forms.scalar_exact),
    "reverse_20": Row(lambda p, t: hypergrad.reverse(p, t, 20), forms.scalar_exact),
    "forward": Row(hypergrad.forward, forms.scalar_exact),
    "forward_random": Row(
        lambda p, t: hypergrad.forward(p, t, directions=200),
        forms.scalar_exact,
        exact=False,
        random=True,
    ),
    "first_order": Row(hypergrad.first_order, forms.scalar_first_order, exact=False),
    "reptile": Row(hypergrad.reptile, forms.scalar_reptile, exact=False),
    "truncated": Row(
        lambda p, t: hypergrad.truncated(p, t, window=3),
        functools.partial(forms.scalar_truncated, window=3),
        exact=False,
    ),
    "one_step": Row(
        hypergrad.one_step, functools.partial(forms.scalar_truncated, window=1), exact=False
    ),
    "implicit": Row(
        lambda p, t: hypergrad.implicit(p, t, "cg"), forms.scalar_implicit, exact=False
    ),
    "es": Row(
        lambda p, t: hypergrad.es(p, t, pairs=2000, sigma=1e-5),
        forms.scalar_exact,
        exact=False,
        unrolled=False,
        random=True,
    ),
    **{
        make.__name__: Row(
            lambda p, t, make=make: make(p, t, window=max(t, 1), pairs=2000, sigma=1e-5),
            forms.scalar_exact,
            exact=False,
            unrolled=False,
            random=True,
        )
        for make in (hypergrad.pes, hypergrad.nres)
    },
    "mixture": Row(
        lambda p, t: hypergrad.mixture(p, t, pairs=100, sigma=1e-8),
        forms.scalar_exact,
        exact=False,
        unrolled=False,
        random=True,
    ),
}
LOSSES = {"implicit_loss"}  # differentiable losses rather than estimators
SINGLE_LOOP = {"saba", "soba"}  # an estimate is one iteration: test_single_loop.py
EVERY = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
EXACT = pytest.mark.parametrize(
    "row", [r for r in ROWS.values() if r.exact], ids=[n for n, r in ROWS.items() if r.exact]
)
KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def first(estimator):
    """``(key, hparams, task) -> Estimate``, the first one of a fresh memory."""

    def run(key, hparams, task):
        memory = estimator.init(jax.random.fold_in(key, 1), hparams, task)
        return estimator.estimate(key, hparams, task, memory)[0]

    return run


def gradient(estimator, hparams, task, key=KEY):
    return first(estimator)(key, hparams, task).grad


def test_every_estimator_has_a_row():
    assert set(hypergrad.__all__) - LOSSES - SINGLE_LOOP <= set(ROWS)


@EVERY
@pytest.mark.parametrize(
    ("lr", "steps"), [(0.4, 0), (0.4, 1), (0.1, 7), (2.6, 20)], ids=["0", "1", "7", "exploding"]
)
def test_scalar_dynamics_have_the_known_gradient(row, lr, steps):
    a, start = 1.1, 1.3
    estimate = jax.jit(first(row.make(forms.scalar_dynamics(), steps)))(
        KEY, forms.scalar_hparams(lr, start), jnp.array(a)
    )
    result = np.array([estimate.grad["lr"], estimate.grad["start"]])
    expected = np.array(row.formula(lr, start, a, steps))
    if row.random:
        error = estimate.info["standard_error"]
        error = 4 * np.array([error["lr"], error["start"]])
        assert np.all(np.abs(result - expected) <= error + 1e-10 * np.abs(expected))  # rounding
    else:
        np.testing.assert_allclose(result, expected, rtol=1e-10)
    loss = (start * (1 - a * lr) ** steps) ** 2 / 2
    np.testing.assert_allclose(estimate.loss, loss, rtol=1e-2 if row.random else 1e-10)


@EXACT
@pytest.mark.parametrize("log_l2", [-1.5, 0.7])
def test_ridge_has_the_closed_form_and_its_second_derivative(row, log_l2):
    estimator = row.make(forms.ridge(), 150)

    def slope(log_l2):
        return gradient(estimator, {"log_l2": log_l2}, None)["log_l2"]

    first, second = jax.jit(jax.value_and_grad(slope))(log_l2)
    np.testing.assert_allclose(first, forms.ridge_gradient(log_l2), rtol=1e-10)
    expected = jax.grad(jax.grad(forms.ridge_value))(log_l2)
    np.testing.assert_allclose(second, expected, rtol=1e-10)


@EXACT
@pytest.mark.parametrize("lr", [0.1, 2.6])
def test_second_derivative_of_the_scalar_dynamics(row, lr):
    estimator = row.make(forms.scalar_dynamics(), 9)
    slope = jax.grad(lambda x: gradient(estimator, forms.scalar_hparams(x), jnp.array(1.1))["lr"])
    np.testing.assert_allclose(slope(lr), forms.scalar_second(lr, 1.3, 1.1, 9), rtol=1e-10)


@EXACT
def test_training_agrees_with_finite_differences(row):
    problem = forms.momentum_training()
    task = problem.sample(jax.random.key(1))
    loss = jax.jit(lambda h: mh.inner.outer_loss(problem, 10)(KEY, h, task)[0])
    hparams = {"lr": jnp.array(0.2), "momentum": jnp.array(0.7)}
    result = jax.jit(lambda h: gradient(row.make(problem, 10), h, task))(hparams)
    for name, value in hparams.items():
        h = 1e-5
        above, below = (loss(hparams | {name: value + s * h}) for s in (1, -1))
        np.testing.assert_allclose(result[name], (above - below) / (2 * h), rtol=1e-6)


@EVERY
def test_jit_and_vmap_over_hyperparameters_and_tasks_change_nothing(row):
    problem = forms.scalar_dynamics()
    estimator = row.make(problem, 5)
    batch = jax.vmap(forms.scalar_hparams)(jnp.array([0.1, 0.3, 2.5]))
    tasks = jax.vmap(problem.sample)(jax.random.split(KEY, 2))
    one = functools.partial(gradient, estimator)
    over_tasks = jax.vmap(one, in_axes=(None, 0))
    mapped = jax.jit(jax.vmap(over_tasks, in_axes=(0, None)))(batch, tasks)
    # vmap may round the losses of a pair differently, and es divides that by its small sigma.
    rtol = 1e-7 if row.random else 1e-12
    compiled = jax.jit(one)
    for i, j in np.ndindex(3, 2):
        hparams = jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        entry = jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], mapped)
        chex.assert_trees_all_close(entry, compiled(hparams, tasks[j]), rtol=rtol)
    chex.assert_trees_all_close(entry, one(hparams, tasks[j]), rtol=rtol)


@EVERY
def test_whole_numbers_pass_through_with_a_zero_gradient(row):
    hparams = forms.scalar_hparams(0.3)
    grad = gradient(row.make(forms.scalar_dynamics(), 2), hparams, jnp.array(1.0))
    assert grad["power"] == 0 and grad["power"].dtype == hparams["power"].dtype
    assert jax.tree.structure(grad) == jax.tree.structure(hparams)


@EVERY
def test_another_number_compiles_nothing(row):
    traces = []
    problem = forms.scalar_dynamics()

    def step(key, hparams, task, state):
        traces.append(1)
        return problem.step(key, hparams, task, state)

    run = jax.jit(first(row.make(problem._replace(step=step), 3)))
    run(KEY, forms.scalar_hparams(0.1), jnp.array(1.0))
    count = len(traces)
    run(jax.random.key(4), forms.scalar_hparams(0.2, 0.7), jnp.array(2.0))
    assert len(traces) == count > 0


@EVERY
def test_single_precision_stays_single(row):
    hparams = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, forms.scalar_hparams(0.3)
    )
    estimate = first(row.make(forms.scalar_dynamics(), 3))(KEY, hparams, jnp.float32(1.1))
    assert estimate.loss.dtype == estimate.grad["lr"].dtype == jnp.float32
    assert estimate.info["grad_norm"].dtype == jnp.float32


@EVERY
def test_info_tells_norm_state_and_whether_all_is_finite(row):
    problem = forms.scalar_dynamics()
    hparams, task = forms.scalar_hparams(0.3), jnp.array(1.1)
    estimate = first(row.make(problem, 4))(KEY, hparams, task)
    norm = np.hypot(estimate.grad["lr"], estimate.grad["start"])
    np.testing.assert_allclose(estimate.info["grad_norm"], norm, rtol=1e-12)
    assert estimate.info["finite"]
    assert ("state" in estimate.info) == row.unrolled
    if row.unrolled:
        state = mh.inner.unroll(problem, 4)(KEY, hparams, task)
        np.testing.assert_allclose(estimate.info["state"], state, rtol=1e-12)

    overflow = first(row.make(problem, 50))(KEY, forms.scalar_hparams(1e30), task)
    assert not overflow.info["finite"]


@EVERY
def test_the_key_alone_decides(row):
    estimate = jax.jit(first(row.make(forms.momentum_training(), 2)))
    task = forms.momentum_training().sample(KEY)
    hparams = {"lr": jnp.array(0.2), "momentum": jnp.array(0.7)}
    one, again, other = (estimate(jax.random.key(i), hparams, task) for i in (3, 3, 4))
    chex.assert_trees_all_equal(one, again)
    assert one.loss != other.loss


@EVERY
def test_refuses_bad_arguments_with_rule_and_value(row):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 0, got -1"):
        row.make(forms.scalar_dynamics(), -1)
    estimator = row.make(forms.scalar_dynamics(), 1)
    with pytest.raises(ValueError, match="need a float leaf to have a gradient"):
        first(estimator)(KEY, jax.tree.map(jnp.int32, forms.scalar_hparams(1)), jnp.array(1))
    vector = forms.scalar_dynamics()._replace(loss=lambda *_: jnp.zeros(2))
    with pytest.raises(ValueError, match=r"must be a real scalar, got shape \(2,\)"):
        first(row.make(vector, 1))(KEY, forms.scalar_hparams(0.1), jnp.array(1.0))
