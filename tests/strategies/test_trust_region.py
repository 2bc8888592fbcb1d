"""The region of PB2's copies: TuRBO's counting, written again in Python, and restarts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies.along_training.trust_region import LARGEST, smallest_edge, started, updated

FLOATS = [mh.Float(0.0, 1.0)] * 6
PARENT = jnp.array([0, 1, 0, 1])  # two copies of two winners


def after(rounds, dims=FLOATS, first=0.4):
    """Edges and restarts after rounds with given losses of four members."""
    step = jax.jit(lambda region, loss: updated(region, loss, PARENT, dims, first))
    region, found = started(first, jnp.float32), []
    for loss in rounds:
        region = step(region, jnp.asarray(loss, jnp.float32))
        found.append((round(float(region.length), 6), bool(region.restarted)))
    return found


WON, LOST, EQUAL = [1.0, 2.0, 0.5, 3.0], [1.0, 2.0, 1.5, jnp.inf], [1.0, 2.0, 1.0, 2.0]


def test_three_rounds_with_a_success_double_it_and_as_many_failures_as_dimensions_halve_it():
    edges = [edge for edge, _ in after([WON] * 7)]
    np.testing.assert_allclose(edges, [0.4, 0.4, 0.8, 0.8, 0.8, LARGEST, LARGEST], rtol=1e-6)
    edges = [edge for edge, _ in after([LOST] * 6)]  # two failures a round, six dimensions
    np.testing.assert_allclose(edges, [0.4, 0.4, 0.2, 0.2, 0.2, 0.1], rtol=1e-6)


def test_only_uninterrupted_rows_count_and_a_round_without_comparison_interrupts_none():
    assert after([WON, WON, LOST, WON, WON])[-1] == (0.4, False)
    assert after([LOST, LOST, WON, LOST, LOST])[-1] == (0.4, False)
    assert after([WON, EQUAL, WON, EQUAL, EQUAL, WON])[-1] == (0.8, False)


def test_a_region_that_is_too_small_starts_again():
    found = after([LOST] * 60)
    edges, restarted = (np.array(column) for column in zip(*found, strict=True))
    # 0.4 / 2**18 is above a millionth, 0.4 / 2**19 is not: 19 halvings of three rounds.
    assert np.flatnonzero(restarted).tolist() == [3 * 19 - 1]
    assert edges[3 * 19 - 1] == pytest.approx(0.4)


def test_too_small_is_half_of_the_narrowest_cell_unless_there_are_floats():
    whole = [mh.Int(1, 10), mh.Int(0, 3), mh.Choice(tuple("abcdefghijklmnopqrstuvwxyz"))]
    assert smallest_edge(whole) == pytest.approx(0.05)
    assert smallest_edge([*whole, mh.Float(0.0, 1.0)]) == 1e-6
