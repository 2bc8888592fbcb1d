"""Replacement: who lives on, by hand and by sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.strategies.genetic_algorithms import replacement
from metahpo.strategies.genetic_algorithms.replacement import Members

KEY = jax.random.key(0)


def members(losses, mark):
    """Members whose point is (their loss, who they are)."""
    loss = jnp.array(losses, float)
    return Members(jnp.stack([loss, jnp.full_like(loss, mark)], axis=1), loss)


def survivors(replace, old, new):
    """``(loss, mark)`` of everybody; points and losses must belong together."""
    out = jax.jit(replace)(KEY, members(old, 0), members(new, 1))
    np.testing.assert_array_equal(out.unit[:, 0], out.loss)
    return [(float(loss), int(mark)) for loss, mark in np.asarray(out.unit)]


OLD, NEW = [4.0, 1.0, 3.0, jnp.inf], [2.0, 9.0, 5.0, jnp.inf]


def test_plain_generation_forgets_the_old():
    assert survivors(replacement.generational(0), OLD, NEW) == [(x, 1) for x in NEW]


def test_elites_take_the_places_of_the_worst_children():
    assert survivors(replacement.generational(1), OLD, NEW)[3] == (1.0, 0)
    assert survivors(replacement.generational(2), OLD, NEW) == [
        (2.0, 1),
        (3.0, 0),
        (5.0, 1),
        (1.0, 0),
    ]
    assert survivors(replacement.generational(1), [7.0, 7.0], [2.0, 3.0]) == [(2.0, 1), (3.0, 1)]


def test_plus_keeps_the_best_of_both_and_prefers_the_new_among_equals():
    assert survivors(replacement.plus(), OLD, NEW) == [(1.0, 0), (2.0, 1), (3.0, 0), (4.0, 0)]
    assert survivors(replacement.plus(2), OLD, NEW) == [(1.0, 0), (2.0, 1)]
    assert survivors(replacement.plus(), [1.0, 1.0], [1.0, 1.0]) == [(1.0, 1), (1.0, 1)]
    assert survivors(replacement.plus(), [jnp.inf] * 2, [jnp.inf] * 2) == [(jnp.inf, 1)] * 2


def test_comma_keeps_the_best_children_only():
    assert survivors(replacement.comma(3), OLD, NEW) == [(2.0, 1), (5.0, 1), (9.0, 1)]


def test_steady_replaces_the_worst_old_by_the_best_new():
    assert survivors(replacement.steady(2), OLD, NEW) == [(5.0, 1), (1.0, 0), (3.0, 0), (2.0, 1)]


@pytest.mark.parametrize("seed", range(3))
def test_plus_agrees_with_sorting(seed):
    old, new = np.random.default_rng(seed).normal(size=(2, 50)).astype(np.float32)
    got = survivors(replacement.plus(20), old, new)
    np.testing.assert_array_equal([loss for loss, _ in got], np.sort([*old, *new])[:20])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replacement.generational(-1), "elites must be .* at least 0, got -1"),
        (lambda: replacement.plus(0), "survivors must be .* at least 1, got 0"),
        (lambda: replacement.comma(0), "survivors must be .* at least 1, got 0"),
        (lambda: replacement.steady(1.5), "replaced must be a whole number .* got 1.5"),
        (
            lambda: replacement.comma(5)(KEY, members(OLD, 0), members(NEW, 1)),
            "cannot keep 5 of 4 members",
        ),
    ],
)
def test_impossible_replacements_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
