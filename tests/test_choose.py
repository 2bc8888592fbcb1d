"""The kind of optimiser, chosen by a number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KINDS = {
    "sgd": lambda lr: optax.sgd(lr, momentum=0.9),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "polyak_sgd": lambda lr: optax.polyak_sgd(scaling=lr),
}
FAMILY = mh.TaskFamily(
    sample=lambda key: jax.random.normal(key, (4,)),
    init=lambda key, task: jnp.zeros(4),
    loss=lambda p, task, split: ((p - task) ** 2 * jnp.arange(4)).sum(),
)
KEY = jax.random.key(0)


def chosen(h):
    return mh.choose(h["kind"], [make(h["lr"]) for make in KINDS.values()])


@pytest.fixture(scope="module")
def outcomes():
    """Of every kind, chosen side by side and alone: losses and hypergradients."""
    task = FAMILY.sample(KEY)

    def estimate(problem, hparams):
        return mh.hypergrad.reverse(problem, steps=10).estimate(KEY, hparams, task, ())[0]

    many = mh.problems.training(FAMILY, chosen)
    rate = jnp.array(0.05)
    together = jax.jit(jax.vmap(lambda kind: estimate(many, {"kind": kind, "lr": rate})))(
        jnp.arange(len(KINDS))
    )
    alone = [
        jax.jit(
            lambda make=make: estimate(
                mh.problems.training(FAMILY, lambda h: make(h["lr"])), {"lr": rate}
            )
        )()
        for make in KINDS.values()
    ]
    return together, alone


@pytest.mark.parametrize("index", range(len(KINDS)))
def test_a_chosen_kind_trains_as_it_does_alone(outcomes, index):
    together, alone = outcomes
    np.testing.assert_allclose(together.loss[index], alone[index].loss, rtol=1e-5)


@pytest.mark.parametrize("index", range(len(KINDS)))
def test_its_hypergradient_is_what_it_is_alone(outcomes, index):
    together, alone = outcomes
    np.testing.assert_allclose(together.grad["lr"][index], alone[index].grad["lr"], rtol=1e-4)
    assert np.isfinite(together.grad["lr"][index])


def test_a_kind_that_diverges_spoils_no_other():
    explode = optax.scale(jnp.float32(1e38))
    update = mh.choose(jnp.array(0), [optax.sgd(0.1), optax.chain(explode, explode)])

    def moved(g):
        return update.update(g, update.init(g), g)[0].sum()

    assert float(jax.grad(moved)(jnp.ones(2))[0]) == pytest.approx(-0.1)


def test_only_the_chosen_state_changes():
    update = mh.choose(jnp.array(1), [optax.adam(0.1), optax.adam(0.1)])
    params = jnp.ones(2)
    start = update.init(params)
    after = update.update(params, start, params)[1]
    assert int(after[0][0].count) == 0
    assert int(after[1][0].count) == 1


def test_the_kind_is_tuned_inside_one_program():
    space = {"lr": mh.Float(1e-3, 1.0, log=True), "kind": mh.Choice(tuple(KINDS))}
    problem = mh.problems.training(FAMILY, chosen)
    strategy = mh.strategies.random(space, population=16)
    run = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=2, steps=20))
    assert run(KEY).best_loss < 0.1


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="at least one transformation"):
        mh.choose(0, [])
