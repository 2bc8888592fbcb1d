"""Networks of flax with batch normalisation and dropout, beside loops written by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from flax import nnx as flax_nnx

import metahpo as mh

STEPS, RATE = 7, 0.3
KEY = jax.random.key(3)
DROPOUT = 0.3


class NNX(flax_nnx.Module):
    def __init__(self, rngs):
        self.first = flax_nnx.Linear(5, 8, rngs=rngs)
        self.norm = flax_nnx.BatchNorm(8, rngs=rngs)
        self.dropout = flax_nnx.Dropout(DROPOUT, rngs=rngs)
        self.last = flax_nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jax.nn.tanh(self.norm(self.first(x)))))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
        x = linen.Dropout(DROPOUT, deterministic=not train)(jax.nn.tanh(x))
        return linen.Dense(3)(x)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype("f4")
    y = x @ rng.normal(size=(5, 3))
    return mh.problems.split(x, y.argmax(1).astype("i4"), train=40, validation=10)


DATA = data()


def nnx_problem(**kwargs):
    return mh.problems.nnx(
        NNX,
        lambda model, batch: mh.problems.cross_entropy(model(batch.x), batch.y),
        DATA,
        lambda h: optax.sgd(h["lr"], momentum=0.9),
        **kwargs,
    )


def linen_problem(**kwargs):
    return mh.problems.linen(
        Linen(),
        mh.problems.cross_entropy,
        DATA,
        lambda h: optax.sgd(h["lr"], momentum=0.9),
        train={"train": True},
        evaluate={"train": False},
        **kwargs,
    )


def nnx_by_hand(rate):
    """As flax's tutorials have it: a module, split and merged; only the keys are the library's."""
    keys = mh.inner.keys(KEY)
    graph, params, rest = flax_nnx.split(NNX(flax_nnx.Rngs(keys.init)), flax_nnx.Param, ...)
    optimizer = optax.sgd(rate, momentum=0.9)
    opt_state = optimizer.init(params)

    def loss_fn(params, rest, key):
        rest = jax.tree.map(lambda x: x, rest)  # variables of this trace
        model = flax_nnx.merge(graph, params, rest)
        model.train()
        model.dropout.rngs.key[...] = jax.random.fold_in(key, 1)  # its second number
        model.dropout.rngs.count[...] = jnp.zeros((), jnp.uint32)
        loss = mh.problems.cross_entropy(model(DATA.support.x), DATA.support.y)
        return loss, flax_nnx.split(model, flax_nnx.Param, ...)[2]

    for t in range(STEPS):
        key = jax.random.split(jax.random.fold_in(keys.steps, t))[1]
        grads, rest = jax.grad(loss_fn, has_aux=True)(params, rest, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    model = flax_nnx.merge(graph, params, rest)
    model.eval()
    return mh.problems.cross_entropy(model(DATA.query.x), DATA.query.y)


def linen_by_hand(rate):
    keys = mh.inner.keys(KEY)
    params_key, dropout_key = jax.random.split(keys.init)
    model = Linen()
    variables = model.init({"params": params_key, "dropout": dropout_key}, DATA.support.x, True)
    params, statistics = variables["params"], variables["batch_stats"]
    optimizer = optax.sgd(rate, momentum=0.9)
    opt_state = optimizer.init(params)

    def loss_fn(params, statistics, key):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": statistics},
            DATA.support.x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(key, 0)},
        )
        return mh.problems.cross_entropy(outputs, DATA.support.y), changed["batch_stats"]

    for t in range(STEPS):
        key = jax.random.split(jax.random.fold_in(keys.steps, t))[1]
        grads, statistics = jax.grad(loss_fn, has_aux=True)(params, statistics, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    variables = {"params": params, "batch_stats": statistics}
    outputs = model.apply(variables, DATA.query.x, train=False)
    return mh.problems.cross_entropy(outputs, DATA.query.y)


PROBLEMS = {"nnx": (nnx_problem, nnx_by_hand), "linen": (linen_problem, linen_by_hand)}


class Outcome(NamedTuple):
    """Of one adapter, and of the loop by hand."""

    problem: mh.Problem
    loss: jax.Array
    state: mh.problems.TrainState
    slope: jax.Array
    loss_by_hand: jax.Array
    slope_by_hand: jax.Array


@pytest.fixture(scope="module", params=PROBLEMS)
def outcome(request):
    make, by_hand = PROBLEMS[request.param]
    problem = make()
    estimator = mh.hypergrad.reverse(problem, STEPS)

    def estimate(rate):
        return estimator.estimate(KEY, {"lr": rate}, DATA, ())[0]

    ours = jax.jit(estimate)(RATE)
    theirs = jax.jit(jax.value_and_grad(by_hand))(RATE)
    return Outcome(problem, ours.loss, ours.info["state"], ours.grad["lr"], *theirs)


@pytest.mark.slow
def test_training_is_that_of_a_loop_by_hand(outcome):
    np.testing.assert_allclose(outcome.loss, outcome.loss_by_hand, rtol=1e-4)


def test_hypergradient_is_that_of_the_loop_by_hand(outcome):
    np.testing.assert_allclose(outcome.slope, outcome.slope_by_hand, rtol=1e-3)
    assert abs(outcome.slope) > 1e-3


def test_batch_statistics_move_and_are_no_parameters(outcome):
    means = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(outcome.state.model_state)
        if "mean" in jax.tree_util.keystr(path)
    ]
    assert len(means) == 1
    assert np.abs(means[0]).max() > 0
    names = [
        jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(outcome.state.params)
    ]
    assert len(names) == 6
    assert not any("mean" in name or "var" in name for name in names)


def test_prediction_is_without_dropout_and_with_the_statistics(outcome):
    outputs = outcome.problem.predict(outcome.state, DATA.query.x)
    loss = mh.problems.cross_entropy(outputs, DATA.query.y)
    np.testing.assert_allclose(loss, outcome.loss, rtol=1e-5)


@pytest.mark.parametrize("name", PROBLEMS)
def test_members_with_batches_are_searched_side_by_side(name):
    problem = PROBLEMS[name][0](batch_size=8)
    space = {"lr": mh.Float(1e-3, 1.0, log=True)}
    strategy = mh.strategies.random(space, population=3)
    run = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=2, steps=20))
    result = run(KEY)
    assert result.best_loss < 1.0
    state = mh.inner.unroll(problem, 0)(KEY, {"lr": 0.1}, DATA)
    assert jax.tree.structure(state) == jax.tree.structure(result.best_state)


def test_hyperparameters_shape_the_loss_of_updates_alone():
    def smoothed(model, batch, h):
        labels = optax.smooth_labels(jax.nn.one_hot(batch.y, 3), h["smoothing"])
        outputs = model(batch.x)
        return optax.softmax_cross_entropy(outputs, labels).mean(), {"outputs": outputs}

    problem = nnx_problem(training_loss=smoothed)
    run = jax.jit(lambda h: mh.inner.outer_loss(problem, 3)(KEY, h, DATA))
    plain, state = run({"lr": 0.1, "smoothing": 0.0})
    other, _ = run({"lr": 0.1, "smoothing": 0.5})
    assert plain != other
    assert state.aux["outputs"].shape == (40, 3)
    same = jax.jit(lambda h: mh.inner.outer_loss(nnx_problem(), 3)(KEY, h, DATA))({"lr": 0.1})
    np.testing.assert_allclose(plain, same[0], rtol=1e-5)


def test_data_without_its_parts_is_refused_by_name():
    with pytest.raises(ValueError, match="ndarray has no support and no query"):
        mh.problems.linen(Linen(), mh.problems.cross_entropy, np.ones(3), lambda h: optax.sgd(0.1))
