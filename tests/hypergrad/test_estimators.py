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
        lambda p, t: hypergrad.clipped(hypergrad.reverse(p, t), 1e30), forms.scalar_exact
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
EVERY = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys(), scope="module")
EXACT = pytest.mark.parametrize(
    "row",
    [row for row in ROWS.values() if row.exact],
    ids=[name for name, row in ROWS.items() if row.exact],
    scope="module",
)
KEY = jax.random.key(3)
STEPS = 20


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


def point(lr, start=1.3):
    """Strongly typed, so that all points have one program."""
    return {"lr": np.float64(lr), "power": np.int64(1), "start": np.float64(start)}


@functools.cache
def scalar_program(row):
    """``(key, hparams, task) -> Estimate`` after ``STEPS`` updates of the scalar dynamics.

    Of exact rows also the second derivative with respect to the rate.  And the list of its traces.
    """
    traces = []
    problem = forms.scalar_dynamics()

    def step(key, hparams, task, state):
        traces.append(1)
        return problem.step(key, hparams, task, state)

    estimate = first(row.make(problem._replace(step=step), STEPS))

    def run(key, hparams, task):
        def slope(lr):
            result = estimate(key, hparams | {"lr": lr}, task)
            return result.grad["lr"], result

        if row.exact:
            second, result = jax.grad(slope, has_aux=True)(hparams["lr"])
            return result, second
        return slope(hparams["lr"])[1], None

    return jax.jit(run), traces


def scalar(row, hparams, task=1.1, key=KEY):
    return scalar_program(row)[0](key, hparams, np.float64(task))


@functools.cache
def edges(row):
    """``(key, hparams, task) -> {steps: Estimate}`` for no step and for a single one."""
    few = {steps: first(row.make(forms.scalar_dynamics(), steps)) for steps in (0, 1)}
    return jax.jit(lambda *arguments: {steps: run(*arguments) for steps, run in few.items()})


@functools.cache
def unroll():
    return jax.jit(mh.inner.unroll(forms.scalar_dynamics(), STEPS))


@functools.cache
def momentum_program(row):
    return jax.jit(first(row.make(forms.momentum_training(), 10)))


MOMENTUM = {"lr": np.float64(0.2), "momentum": np.float64(0.7)}


@functools.cache
def momentum_task():
    return forms.momentum_training().sample(jax.random.key(1))


def test_every_estimator_has_a_row():
    assert set(hypergrad.__all__) - LOSSES - SINGLE_LOOP <= set(ROWS)


@EVERY
@pytest.mark.parametrize(
    ("lr", "steps"),
    [(0.4, 0), (0.4, 1), (0.1, STEPS), (2.6, STEPS)],
    ids=["0", "1", "many", "exploding"],
)
def test_scalar_dynamics_have_the_known_gradient(row, lr, steps):
    a, start = 1.1, 1.3
    if steps == STEPS:
        estimate, _ = scalar(row, point(lr, start), a)
    else:
        estimate = edges(row)(KEY, point(lr, start), np.float64(a))[steps]
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


@functools.cache
def ridge_program(row):
    estimate = first(row.make(forms.ridge(), 150))
    return jax.jit(jax.value_and_grad(lambda x: estimate(KEY, {"log_l2": x}, None).grad["log_l2"]))


@functools.cache
def ridge_second():
    return jax.jit(jax.grad(jax.grad(forms.ridge_value)))


@EXACT
@pytest.mark.parametrize("log_l2", [-1.5, 0.7])
def test_ridge_has_the_closed_form_and_its_second_derivative(row, log_l2):
    first, second = ridge_program(row)(log_l2)
    np.testing.assert_allclose(first, forms.ridge_gradient(log_l2), rtol=1e-10)
    np.testing.assert_allclose(second, ridge_second()(log_l2), rtol=1e-10)


@EXACT
@pytest.mark.parametrize("lr", [0.1, 2.6])
def test_second_derivative_of_the_scalar_dynamics(row, lr):
    _, second = scalar(row, point(lr))
    np.testing.assert_allclose(second, forms.scalar_second(lr, 1.3, 1.1, STEPS), rtol=1e-10)


@functools.cache
def momentum_loss():
    return jax.jit(
        lambda h, task: mh.inner.outer_loss(forms.momentum_training(), 10)(KEY, h, task)[0]
    )


