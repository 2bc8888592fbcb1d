"""SHADE: its memory against NumPy, and that it adapts to what it meets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import shade
from metahpo.strategies.de import trials

KEY = jax.random.key(0)
PLANE = {"x": mh.Float(0.0, 1.0, shape=(2,))}
SPACE = {"x": mh.Float(-5.0, 5.0, shape=(10,))}


def round_of(strategy):
    """``(key, state, losses) -> (proposal, asked, told)``."""

    @jax.jit
    def run(key, state, loss):
        proposal, asked = strategy.ask(key, state)
        return proposal, asked, strategy.tell(key, asked, proposal, mh.Evaluation(loss, None, ()))

    return run


def test_memory_takes_the_weighted_means_of_a_rounds_successes():
    strategy = shade(PLANE, 6, memory_size=3)
    run = round_of(strategy)
    _, _, state = run(KEY, strategy.init(KEY), jnp.array([1.0, 2.0, 3.0, jnp.inf, jnp.nan, 6.0]))
    np.testing.assert_array_equal(state.memory.weight, 0.5)
    assert state.memory.next == 0  # the first round teaches nothing

    losses = jnp.array([0.5, 2.0, 1.0, 9.0, jnp.nan, 7.0])
    proposal, asked, new = run(jax.random.key(1), state, losses)
    won, gain = np.array([0, 2, 3]), np.array([0.5, 2.0, 2.0])  # from infinity: the largest gain
    f, cr = np.asarray(proposal.note.weight)[won], np.asarray(proposal.note.rate)[won]
    w = gain / gain.sum()
    np.testing.assert_allclose(
        new.memory.weight, [(w * f**2).sum() / (w * f).sum(), 0.5, 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(new.memory.rate, [(w * cr).sum(), 0.5, 0.5], rtol=1e-6)
    assert new.memory.next == 1
    moved = np.array([True, True, True, True, True, False])  # a tie moves, but teaches nothing
    np.testing.assert_array_equal(new.unit, np.where(moved[:, None], proposal.unit, state.unit))
    np.testing.assert_array_equal(new.archive.unit[:3], np.asarray(state.unit)[won])
    assert new.archive.size == 3


@functools.cache
def memories():
    """The mean crossover rate that is remembered after 200 rounds on two functions."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))
    stretch = 10.0 ** (4 * np.arange(10) / 9)

    def rotated(x):
        return jnp.sum(stretch * (rotation @ x) ** 2)

    def separable(x):
        return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)

    strategy = shade(SPACE, 50, memory_size=10)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def run(key, which):
        def step(state, key):
            proposal, state = strategy.ask(key, state)
            points = 10 * proposal.unit - 5
            losses = jnp.where(which, jax.vmap(rotated)(points), jax.vmap(separable)(points))
            evaluation = mh.Evaluation(losses, None, ())
            return strategy.tell(jax.random.fold_in(key, 1), state, proposal, evaluation), None

        start = strategy.init(jax.random.fold_in(key, 0))
        return jax.lax.scan(step, start, jax.random.split(key, 200))[0].memory

    keys = jax.random.split(KEY, 8)
    return run(keys, True), run(keys, False)


def test_crossover_rates_adapt_to_rotation_and_to_separability():
    rotated, separable = memories()
    assert rotated.rate.mean(axis=1).min() > 0.7  # coordinates must move together
    assert separable.rate.mean(axis=1).max() < 0.4  # one at a time
    assert (rotated.weight != 0.5).all() and (separable.weight != 0.5).all()


def test_constant_losses_change_neither_memory_nor_population():
    strategy = shade(PLANE, 20)
    run = round_of(strategy)
    for level in (1.0, jnp.inf):
        _, _, first = run(KEY, strategy.init(KEY), jnp.full(20, level))
        proposal, asked, after = run(jax.random.key(1), first, jnp.full(20, level))
        assert not np.array_equal(proposal.unit, first.unit)
        same = asked._replace(round=after.round)
        jax.tree.map(np.testing.assert_array_equal, after, same)


def test_members_of_equal_loss_attract_the_others_by_turns():
    loss = np.array([2.0, 1, 1, 1, 1, 1, 1, 1])
    draw = jax.random.uniform(KEY, (8000, 8))
    chosen = jax.jit(jax.vmap(lambda d: trials.best_others(d, jnp.asarray(loss), 2)))(draw)
    share = np.bincount(np.asarray(chosen).ravel(), minlength=8) / chosen.size
    expected = np.zeros(8)
    for first in range(8):  # the two best, seen from every member
        ranking = sorted(range(8), key=lambda i: (loss[i], (i - first) % 8))
        expected[ranking[:2]] += 1 / 16
    assert share[0] == 0
    np.testing.assert_allclose(share, expected, atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best_share": 0.0}, r"best_share must be in \(0, 1\], got 0.0"),
        ({"memory_size": 0}, "memory_size must be a whole number of at least 1, got 0"),
        ({"archive_rate": -1.0}, "archive_rate must not be negative, got -1.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shade(PLANE, 8, **options)
