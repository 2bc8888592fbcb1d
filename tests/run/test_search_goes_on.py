"""A finished search goes on from its state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)
SPACE = {"lr": mh.Float(1e-3, 1.0, log=True), "x": mh.Float(-1.0, 1.0, shape=(3,))}
FAMILY = mh.TaskFamily(
    lambda key: jax.random.normal(key, (3,)),
    lambda key, task: jax.random.normal(key, (3,)),
    lambda p, t, s: ((p - t) ** 2).sum(),
)
PLAIN = mh.problems.training(FAMILY, lambda h: optax.sgd(h["lr"]))
PROBLEM = PLAIN._replace(loss=lambda k, h, t, s: PLAIN.loss(k, h, t, s) + (h["x"] ** 2).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stop"),
    [
        ("grid", None),
        ("cma_es", mh.stopping.any_of()),
        ("differential_evolution", mh.stopping.any_of()),
        ("pbt", None),
    ],
)
def test_two_parts_are_one_run(name, stop):
    strategy = getattr(mh.strategies, name)(SPACE, 8)

    def search(rounds, state=None):
        return jax.jit(
            lambda state: mh.search(
                KEY, PROBLEM, SPACE, strategy, rounds=rounds, steps=2, state=state, stop=stop
            )
        )(state)

    whole, first = search(7), search(3)
    rest = search(4, first.state)
    history = jax.tree.map(lambda a, b: np.concatenate([a, b]), first.history, rest.history)
    # Two programs of different lengths may differ in their last bits.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, history, whole.history)
    jax.tree.map(close, (rest.best_loss, rest.best_hparams), (whole.best_loss, whole.best_hparams))
    assert (int(first.rounds), int(rest.rounds), int(rest.state.round)) == (3, 4, 7)
    assert int(rest.evaluations) == 4 * 8


def test_a_stricter_target_is_reached_afterwards():
    problem = mh.problems.function(lambda h: (h["x"] ** 2).sum() + h["lr"])
    strategy = mh.strategies.differential_evolution(SPACE, 8)

    def search(target, state=None):
        stop = mh.stopping.when(target=target)
        return mh.search(KEY, problem, SPACE, strategy, rounds=200, steps=1, stop=stop, state=state)

    first = search(0.5)
    second = search(0.05, first.state)
    assert first.best_loss > 0.05 >= second.best_loss
    assert 0 < int(first.rounds) < int(second.state.round)


def test_a_drive_goes_on_too():
    strategy = mh.strategies.cma_es(SPACE, 8)
    make = lambda rounds, state=None: mh.run.search_loop(  # noqa: E731
        PROBLEM, SPACE, strategy, rounds=rounds, steps=2, state=state
    )
    whole = mh.run.drive(make(6), KEY, progress=False)
    first = mh.run.drive(make(2), KEY, progress=False)
    rest = mh.run.drive(make(4, first.state), KEY, progress=False)
    np.testing.assert_array_equal(rest.history.loss, whole.history.loss[2:])
    assert jnp.all(rest.best_loss == whole.best_loss)