@EXACT
def test_training_agrees_with_finite_differences(row):
    task = momentum_task()
    grad = momentum_program(row)(KEY, MOMENTUM, task).grad
    for name, value in MOMENTUM.items():
        h = 1e-5
        above, below = (momentum_loss()(MOMENTUM | {name: value + s * h}, task) for s in (1, -1))
        np.testing.assert_allclose(grad[name], (above - below) / (2 * h), rtol=1e-6)


@EVERY
def test_jit_and_vmap_over_hyperparameters_and_tasks_change_nothing(row):
    problem = forms.scalar_dynamics()
    one = functools.partial(first(row.make(problem, STEPS)), KEY)
    points, tasks = [point(lr) for lr in (0.1, 0.3, 2.5)], np.array([0.7, 1.4])
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *points)
    over_tasks = jax.vmap(one, in_axes=(None, 0))
    mapped = jax.jit(jax.vmap(over_tasks, in_axes=(0, None)))(batch, tasks).grad
    # vmap may round the losses of a pair differently, and es divides that by its small sigma.
    rtol = 1e-7 if row.random else 1e-12
    for i, j in np.ndindex(3, 2):
        entry = jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], mapped)
        compiled, _ = scalar(row, points[i], tasks[j])
        chex.assert_trees_all_close(entry, compiled.grad, rtol=rtol)
    chex.assert_trees_all_close(entry, one(points[i], tasks[j]).grad, rtol=rtol)


@EVERY
def test_whole_numbers_pass_through_with_a_zero_gradient(row):
    hparams = point(0.3)
    grad = scalar(row, hparams)[0].grad
    assert grad["power"] == 0 and grad["power"].dtype == hparams["power"].dtype
    assert jax.tree.structure(grad) == jax.tree.structure(hparams)


@EVERY
def test_another_number_compiles_nothing(row):
    traces = scalar_program(row)[1]
    scalar(row, point(0.1), 1.0)
    count = len(traces)
    scalar(row, point(0.2, 0.7), 2.0, jax.random.key(4))
    assert len(traces) == count > 0


@EVERY
def test_single_precision_stays_single(row):
    hparams = jax.tree.map(
        lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, point(0.3)
    )
    run = first(row.make(forms.scalar_dynamics(), 3))
    estimate = jax.eval_shape(run, KEY, hparams, np.float32(1.1))
    assert estimate.loss.dtype == estimate.grad["lr"].dtype == jnp.float32
    assert estimate.info["grad_norm"].dtype == jnp.float32


@EVERY
def test_info_tells_norm_state_and_whether_all_is_finite(row):
    estimate, _ = scalar(row, point(0.3))
    norm = np.hypot(estimate.grad["lr"], estimate.grad["start"])
    np.testing.assert_allclose(estimate.info["grad_norm"], norm, rtol=1e-12)
    assert estimate.info["finite"]
    assert ("state" in estimate.info) == row.unrolled
    if row.unrolled:
        state = unroll()(KEY, point(0.3), np.float64(1.1))
        np.testing.assert_allclose(estimate.info["state"], state, rtol=1e-12)

    overflow, _ = scalar(row, point(1e30))
    assert not overflow.info["finite"]


@EVERY
def test_the_key_alone_decides(row):
    estimate, task = momentum_program(row), momentum_task()
    one, again, other = (estimate(jax.random.key(i), MOMENTUM, task) for i in (3, 3, 4))
    chex.assert_trees_all_equal(one, again)
    assert one.loss != other.loss


@EVERY
def test_refuses_bad_arguments_with_rule_and_value(row):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 0, got -1"):
        row.make(forms.scalar_dynamics(), -1)
    run = first(row.make(forms.scalar_dynamics(), 1))
    whole = jax.tree.map(np.int32, point(1))
    with pytest.raises(ValueError, match="need a float leaf to have a gradient"):
        jax.eval_shape(run, KEY, whole, np.int64(1))
    vector = forms.scalar_dynamics()._replace(loss=lambda *_: jnp.zeros(2))
    with pytest.raises(ValueError, match=r"must be a real scalar, got shape \(2,\)"):
        jax.eval_shape(first(row.make(vector, 1)), KEY, point(0.1), np.float64(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_it_passes_the_checks_for_estimators_of_ones_own(name):
    row = ROWS[name]
    mh.testing.check_estimator(row.make, exact=row.exact, unrolled=row.unrolled)
