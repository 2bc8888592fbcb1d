"""An optimiser within a training: its types, its wider interface, the numbers in its state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

X = jax.random.normal(jax.random.key(0), (20, 4))
TASK = {"support": (X[:10], X[:10].sum(1)), "query": (X[10:], X[10:].sum(1))}


def regression(optimizer, dtype=jnp.float32):
    def loss(w, task, split):
        x, y = (part.astype(dtype) for part in task[split])
        return jnp.mean((x @ w - y) ** 2)

    family = mh.TaskFamily(lambda key: TASK, lambda key, task: jnp.zeros(4, dtype), loss)
    return mh.problems.training(family, optimizer)


def trained(problem, hparams, steps=5):
    return jax.jit(mh.inner.unroll(problem, steps))(jax.random.key(1), hparams, TASK)


def by_hand(optimizer, steps=5):
    """The loop that optax's documentation shows."""
    loss = lambda w: jnp.mean((X[:10] @ w - X[:10].sum(1)) ** 2)  # noqa: E731
    params = jnp.zeros(4)
    state = optimizer.init(params)
    for _ in range(steps):
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=loss
        )
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.polyak_sgd(0.1),
        optax.chain(optax.sgd(0.05), optax.contrib.reduce_on_plateau(patience=1, factor=0.5)),
        optax.contrib.dog(1.0, init_step=("heuristic", 0.1)),
        optax.optimistic_gradient_descent(0.05),
    ],
    ids=["polyak_sgd", "reduce_on_plateau", "dog", "optimistic_gradient_descent"],
)
def test_what_optimisers_ask_for_is_what_optax_gives_them(optimizer):
    problem = regression(lambda h: optimizer)
    found = trained(problem, {"unused": jnp.array(0.0)}).params
    expected = by_hand(optax.with_extra_args_support(optimizer))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["learning_rate", "momentum"])
def test_hyperparameters_do_not_change_the_type_of_a_training(name):
    fixed = {"learning_rate": 0.05, "momentum": 0.9}
    problem = regression(lambda h: optax.sgd(**(fixed | {name: h[name]})), dtype=jnp.bfloat16)
    state = trained(problem, {name: jnp.float32(fixed[name])})
    expected = trained(regression(lambda h: optax.sgd(**fixed), dtype=jnp.bfloat16), {})
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.bfloat16.dtype}
    np.testing.assert_allclose(
        state.params.astype(jnp.float32), expected.params.astype(jnp.float32), rtol=2e-2
    )


def test_hyperparameters_in_an_optimisers_state_are_those_of_this_step():
    def frozen_later(make):
        problem = regression(lambda h: make(learning_rate=h["lr"], momentum=0.5))
        start = mh.inner.begin(problem, jax.random.key(1), {"lr": 0.1}, TASK)
        begun = mh.inner.advance(problem, 3)({"lr": 0.1}, start)
        return begun, mh.inner.advance(problem, 3)({"lr": 0.0}, begun)

    begun, ended = frozen_later(optax.inject_hyperparams(optax.sgd))
    np.testing.assert_array_equal(ended.state.params, begun.state.params)
    plain = frozen_later(optax.sgd)[0]
    np.testing.assert_allclose(begun.state.params, plain.state.params, rtol=1e-6)


def test_the_meta_optimiser_sees_the_names_of_the_hyperparameters():
    problem = mh.problems.function(
        lambda h: (h["lr"] - 1) ** 2 + jnp.sum((h["params"] - 2) ** 2) + 0 * h["count"]
    )
    start = {"lr": jnp.array(0.5), "params": jnp.zeros(3), "count": jnp.array(3)}
    optimizer = optax.multi_transform(
        {"fast": optax.sgd(0.1), "slow": optax.sgd(0.01)},
        lambda tree: jax.tree_util.tree_map_with_path(
            lambda path, _: "fast" if path[0].key == "lr" else "slow", tree
        ),
    )
    result = mh.meta_train(
        jax.random.key(0),
        problem,
        mh.hypergrad.reverse(problem, 1),
        start,
        optimizer,
        rounds=2,
        tasks=1,
    )
    # Gradient descent on a parabola, by hand: x + (1 - (1 - 2 a)^2) (optimum - x).
    np.testing.assert_allclose(result.hparams["lr"], 0.5 + (1 - 0.8**2) * 0.5, rtol=1e-6)
    np.testing.assert_allclose(result.hparams["params"], (1 - 0.98**2) * 2, rtol=1e-5)
    assert result.hparams["count"] == 3


def test_the_meta_optimiser_is_told_the_loss():
    problem = mh.problems.function(lambda h: h["x"] ** 2)
    result = mh.meta_train(
        jax.random.key(0),
        problem,
        mh.hypergrad.reverse(problem, 1),
        {"x": jnp.array(1.0)},
        optax.polyak_sgd(10.0),
        rounds=2,
        tasks=1,
    )
    np.testing.assert_allclose(result.hparams["x"], 0.25, rtol=1e-6)  # x / 2: value / |grad|^2
