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


def test_a_branch_of_a_space_is_chosen_with_its_own_values():
    space = {"kind": mh.OneOf(sgd={"lr": mh.Float(0.0, 1.0)}, adam=mh.Float(0.0, 0.9), none={})}
    make = {
        "adam": lambda b1: optax.adam(0.1, b1=b1),
        "none": lambda h: optax.set_to_zero(),
        "sgd": lambda h: optax.sgd(h["lr"]),
    }
    problem = mh.problems.training(FAMILY, lambda h: mh.choose(h["kind"], make))
    train = mh.inner.outer_loss(problem, 10)
    task = FAMILY.sample(KEY)
    alone = [optax.sgd(0.2), optax.adam(0.1, b1=0.36), optax.set_to_zero()]
    points = jnp.array([[0.1, 0.2, 0.9], [0.5, 0.9, 0.4], [0.9, 0.9, 0.9]])
    losses = jax.vmap(lambda u: train(KEY, mh.space.decode(space, u), task)[0])(points)
    for loss, point, one in zip(losses, points, alone, strict=True):
        by_itself = mh.problems.training(FAMILY, lambda h, one=one: one)
        expected = mh.inner.outer_loss(by_itself, 10)(KEY, {}, task)[0]
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        read = mh.space.readable(space, mh.space.decode(space, point))
        on_the_host = mh.problems.training(
            FAMILY, lambda h, read=read: mh.choose(read["kind"], make)
        )
        np.testing.assert_allclose(
            mh.inner.outer_loss(on_the_host, 10)(KEY, {}, task)[0], expected, rtol=1e-5
        )


def test_transformations_by_name_are_one_for_each_branch():
    values = mh.space.decode(mh.OneOf(sgd={"lr": mh.Float(0.0, 1.0)}, none={}), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"each of the branches \('sgd', 'none'\), got \('sgd',\)"):
        mh.choose(values, {"sgd": lambda h: optax.sgd(h["lr"])})
    with pytest.raises(ValueError, match="branches of a OneOf, got int: for an index give a list"):
        mh.choose(0, {"sgd": lambda h: optax.sgd(0.1)})


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="at least one transformation"):
        mh.choose(0, [])
