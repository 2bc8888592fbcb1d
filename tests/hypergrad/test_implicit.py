"""Implicit differentiation: the closed forms, other ways to the same number, and its flags."""

import functools

import chex
import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import hypergrad
from metahpo.hypergrad.linear_solvers import SOLVERS

KEY = jax.random.key(3)
# In so small a space Nyström's columns are all there are, and its regulariser can be tiny.
OPTIONS = {"nystrom": {"rho": 1e-13}}
FORMS = pytest.mark.parametrize("inner_loss", [None, forms.ridge_inner], ids=["step", "loss"])
BOTH = pytest.mark.parametrize("stationary", [False, True], ids=["step", "loss"])
STEPS = 250


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@functools.cache
def logistic(stationary):
    """A compiled estimate after 3 steps of the logistic regression from ``hparams["start"]``."""
    inner_loss = forms.logistic_inner if stationary else None
    problem = forms.logistic_training()
    estimator = hypergrad.implicit(problem, 3, inner_loss=inner_loss)
    return jax.jit(lambda hparams, task: estimator.estimate(KEY, hparams, task, ())[0])


@functools.cache
def unrolled():
    """Exact gradients of the same training, over enough steps to forget its start, for two tasks.

    Returns tasks, their hyperparameters with the weights that training found as the start, and the
    gradients.
    """
    problem = forms.logistic_training()
    tasks = jax.vmap(problem.sample)(jax.random.split(jax.random.key(1), 2))
    hparams = jax.tree.map(lambda x: jnp.stack([x, x]), forms.logistic_hparams())
    hparams["log_decay"] += jnp.array([[0.0], [1.0]])
    estimate = hypergrad.reverse(problem, STEPS).estimate
    exact, _ = jax.jit(jax.vmap(lambda h, task: estimate(KEY, h, task, ())))(hparams, tasks)
    return tasks, hparams | {"start": exact.info["state"].params}, exact.grad


def first(tree):
    return jax.tree.map(lambda x: x[0], tree)


def moved(by):
    """The first training's hyperparameters, starting so far (relatively) from its root."""
    hparams = first(unrolled()[1])
    return hparams | {"start": (1 + by) * hparams["start"]}


@FORMS
@pytest.mark.parametrize("solver", SOLVERS)
def test_ridge_has_the_closed_form_with_every_solver(solver, inner_loss):
    options = OPTIONS.get(solver, {})
    estimator = hypergrad.implicit(forms.ridge(), 150, solver, inner_loss=inner_loss, **options)

    def some(log_l2):  # the rest is left out, and need not be compiled
        estimate, memory = estimator.estimate(KEY, {"log_l2": log_l2}, None, ())
        assert memory == ()
        return estimate.loss, estimate.grad["log_l2"], estimate.info["residual"]

    loss, grad, residual = jax.jit(some)(-1.5)
    np.testing.assert_allclose(loss, forms.ridge_value(-1.5), rtol=1e-12)
    np.testing.assert_allclose(grad, forms.ridge_gradient(-1.5), rtol=1e-10)
    assert residual < 1e-11


@pytest.mark.parametrize(
    ("solver", "inner_loss"), [("bicgstab", None), ("cg", forms.ridge_inner)], ids=["step", "loss"]
)
def test_every_derivative_of_the_loss_is_exact_and_maps(solver, inner_loss):
    loss = hypergrad.implicit_loss(forms.ridge(), 150, solver, inner_loss=inner_loss)

    def derivatives(value, x):
        def jvp(f):
            return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]

        grad = jax.grad
        return {
            "value": value(x),
            "grad": grad(value)(x),
            "jvp": jvp(value)(x),
            "grad of grad": grad(grad(value))(x),
            "jvp of grad": jvp(grad(value))(x),
            "grad of jvp": grad(jvp(value))(x),
            "jvp of jvp": jvp(jvp(value))(x),
            "third": grad(grad(grad(value)))(x),
        }

    at = jnp.array([-1.5, 0.7])
    ours = functools.partial(derivatives, lambda x: loss(KEY, {"log_l2": x}, None)[0])
    result = jax.jit(jax.vmap(ours))(at)
    expected = jax.jit(jax.vmap(functools.partial(derivatives, forms.ridge_value)))(at)
    for name in expected:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-10, err_msg=name)


