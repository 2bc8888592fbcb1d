"""When a run ends before its last round: rules as data, usable inside and outside ``jit``.

A rule is a record of pure functions that looks at every round after it was told; ``any_of`` joins
several and ``when`` makes the usual ones from keywords.  Numbers may be traced, so changing one
compiles nothing again.  A rule counts rounds, so a run ends after a whole round, never within one.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Evaluation, Proposal, PyTree, StopReason


class Stopping(NamedTuple):
    """A rule that ends a run.

    Attributes:
        init: ``() -> state``.
        update: ``(state, Proposal, Evaluation) -> state``, after every round.
        reason: ``(state) -> i32[]``, a ``StopReason``; ``RUNNING`` (0) as long as the run goes on.
    """

    init: Callable[[], PyTree]
    update: Callable[[PyTree, Proposal, Evaluation], PyTree]
    reason: Callable[[PyTree], chex.Array]


def any_of(*rules: Stopping) -> Stopping:
    """Ends a run as soon as one of the rules does; of several at once, the first gives the reason.

    Without any rule it never ends a run, which leaves it to the strategy's own criteria.

    Example:
        >>> rule = any_of(target(1e-8), evaluations(20_000), stagnation(rounds=100))
        >>> StopReason(int(rule.reason(rule.init()))).name
        'RUNNING'
    """
    for rule in rules:
        checks.record("every rule", rule, Stopping, "a function of mh.stopping")

    def init() -> PyTree:
        return tuple(rule.init() for rule in rules)

    def update(state: PyTree, proposal: Proposal, evaluation: Evaluation) -> PyTree:
        pairs = zip(rules, state, strict=True)
        return tuple(rule.update(memory, proposal, evaluation) for rule, memory in pairs)

    def reason(state: PyTree) -> chex.Array:
        pairs = zip(rules, state, strict=True)
        return first(*(rule.reason(memory) for rule, memory in pairs))

    return Stopping(init, update, reason)


def when(
    *,
    target: chex.Numeric | None = None,
    evaluations: chex.Numeric | None = None,
    stagnation: chex.Numeric | None = None,
    tolerance: chex.Numeric | None = None,
    collapse: chex.Numeric | None = None,
) -> Stopping:
    """``any_of`` the rules of these names, each given by its first argument, in this order.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: h["x"] ** 2), space,
        ...     mh.strategies.random(space, population=8), rounds=100, steps=1,
        ...     stop=when(target=0.5),
        ... ))(jax.random.key(0))
        >>> int(result.rounds), StopReason(int(result.stop_reason)).name
        (1, 'TARGET')
    """
    given = {
        "target": target,
        "evaluations": evaluations,
        "stagnation": stagnation,
        "tolerance": tolerance,
        "collapse": collapse,
    }
    return any_of(*(_RULES[name](number) for name, number in given.items() if number is not None))


def evaluations(number: chex.Numeric) -> Stopping:
    """Ends after at least ``number`` evaluations (``BUDGET``); idle slots are none.

    Raises:
        ValueError: if ``number < 1``.
    """
    _check_count(number, "evaluations")

    def update(state: chex.Array, proposal: Proposal, evaluation: Evaluation) -> chex.Array:
        del evaluation
        return state + (proposal.budget > 0).sum(dtype=jnp.int32)

    return Stopping(_zero, update, lambda state: _because(state >= number, StopReason.BUDGET))


def target(loss: chex.Numeric) -> Stopping:
    """Ends when the lowest loss so far is at most ``loss`` (``TARGET``)."""

    def update(state: chex.Array, proposal: Proposal, evaluation: Evaluation) -> chex.Array:
        del proposal
        return jnp.minimum(state, _lowest(evaluation))

    return Stopping(_infinity, update, lambda state: _because(state <= loss, StopReason.TARGET))


def stagnation(rounds: chex.Numeric, tolerance: chex.Numeric = 0.0) -> Stopping:
    """Ends after ``rounds`` rounds without progress (``STAGNATION``).

    Progress is a loss that is lower, by more than ``tolerance``, than the lowest one at the last
    progress, so many small improvements add up.  Rounds without a finite loss are no progress.

    Args:
        rounds: at least 1.
        tolerance: at least 0, in units of the loss.

    Raises:
        ValueError: if a number is out of range.
    """
    _check_count(rounds, "the rounds of stagnation")
    _check(tolerance, 0, "the tolerance of stagnation")

    def init() -> tuple[chex.Array, chex.Array]:
        return _infinity(), _zero()

    def update(
        state: tuple[chex.Array, chex.Array], proposal: Proposal, evaluation: Evaluation
    ) -> tuple[chex.Array, chex.Array]:
        del proposal
        lowest, since = state
        loss = _lowest(evaluation)
        progress = loss < lowest - tolerance
        return jnp.where(progress, loss, lowest), jnp.where(progress, 0, since + 1)

    return Stopping(init, update, lambda state: _because(state[1] >= rounds, StopReason.STAGNATION))


def tolerance(spread: chex.Numeric, rounds: chex.Numeric = 1) -> Stopping:
    """Ends when a round's losses differ by at most ``spread`` (``TOLERANCE``).

    Args:
        spread: largest minus smallest loss of a round, at least 0.  A round with an infinite loss,
            or with fewer than two evaluations, does not count.
        rounds: how many rounds in succession must be so, at least 1.

    Raises:
        ValueError: if a number is out of range.
    """
    _check(spread, 0, "the spread of tolerance")

    def narrow(proposal: Proposal, evaluation: Evaluation) -> chex.Array:
        loss, active = evaluation.loss, proposal.budget > 0
        widest = jnp.where(active, loss, -jnp.inf).max() - jnp.where(active, loss, jnp.inf).min()
        return (widest <= spread) & (active.sum() > 1)  # inf - inf is NaN, which is not narrow

    return _in_succession(narrow, rounds, StopReason.TOLERANCE)


def collapse(width: chex.Numeric, rounds: chex.Numeric = 1) -> Stopping:
    """Ends when the population has shrunk to a box of at most ``width`` (``COLLAPSE``).

    Args:
        width: the longest edge of the box around a round's points in the unit cube, at least 0.
            A round with fewer than two evaluations does not count.
        rounds: how many rounds in succession must be so, at least 1.

    Raises:
        ValueError: if a number is out of range.
    """
    _check(width, 0, "the width of collapse")

    def narrow(proposal: Proposal, evaluation: Evaluation) -> chex.Array:
        del evaluation
        unit, active = proposal.unit, (proposal.budget > 0)[:, None]
        high, low = (jnp.where(active, unit, 0.0).max(0), jnp.where(active, unit, 1.0).min(0))
        return ((high - low).max() <= width) & (active.sum() > 1)

    return _in_succession(narrow, rounds, StopReason.COLLAPSE)


def first(*reasons: chex.Array) -> chex.Array:
    """``i32[]``: the first of the reasons that is not ``RUNNING``."""
    found = jnp.full((), StopReason.RUNNING, jnp.int32)
    for reason in reasons:
        found = jnp.where(found == StopReason.RUNNING, jnp.asarray(reason, jnp.int32), found)
    return found


_RULES: dict[str, Callable[[chex.Numeric], Stopping]] = {
    rule.__name__: rule for rule in (target, evaluations, stagnation, tolerance, collapse)
}


def _in_succession(
    condition: Callable[[Proposal, Evaluation], chex.Array],
    rounds: chex.Numeric,
    reason: StopReason,
) -> Stopping:
    _check_count(rounds, f"the rounds of {reason.name.lower()}")

    def update(state: chex.Array, proposal: Proposal, evaluation: Evaluation) -> chex.Array:
        return jnp.where(condition(proposal, evaluation), state + 1, 0)

    return Stopping(_zero, update, lambda state: _because(state >= rounds, reason))


def _because(condition: chex.Array, reason: StopReason) -> chex.Array:
    return jnp.where(condition, jnp.int32(reason), jnp.int32(StopReason.RUNNING))


def _lowest(evaluation: Evaluation) -> chex.Array:
    return evaluation.loss.min().astype(jnp.result_type(float))


def _infinity() -> chex.Array:
    return jnp.full((), jnp.inf, jnp.result_type(float))


def _zero() -> chex.Array:
    return jnp.zeros((), jnp.int32)


def _check_count(number: chex.Numeric, name: str) -> None:
    _check(number, 1, name)
    if checks.known(number) and not np.all(np.asarray(number) == np.round(number)):
        raise ValueError(f"{name} must be a whole number, got {number}")


def _check(number: chex.Numeric, at_least: int, name: str) -> None:
    """Refuses a number that is too small; a traced one cannot be looked at."""
    checks.numbers(**{name: number})
    if checks.known(number) and not np.all(np.asarray(number) >= at_least):
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
