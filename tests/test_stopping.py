"""Stopping rules against their definitions, round by round, inside and outside jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import stopping
from metahpo.base import Evaluation, Proposal, StopReason

INF = np.inf


def reasons(rule, losses, units=None, budgets=None):
    """The reason after each round of a rule that is told these losses ``[rounds, P]``."""
    losses = jnp.asarray(losses)
    units = jnp.zeros((*losses.shape, 2)) if units is None else jnp.asarray(units)
    budgets = jnp.ones(losses.shape, jnp.int32) if budgets is None else jnp.asarray(budgets)

    def body(state, told):
        unit, loss, budget = told
        proposal = Proposal(unit, jnp.full(loss.shape, -1), budget)
        state = rule.update(state, proposal, Evaluation(loss, None, ()))
        return state, rule.reason(state)

    _, found = jax.lax.scan(body, rule.init(), (units, losses, budgets))
    assert found.dtype == jnp.int32 and int(rule.reason(rule.init())) == StopReason.RUNNING
    return [StopReason(int(x)).name for x in found]


def test_evaluations_are_counted_without_idle_slots():
    losses, budgets = np.ones((3, 3)), [[1, 1, 0], [0, 0, 0], [2, 0, 5]]
    assert reasons(stopping.evaluations(4), losses, budgets=budgets)[1:] == ["RUNNING", "BUDGET"]
    assert reasons(stopping.evaluations(3), losses)[0] == "BUDGET"


def test_a_target_is_reached_by_the_lowest_loss_so_far():
    losses = [[INF, 3.0], [1.0, 2.0], [5.0, INF]]
    assert reasons(stopping.target(1.0), losses) == ["RUNNING", "TARGET", "TARGET"]
    assert set(reasons(stopping.target(0.99), losses)) == {"RUNNING"}


def test_stagnation_counts_rounds_since_the_last_progress():
    losses = np.array([5.0, 4.0, 4.0, 4.5, 3.0, 3.0, 3.0])[:, None]
    assert reasons(stopping.stagnation(3), losses) == ["RUNNING"] * 7
    assert reasons(stopping.stagnation(2), losses)[:4] == ["RUNNING"] * 3 + ["STAGNATION"]
    # Steps of 0.4 add up to more than 1 every third round.
    creeping = 10 - 0.4 * np.arange(9)[:, None]
    assert set(reasons(stopping.stagnation(3, tolerance=1.0), creeping)) == {"RUNNING"}
    assert reasons(stopping.stagnation(2, tolerance=1.0), creeping)[2] == "STAGNATION"


def test_rounds_without_a_finite_loss_stagnate():
    assert reasons(stopping.stagnation(2), [[INF, INF]] * 2) == ["RUNNING", "STAGNATION"]


def test_tolerance_is_the_spread_of_a_round():
    losses = [[1.0, 1.5], [1.0, INF], [1.0, 1.25], [1.0, 1.0]]
    assert reasons(stopping.tolerance(0.25), losses) == ["RUNNING"] * 2 + ["TOLERANCE"] * 2
    assert reasons(stopping.tolerance(0.0), losses)[2:] == ["RUNNING", "TOLERANCE"]
    assert reasons(stopping.tolerance(0.25, rounds=2), losses)[2:] == ["RUNNING", "TOLERANCE"]
    assert set(reasons(stopping.tolerance(1.0), [[INF, INF]])) == {"RUNNING"}
    # One evaluation has no spread, and idle slots have no loss.
    alone, idle = [[1.0, INF, INF]], [[1.0, 1.0, INF]]
    assert reasons(stopping.tolerance(1.0), alone, budgets=[[1, 0, 0]]) == ["RUNNING"]
    assert reasons(stopping.tolerance(0.0), idle, budgets=[[1, 1, 0]]) == ["TOLERANCE"]


def test_collapse_is_the_longest_edge_of_the_box_around_the_points():
    units = np.array([[[0.5, 0.5], [0.5, 0.8]], [[0.2, 0.9], [0.25, 0.95]], [[0.3, 0.3]] * 2])
    losses = np.ones((3, 2))
    assert reasons(stopping.collapse(0.06), losses, units) == ["RUNNING"] + ["COLLAPSE"] * 2
    assert reasons(stopping.collapse(0.04), losses, units)[1:] == ["RUNNING", "COLLAPSE"]
    assert reasons(stopping.collapse(0.06, rounds=2), losses, units)[1:] == ["RUNNING", "COLLAPSE"]
    idle = [[1, 0], [1, 0], [1, 1]]
    assert reasons(stopping.collapse(0.5), losses, units, idle) == ["RUNNING"] * 2 + ["COLLAPSE"]


def test_of_several_rules_the_first_gives_the_reason():
    rules = stopping.target(1.0), stopping.evaluations(4)
    losses = [[3.0, 2.0], [0.5, 2.0]]
    assert reasons(stopping.any_of(*rules), losses) == ["RUNNING", "TARGET"]
    assert reasons(stopping.any_of(*rules[::-1]), losses) == ["RUNNING", "BUDGET"]
    assert reasons(stopping.any_of(), losses) == ["RUNNING", "RUNNING"]


def test_keywords_make_the_same_rules():
    losses = np.array([[4.0, 4.5], [4.0, 4.5], [4.0, 4.25], [1.0, 9.0]])
    for name, number, after in [
        ("target", 1.0, 3),
        ("evaluations", 3, 1),
        ("stagnation", 2, 2),
        ("tolerance", 0.25, 2),
        ("collapse", 0.0, 0),
    ]:
        found = reasons(stopping.when(**{name: number}), losses)
        assert found == reasons(getattr(stopping, name)(number), losses)
        assert [reason != "RUNNING" for reason in found].index(True) == after


def test_numbers_may_be_traced_and_lanes_may_differ():
    @jax.jit
    def found(target, number):
        rule = stopping.when(target=target, evaluations=number)
        proposal = Proposal(jnp.zeros((2, 1)), jnp.full(2, -1), jnp.ones(2, jnp.int32))
        told = Evaluation(jnp.array([1.0, 2.0]), None, ())
        return rule.reason(rule.update(rule.init(), proposal, told))

    many = jax.vmap(found)(jnp.array([0.5, 1.5, 0.5]), jnp.array([3, 3, 2]))
    np.testing.assert_array_equal(many, [0, StopReason.TARGET, StopReason.BUDGET])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stopping.evaluations(0), "evaluations must be at least 1, got 0"),
        (lambda: stopping.stagnation(0), "rounds of stagnation must be at least 1, got 0"),
        (lambda: stopping.stagnation(3, -1.0), "tolerance of stagnation .* got -1.0"),
        (lambda: stopping.tolerance(-1e-9), "spread of tolerance .* at least 0, got -1e-09"),
        (lambda: stopping.tolerance(np.nan), "spread of tolerance .* got nan"),
        (lambda: stopping.tolerance(0.0, rounds=0), "rounds of tolerance .* got 0"),
        (lambda: stopping.collapse(-1.0), "width of collapse .* got -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
