"""SOBA and SABA on ridge regression, where everything is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.base import Problem
from metahpo.hypergrad import saba, soba

BATCHES, SIZE, FEATURES = 6, 5, 4
RATE = 0.1
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def data(part):
    """30 rows for training, 20 for validation; much noise, so that a regulariser pays."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, FEATURES))
    y = x @ np.array([0.5, -0.3, 0.2, 0.0]) + rng.normal(size=50)
    rows = slice(30) if part == "support" else slice(30, None)
    return x[rows], y[rows]


def problem():
    x, y = data("query")
    return Problem(
        sample=lambda key: None,
        init=lambda key, hparams, task: {"count": jnp.array(0), "w": jnp.zeros(FEATURES)},
        step=None,
        loss=lambda key, hparams, task, state: jnp.mean((x @ state["w"] - y) ** 2) / 2,
        describe=lambda task: jnp.zeros(0),
    )


def batch_loss(hparams, task, params, index):
    x, y = (jnp.asarray(a).reshape(BATCHES, SIZE, -1)[index] for a in data("support"))
    penalty = jnp.exp(hparams["log_l2"]) * jnp.sum(params["w"] ** 2) / 2
    return jnp.mean((x @ params["w"] - y[:, 0]) ** 2) / 2 + penalty


def full_loss(hparams, task, params, index):
    return jnp.mean(jnp.stack([batch_loss(hparams, task, params, i) for i in range(BATCHES)]))


def closed_form(log_l2):
    """The outer loss at the inner minimum, to be differentiated."""
    (x, y), (xv, yv) = data("support"), data("query")
    hessian = x.T @ x / len(y) + jnp.exp(log_l2) * jnp.eye(FEATURES)
    return jnp.mean((xv @ jnp.linalg.solve(hessian, x.T @ y / len(y)) - yv) ** 2) / 2


def hparams(log_l2):
    return {"log_l2": jnp.asarray(log_l2), "unused": jnp.array(1)}


def follow(estimator, log_l2, steps, outer_rate=0.0):
    """Estimates and log_l2 over many iterations, the last moving against the direction."""

    def iterate(carry, key):
        log_l2, memory = carry
        estimate, memory = estimator.estimate(key, hparams(log_l2), None, memory)
        log_l2 = log_l2 - outer_rate * estimate.grad["log_l2"]
        return (log_l2, memory), (estimate.grad["log_l2"], log_l2, estimate.info["residual"])

    def run():
        start = jnp.asarray(log_l2), estimator.init(KEY, hparams(log_l2), None)
        return jax.lax.scan(iterate, start, jax.random.split(jax.random.key(1), steps))[1]

    return jax.tree.map(np.asarray, jax.jit(run)())


def test_with_one_batch_the_direction_converges_geometrically_to_the_hypergradient():
    exact = jax.grad(closed_form)(0.3)
    grads, _, residual = follow(soba(problem(), full_loss, 1, RATE), 0.3, 250)
    error = np.abs(grads - exact)
    x = data("support")[0]
    slowest = 1 - RATE * (np.linalg.eigvalsh(x.T @ x / 30)[0] + np.exp(0.3))
    # v follows z, so the error goes as t r^t.
    factor = ((error[100] / 101) / (error[50] / 51)) ** (1 / 50)
    np.testing.assert_allclose(factor, slowest, rtol=0.01)
    assert error[-1] < 1e-12 * abs(exact) and residual[-1] < 1e-12


def test_minibatches_leave_soba_in_a_ball_of_noise_and_saba_at_the_hypergradient():
    exact = jax.grad(closed_form)(0.3)
    reduced, _, residual = follow(saba(problem(), batch_loss, BATCHES, RATE), 0.3, 1500)
    noisy, _, _ = follow(soba(problem(), batch_loss, BATCHES, RATE), 0.3, 1500)
    assert abs(reduced[-1] - exact) < 1e-12 * abs(exact) and residual[-1] < 1e-10
    tail = noisy[500:]
    assert 0.02 * abs(exact) < tail.std() < 2 * abs(exact)


def test_saba_with_constant_rates_finds_the_best_regulariser_and_soba_does_not():
    best = 0.0
    for _ in range(20):
        slope = jax.grad(closed_form)
        best = best - slope(best) / abs(jax.grad(slope)(best))
    assert abs(slope(best)) < 1e-15 and jax.grad(slope)(best) > 0
    for make, low, high in ((saba, 0.0, 1e-6), (soba, 1e-3, 2.0)):
        _, path, _ = follow(make(problem(), batch_loss, BATCHES, RATE), best + 1.5, 8000, 0.3)
        assert low <= np.abs(path[-500:] - best).max() <= high


def inner(memory):
    """z and v of either estimator's memory."""
    loop = getattr(memory, "loop", memory)
    return loop.training.state["w"], loop.v


def directions(estimator, memory, x):
    """The three directions of every batch, ``f[batches, 2 n + 1]``, by trying many keys."""

    def one(key):
        estimate, new = estimator.estimate(key, hparams(x), None, memory)
        moves = zip(inner(memory), inner(new), strict=True)
        steps = [(before - after) / RATE for before, after in moves]
        return jnp.concatenate([*steps, estimate.grad["log_l2"][None]])

    rows = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, 100)))
    _, first = np.unique(rows.round(9), axis=0, return_index=True)
    assert len(first) == BATCHES
    return rows[first]