@FORMS
def test_the_estimate_itself_has_the_second_derivative(inner_loss):
    estimator = hypergrad.implicit(forms.ridge(), 150, "dense", inner_loss=inner_loss)

    def slope(x):
        return estimator.estimate(KEY, {"log_l2": x}, None, ())[0].grad["log_l2"]

    (first, forward), backward = jax.jit(
        lambda x: (jax.jvp(slope, (x,), (1.0,)), jax.grad(slope)(x))
    )(0.7)
    np.testing.assert_allclose(first, forms.ridge_gradient(0.7), rtol=1e-10)
    expected = jax.jit(jax.grad(jax.grad(forms.ridge_value)))(0.7)
    np.testing.assert_allclose([forward, backward], expected, rtol=1e-10)


# Momentum's step has a Jacobian that is not symmetric: a missing transpose fails here.
@pytest.mark.parametrize("solver", ["gmres", "bicgstab", "normal_cg", "dense"])
def test_implicit_is_the_limit_of_unrolling(solver):
    tasks, _, exact = unrolled()
    estimator = hypergrad.implicit(forms.logistic_training(), 3, solver)
    grad = jax.jit(lambda h, task: estimator.estimate(KEY, h, task, ())[0].grad)
    result = grad(moved(0.0), first(tasks))
    for name in ("log_decay", "log_weight"):
        np.testing.assert_allclose(result[name], exact[name][0], rtol=1e-10)


def test_after_a_whole_training_finite_differences_agree_per_weight():
    problem, task, hparams = forms.logistic_training(), first(unrolled()[0]), moved(3.0)
    loss = hypergrad.implicit_loss(problem, STEPS, inner_loss=forms.logistic_inner)

    def shifted(shift):
        return loss(KEY, hparams | {"log_decay": hparams["log_decay"] + shift}, task)[0]

    h = 1e-5 * jnp.eye(3)
    values, result = jax.jit(lambda x: (jax.vmap(shifted)(x), jax.grad(shifted)(x[0] * 0)))(
        jnp.concatenate([h, -h])
    )
    above, below = values.reshape(2, 3)
    np.testing.assert_allclose(result, (above - below) / 2e-5, rtol=1e-6)


def test_cg_on_a_jacobian_that_is_not_symmetric_is_flagged():
    tasks, _, exact = unrolled()
    estimator = hypergrad.implicit(forms.logistic_training(), 3, "cg")
    estimate, _ = jax.jit(estimator.estimate)(KEY, moved(0.0), first(tasks), ())
    assert not np.allclose(estimate.grad["log_decay"], exact["log_decay"][0], rtol=1e-2)
    assert estimate.info["residual"] > 1 and not estimate.info["converged"]
    assert estimate.info["stationarity"] < 1e-8


@BOTH
def test_an_unconverged_training_is_flagged_and_a_converged_one_is_not(stationary):
    tasks, _, exact = unrolled()
    estimates = [logistic(stationary)(moved(by), first(tasks)) for by in (1.0, 1e-3, 0.0)]
    error = [np.max(np.abs(e.grad["log_decay"] / exact["log_decay"][0] - 1)) for e in estimates]
    assert [bool(e.info["converged"]) for e in estimates] == [False, False, True]
    # Even where the gradient is only a little off: the distance to the root is of its order.
    assert error[0] > 1e-2 and 1e-5 < error[1] < 1e-2 and error[2] < 1e-10
    assert 0.02 < error[1] / estimates[1].info["stationarity"] < 50
    assert all(e.info["residual"] < 1e-10 and e.info["finite"] for e in estimates)


def test_stationarity_is_the_distance_to_the_root_at_any_rate_and_scale():
    ridge = forms.ridge()
    x, y, _ = forms.ridge_data()
    root = jnp.linalg.solve(x.T @ x / len(y) + jnp.eye(4), x.T @ y / len(y))

    def estimate(rate, scale):
        problem = ridge._replace(
            init=lambda *_: 1.01 * scale * root,
            step=lambda key, h, task, w: (
                w - rate * jax.grad(forms.ridge_inner, 2)(h, task, w / scale)
            ),
        )
        estimator = hypergrad.implicit(problem, 0, "cg")
        return estimator.estimate(KEY, {"log_l2": jnp.array(0.0)}, None, ())[0]

    rates, scales = jnp.array([1e-6, 0.5, 0.5]), jnp.array([1.0, 1e-6, 1e6])
    info = jax.jit(jax.vmap(lambda *a: estimate(*a).info))(rates, scales)
    np.testing.assert_allclose(info["stationarity"], 0.01 / 1.01, rtol=1e-8)
    assert not np.any(info["converged"])


