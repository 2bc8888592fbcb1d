"""Every kind of hyperparameter at once, in one pytree, against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import hypergrad

KEY = jax.random.key(0)
STEPS, FEATURES, ROWS = 6, 3, 8


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def network(params, x):
    return jnp.tanh(x @ params["hidden"]) @ params["out"]


def everything() -> mh.Problem:
    """Regression by a two-layer network, controlled in every way that a training can be."""

    def configure(hparams):
        def init(key, task):
            return hparams["initial_params"]

        def loss(params, task, split):
            x, y = task[split]
            errors = (network(params, x) - y) ** 2
            if split == "query":
                return jnp.mean(errors)
            decay = jax.tree.map(lambda c, p: jnp.sum(c * p**2), hparams["param_l2"], params)
            return jnp.mean(hparams["example_weights"] * errors) + optax.tree.sum(decay)

        return mh.TaskFamily(sample, init, loss, lambda task: jnp.zeros(0))

    def sample(key):
        x_key, y_key = jax.random.split(key)
        x, y = jax.random.normal(x_key, (2, ROWS, 3)), jax.random.normal(y_key, (2, ROWS))
        return {"support": (x[0], y[0]), "query": (x[1], y[1])}

    def optimizer(hparams):
        rule = hparams["rule"]

        def update(grads, count, params):
            def leaf(layer_rate, param_rate, grad):
                learned = jnp.tanh(grad[..., None] * rule["in"]) @ rule["out"]
                plain = hparams["lr"] * layer_rate * param_rate * grad
                return -hparams["schedule"][count] * (plain + 0.1 * learned)

            rates = hparams["layer_rates"]
            updates = jax.tree.map(leaf, rates, hparams["param_rates"], grads)
            return updates, count + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), int), update)

    return mh.problems.training(configure(None), optimizer, configure)


def hyperparameters():
    keys = iter(jax.random.split(jax.random.key(1), 12))
    draw = lambda *shape: 1 + 0.3 * jax.random.normal(next(keys), shape)  # noqa: E731
    params = {"hidden": draw(FEATURES, 4) - 1, "out": draw(4) - 1}
    return {
        "lr": jnp.array(0.1),
        "layer_rates": {"hidden": draw(), "out": draw()},
        "param_rates": {"hidden": draw(FEATURES, 4), "out": draw(4)},
        "schedule": draw(STEPS),
        "example_weights": draw(ROWS),
        "param_l2": {"hidden": 0.01 * draw(FEATURES, 4), "out": 0.01 * draw(4)},
        "initial_params": params,
        "rule": {"in": draw(5), "out": draw(5) / 5},
    }


ESTIMATORS = {
    "reverse": hypergrad.reverse,
    "sqrt": lambda p, t: hypergrad.reverse(p, t, "sqrt"),
    "forward": hypergrad.forward,
}


@pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_every_leaf_agrees_with_finite_differences(make):
    problem, hparams = everything(), hyperparameters()
    task = problem.sample(KEY)
    loss = jax.jit(lambda h: mh.inner.outer_loss(problem, STEPS)(KEY, h, task)[0])
    estimate, _ = jax.jit(make(problem, STEPS).estimate)(KEY, hparams, task, ())
    assert not any(jax.tree.leaves(estimate.info["zero_grad"]))
    leaves, treedef = jax.tree.flatten(hparams)
    for i, grad in enumerate(jax.tree.leaves(estimate.grad)):
        direction = jax.random.normal(jax.random.fold_in(KEY, i), leaves[i].shape)
        moved = (
            jax.tree.unflatten(treedef, [*leaves[:i], leaves[i] + h * direction, *leaves[i + 1 :]])
            for h in (1e-5, -1e-5)
        )
        above, below = (loss(h) for h in moved)
        np.testing.assert_allclose(
            jnp.vdot(grad, direction), (above - below) / 2e-5, rtol=1e-6, atol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pes", "nres"])
def test_a_whole_episode_in_one_window_estimates_every_leaf(name):
    problem, hparams = everything(), hyperparameters()
    task = problem.sample(KEY)
    exact, _ = hypergrad.reverse(problem, STEPS).estimate(KEY, hparams, task, ())
    estimator = getattr(hypergrad, name)(problem, STEPS, STEPS, 2000, 1e-3)
    memory = estimator.init(KEY, hparams, task)
    estimate, _ = jax.jit(estimator.estimate)(jax.random.key(5), hparams, task, memory)
    errors = jax.tree.map(
        lambda a, b, s: (a - b) / s, estimate.grad, exact.grad, estimate.info["standard_error"]
    )
    scores = np.concatenate([np.ravel(e) for e in jax.tree.leaves(errors)])
    assert np.all(np.abs(scores) < 5)
    assert 0.8 < np.std(scores) < 1.2