def at(memory, z, v):
    """The memory with another z and v."""
    loop = getattr(memory, "loop", memory)
    state = loop.training.state | {"w": z}
    loop = loop._replace(training=loop.training._replace(state=state), v=v)
    return memory._replace(loop=loop) if hasattr(memory, "loop") else loop


@pytest.mark.parametrize("make", [soba, saba], ids=["soba", "saba"])
def test_directions_are_unbiased_where_z_v_and_hyperparameters_are(make):
    estimator, x = make(problem(), batch_loss, BATCHES, RATE), 0.7
    z, v = np.array([0.3, -1.0, 0.2, 0.5]), np.array([1.0, 0.4, -0.6, 0.1])
    # The table of SABA is from another point.
    memory = at(estimator.init(KEY, hparams(-0.2), None), jnp.asarray(z), jnp.asarray(v))
    (a, b), (xv, yv), l2 = data("support"), data("query"), np.exp(x)
    hessian = a.T @ a / 30 + l2 * np.eye(FEATURES)
    direction_z = a.T @ (a @ z - b) / 30 + l2 * z
    direction_v = hessian @ v + xv.T @ (xv @ z - yv) / len(yv)
    expected = np.concatenate([direction_z, direction_v, [l2 * z @ v]])
    np.testing.assert_allclose(directions(estimator, memory, x).mean(axis=0), expected, rtol=1e-9)


@pytest.mark.parametrize("make", [soba, saba], ids=["soba", "saba"])
def test_estimates_batch_over_hyperparameters_and_say_what_they_are(make):
    estimator = make(problem(), batch_loss, BATCHES, RATE)

    def first(log_l2):
        return estimator.estimate(KEY, h := hparams(log_l2), None, estimator.init(KEY, h, None))

    both, memory = jax.jit(jax.vmap(first))(jnp.array([0.3, -1.0]))
    one, after = jax.jit(first)(-1.0)
    for many, single in (
        (both.grad["log_l2"], one.grad["log_l2"]),
        (inner(memory)[0], inner(after)[0]),
    ):
        np.testing.assert_allclose(many[1], single, rtol=1e-12)
    np.testing.assert_allclose(one.loss, np.mean(data("query")[1] ** 2) / 2, rtol=1e-12)  # w is 0
    np.testing.assert_allclose(one.info["residual"], 1.0, rtol=1e-12)  # v is 0
    assert one.info["finite"]
    assert one.info["state"]["count"] == 0 and one.info["zero_grad"]["unused"]


@pytest.mark.parametrize("make", [soba, saba], ids=["soba", "saba"])
def test_single_precision_stays_single(make):
    half = problem()._replace(
        init=lambda key, hparams, task: jnp.ones(3, jnp.float32),
        loss=lambda key, hparams, task, w: jnp.sum(w**2),
    )
    inner = lambda h, task, w, index: jnp.exp(h) * jnp.sum(w**2) * (1 + index)  # noqa: E731
    estimator, h = make(half, inner, 2, 0.1), jnp.float32(0.3)
    memory = estimator.init(KEY, h, None)
    estimate, after = jax.jit(estimator.estimate)(KEY, h, None, memory)
    assert estimate.loss.dtype == estimate.grad.dtype == jnp.float32
    floats = [x.dtype for x in jax.tree.leaves(after) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert len(floats) >= 2 and set(floats) == {jnp.dtype(jnp.float32)}


def test_the_parameters_of_a_training_state_are_found():
    family = mh.TaskFamily(
        lambda key: None, lambda key, task: jnp.ones(2), lambda w, task, split: w @ w, lambda t: t
    )
    training = mh.problems.training(family, lambda h: optax.adam(h["pull"]))
    inner = lambda h, task, w, index: jnp.sum((w - h["pull"]) ** 2) / 2  # noqa: E731
    estimator = soba(training, inner, 1, 0.5)
    memory = estimator.init(KEY, {"pull": jnp.array(3.0)}, None)
    estimate, memory = jax.jit(estimator.estimate)(KEY, {"pull": jnp.array(3.0)}, None, memory)
    np.testing.assert_allclose(estimate.info["state"].params, [1.0, 1.0])
    np.testing.assert_allclose(memory.training.state.params, [2.0, 2.0])  # half the way
    np.testing.assert_allclose(memory.v, [-1.0, -1.0])  # half of the negative outer gradient


def test_meta_train_drives_saba_as_any_estimator():
    estimator, start = saba(problem(), batch_loss, BATCHES, RATE), {"log_l2": jnp.array(0.3)}
    result = jax.jit(
        lambda key: mh.meta_train(
            key, problem(), estimator, start, optax.sgd(0.1), rounds=3, tasks=1
        )
    )(KEY)
    assert result.skipped == 0 and result.hparams["log_l2"] != 0.3


@pytest.mark.parametrize("make", [soba, saba], ids=["soba", "saba"])
def test_refuses_bad_arguments_with_rule_and_value(make):
    for arguments, message in (
        ((0, 0.1), "batches must be a whole number of at least 1, got 0"),
        ((1, 0.0), "inner_rate must be positive, got 0.0"),
        ((1, 0.1, -1.0), "solver_rate must be positive, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make(problem(), batch_loss, *arguments)
    with pytest.raises(ValueError, match="need a float leaf to have a gradient"):
        estimator = make(problem(), batch_loss, BATCHES, RATE)
        memory = estimator.init(KEY, hparams(0.3), None)
        estimator.estimate(KEY, {"log_l2": jnp.array(1)}, None, memory)