@BOTH
def test_hyperparameters_that_do_not_move_the_root_are_flagged(stationary):
    estimate = logistic(stationary)(moved(0.0), first(unrolled()[0]))
    unseen = {"lr", "momentum", "start", "log_scale"}
    assert estimate.info["sees"] == {name: name not in unseen for name in estimate.grad}
    for name in unseen:
        np.testing.assert_allclose(estimate.grad[name], 0, atol=1e-14)


def test_what_the_inner_loss_lacks_has_exactly_no_gradient_even_before_convergence():
    estimate = logistic(stationary=True)(moved(1.0), first(unrolled()[0]))
    for name in ("lr", "momentum", "start"):
        assert np.all(np.asarray(estimate.grad[name]) == 0)
        assert not estimate.info["sees"][name]


@FORMS
def test_a_rate_is_unseen_already_on_the_way_to_a_linear_systems_root(inner_loss):
    ridge = forms.ridge()
    problem = ridge._replace(
        step=lambda key, h, task, w: w - h["lr"] * jax.grad(forms.ridge_inner, 2)(h, task, w)
    )
    estimator = hypergrad.implicit(problem, 3, inner_loss=inner_loss)
    hparams = {"lr": jnp.array(0.5), "log_l2": jnp.array(0.0)}  # a value of 0 is no effect of 0
    info = jax.jit(estimator.estimate)(KEY, hparams, None, ())[0].info
    assert info["sees"] == {"lr": False, "log_l2": True} and not info["converged"]


@BOTH
def test_mapped_over_hyperparameters_and_tasks_it_equals_one_by_one(stationary):
    tasks, hparams, _ = unrolled()
    inner_loss = forms.logistic_inner if stationary else None
    estimator = hypergrad.implicit(forms.logistic_training(), 3, inner_loss=inner_loss)

    def some(hparams, task):
        estimate, _ = estimator.estimate(KEY, hparams, task, ())
        return estimate.loss, estimate.grad, estimate.info["iterations"]

    mapped = jax.jit(jax.vmap(jax.vmap(some, (None, 0)), (0, None)))(hparams, tasks)
    for i, j in np.ndindex(2, 2):
        entry = jax.tree.map(lambda x, i=i, j=j: x[i, j], mapped)
        alone = logistic(stationary)(jax.tree.map(lambda x, i=i: x[i], hparams), tasks[j])
        one = (alone.loss, alone.grad, alone.info["iterations"])
        chex.assert_trees_all_close(entry, one, rtol=1e-9, atol=1e-15)
        assert alone.info["converged"] == (i == j)


def noisy(draw):
    """``w <- w + (h n - w) / 2`` with noise n from the step's key; the outer loss is w."""
    return mh.problems.function(lambda h: 0.0)._replace(
        init=lambda key, h, task: (jnp.zeros(()), jnp.int32(0), key),
        step=lambda key, h, task, s: (s[0] + (h["x"] * draw(key) - s[0]) / 2, s[1] + 1, key),
        loss=lambda key, h, task, s: s[0],
    )


def test_the_fixed_point_is_that_of_the_next_steps_key_and_noise_is_flagged():
    hparams = {"x": jnp.array(1.0)}
    estimator = hypergrad.implicit(noisy(lambda key: 2.0), 60, "dense")
    still, _ = jax.jit(estimator.estimate)(KEY, hparams, None, ())
    np.testing.assert_allclose([still.loss, still.grad["x"]], 2.0, rtol=1e-12)
    assert still.info["converged"] and still.info["state"][1] == 60

    estimator = hypergrad.implicit(noisy(jax.random.normal), 60, "dense")
    estimate, _ = jax.jit(estimator.estimate)(KEY, hparams, None, ())
    noise = jax.random.normal(jax.random.fold_in(mh.inner.keys(KEY).steps, 60))
    np.testing.assert_allclose(estimate.grad["x"], noise, rtol=1e-12)
    assert not estimate.info["converged"] and estimate.info["stationarity"] > 0.01


def test_parameters_are_found_anywhere_in_the_state():
    ridge = forms.ridge()
    problem = ridge._replace(
        init=lambda *a: {"steps": jnp.int32(0), "w": ridge.init(*a), "kept": jnp.ones(2)},
        step=lambda k, h, t, s: s | {"steps": s["steps"] + 1, "w": ridge.step(k, h, t, s["w"])},
        loss=lambda k, h, t, s: ridge.loss(k, h, t, s["w"]) * s["kept"][0],
    )
    estimator = hypergrad.implicit(
        problem,
        150,
        inner_loss=lambda h, task, params: forms.ridge_inner(h, task, params["deep"]),
        params=lambda s: {"deep": s["w"]},
    )
    estimate, _ = jax.jit(estimator.estimate)(KEY, {"log_l2": jnp.array(0.7)}, None, ())
    np.testing.assert_allclose(estimate.grad["log_l2"], forms.ridge_gradient(0.7), rtol=1e-10)
    assert estimate.info["state"]["steps"] == 150 and estimate.info["converged"]


def test_damping_is_a_bias_that_the_residual_shows():
    estimator = hypergrad.implicit(forms.ridge(), 150, inner_loss=forms.ridge_inner, damping=0.5)
    estimate, _ = jax.jit(estimator.estimate)(KEY, {"log_l2": jnp.array(0.7)}, None, ())
    x, y, _ = forms.ridge_data()
    hessian = x.T @ x / len(y) + jnp.exp(0.7) * jnp.eye(4)
    w = jnp.linalg.solve(hessian, x.T @ y / len(y))
    slope = jax.grad(forms.ridge_outer)(w)
    u = jnp.linalg.solve(hessian + 0.5 * jnp.eye(4), slope)
    np.testing.assert_allclose(estimate.grad["log_l2"], -jnp.exp(0.7) * u @ w, rtol=1e-10)
    residual = jnp.linalg.norm(hessian @ u - slope) / jnp.linalg.norm(slope)
    np.testing.assert_allclose(estimate.info["residual"], residual, rtol=1e-10)
    assert not estimate.info["converged"]


def test_thresholds_are_arguments():
    def converged(**options):
        estimator = hypergrad.implicit(forms.ridge(), 20, inner_loss=forms.ridge_inner, **options)
        return jax.jit(estimator.estimate)(KEY, {"log_l2": jnp.array(0.7)}, None, ())[0].info

    info = converged()
    assert not info["converged"] and 1e-8 < info["stationarity"] < 1e-2
    assert converged(stationarity_tolerance=1.1 * float(info["stationarity"]))["converged"]
    assert not converged(stationarity_tolerance=0.1, iterations=1)["converged"]


def test_single_precision_converges_by_its_own_thresholds():
    tasks, _, exact = unrolled()
    hparams, task = jax.tree.map(jnp.float32, (moved(0.0), first(tasks)))
    estimate = logistic(stationary=True)(hparams, task)
    assert estimate.grad["log_decay"].dtype == estimate.info["residual"].dtype == jnp.float32
    assert estimate.info["converged"]
    np.testing.assert_allclose(estimate.grad["log_decay"], exact["log_decay"][0], rtol=1e-4)


@pytest.mark.parametrize("make", [hypergrad.implicit, hypergrad.implicit_loss])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lu"}, "solver must be one of .* got 'lu'"),
        ({"solver": "cg", "rank": 3}, "solver 'cg' has the options .* got rank"),
        ({"iterations": -1}, "iterations must be a whole number of at least 1, got -1"),
        ({"tolerance": -1e-3}, "tolerance must be positive, got -0.001"),
        ({"damping": -1.0}, "damping must be at least 0, got -1.0"),
        ({"params": lambda s: s}, "params says where an inner_loss finds its parameters"),
        ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
    ],
)
def test_refuses_bad_arguments_with_rule_and_value(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**({"problem": forms.ridge(), "steps": 5} | options))


def test_refuses_what_only_a_call_can_show():
    with pytest.raises(ValueError, match="stationarity_tolerance must be positive, got 0"):
        hypergrad.implicit(forms.ridge(), 5, stationarity_tolerance=0)
    hparams = {"log_l2": jnp.array(0.7)}
    computed = hypergrad.implicit(
        forms.ridge(), 5, inner_loss=forms.ridge_inner, params=lambda s: jnp.zeros(4)
    )
    with pytest.raises(ValueError, match="params must only pick leaves of the state"):
        computed.estimate(KEY, hparams, None, ())
    empty = mh.problems.function(lambda h: h["log_l2"])
    with pytest.raises(ValueError, match="trained state needs a float to differentiate"):
        hypergrad.implicit(empty, 5).estimate(KEY, hparams, None, ())
