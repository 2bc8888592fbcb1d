"""What runs of a search tell: histories, results and failures."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo._deprecation import warn
from metahpo.base import HParams, PyTree, State, StopReason
from metahpo.run import summary


class SearchHistory(NamedTuple):
    """What happened to every member in every round; leading axes ``[rounds, P]``.

    Attributes:
        unit: ``f[rounds, P, D]``, the points of the unit cube.
        loss: ``f[rounds, P]``, the outer loss, ``inf`` where it was not finite, in idle slots and
            in rounds after the run had stopped.
        parent: ``i32[rounds, P]`` as proposed.
        budget: ``i32[rounds, P]``, inner steps taken; 0 where nothing was evaluated.
        grad: ``f[rounds, P, D]`` on the unit cube, or ``None``.
        metrics: what ``metrics`` returned, or ``None``.
        nonfinite: ``bool[rounds, P]``, whether the loss or the gradient was not finite.
    """

    unit: chex.Array
    loss: chex.Array
    parent: chex.Array
    budget: chex.Array
    grad: chex.Array | None
    metrics: PyTree
    nonfinite: chex.Array


class _SearchResult(NamedTuple):
    best_loss: chex.Array
    best_hparams: HParams
    history: SearchHistory
    best_unit: chex.Array
    best_state: State
    evaluations: chex.Array
    nonfinite: chex.Array
    rounds: chex.Array
    stop_reason: chex.Array
    state: PyTree


class SearchResult(_SearchResult):
    """The outcome of a search.

    Attributes:
        best_loss: ``f[]``, the lowest outer loss of any member in any round; ``inf`` if none was
            finite.
        best_hparams: the hyperparameters that reached it; NaN if none did, and whole numbers and
            choices then mean nothing.
        history: a ``SearchHistory``.
        best_unit: ``f[D]``, the point of the unit cube that reached it, or NaN.
        best_state: the training state behind it, or zeros.
        evaluations: ``i32[]``.
        nonfinite: ``i32[]``, how many of them were not finite.
        rounds: ``i32[]``, how many were run.
        stop_reason: ``i32[]``, a ``StopReason``; ``BUDGET`` when all rounds were run.
        state: a ``SearchState``, to go on from.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Five lines: the best, the counts and why it ended."""
        return summary.of_candidates(self) if summary.known(self) else repr(self)

    @property
    def info(self) -> dict[str, PyTree]:
        """The old spelling of the fields behind ``history``."""
        warn("result.info[...] of a search is now a field of the result")
        return {name: value for name, value in self._asdict().items() if name in _OLD_INFO}


_OLD_INFO = (
    "best_unit",
    "best_state",
    "evaluations",
    "failures",
    "nonfinite",
    "rounds",
    "stop_reason",
    "state",
    "strategy",
)


def not_run(record: SearchHistory) -> SearchHistory:
    """What the history says of a round after the run had stopped."""
    zeros = jax.tree.map(jnp.zeros_like, record)
    return zeros._replace(
        loss=jnp.full_like(record.loss, jnp.inf), parent=jnp.full_like(record.parent, -1)
    )


class Failure(NamedTuple):
    """A call that raised an exception or returned something else than a real scalar.

    Attributes:
        round: of the candidate.
        member: of the candidate.
        hparams: the candidate, as the function got it.
        message: what went wrong.
    """

    round: int
    member: int
    hparams: HParams
    message: str


class MinimizeState(NamedTuple):
    """All that a minimisation needs to go on: what was asked and told, in that order; ``[N]`` each.

    Attributes:
        number: ``i64[N]``, of the candidate that was told; ``~number`` where it was asked for.
        loss: ``f64[N]``, 0 where it was asked for.
        steps: ``i32[N]``, the updates behind it, 0 where it was asked for.
        unit: ``f[N, D]``, the candidate's point of the unit cube.
        failures: the numbers of candidates whose calls failed, and what went wrong.
    """

    number: chex.Array
    loss: chex.Array
    steps: chex.Array
    unit: chex.Array
    failures: Sequence[tuple[int, str]]


class _MinimizeResult(NamedTuple):
    best_loss: float
    best_hparams: HParams
    history: SearchHistory
    best_unit: chex.Array
    evaluations: int
    nonfinite: int
    failures: list[Failure]
    rounds: int
    stop_reason: StopReason
    strategy: PyTree
    state: MinimizeState


class MinimizeResult(_MinimizeResult):
    """The outcome of a minimisation; plain Python values and numpy arrays.

    Attributes:
        best_loss: the lowest loss, as the function returned it; ``inf`` if none was finite.
        best_hparams: the hyperparameters that reached it, as the function got them; those of the
            first candidate if none was finite.
        history: a ``SearchHistory`` of numpy arrays, leading axes ``[rounds, P]``, with losses
            ``f64[rounds, P]``; its ``metrics["failed"]`` is ``bool[rounds, P]``, which calls
            failed.
        best_unit: ``f[D]``, the point of the unit cube that reached the lowest loss.
        evaluations: how many there were.
        nonfinite: how many losses were not finite, failures included.
        failures: a list of ``Failure``.
        rounds: how many were finished.
        stop_reason: a ``StopReason``.
        strategy: the strategy's last state, with losses as it was told them.
        state: a ``MinimizeState``, to go on from.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Five lines: the best, the counts and why it ended."""
        return summary.of_candidates(self)

    @property
    def info(self) -> dict[str, PyTree]:
        """The old spelling of the fields behind ``history``."""
        warn("result.info[...] of a minimisation is now a field of the result")
        old = {name: value for name, value in self._asdict().items() if name in _OLD_INFO}
        return old | {"failed": len(self.failures)}


class EvaluationError(RuntimeError):
    """A call of the function failed.

    Attributes:
        failure: a ``Failure``.
        result: a ``MinimizeResult`` of what was evaluated before.
    """

    def __init__(self, failure: Failure, result: MinimizeResult) -> None:
        super().__init__(f"the function failed at {failure.hparams}: {failure.message}")
        self.failure, self.result = failure, result


class InterruptedRun(KeyboardInterrupt):
    """A run was interrupted from the keyboard; the message says how it goes on.

    Attributes:
        result: a ``MinimizeResult`` of what was evaluated before; ``None`` where nothing was, and
            for ``drive``, whose checkpoints hold it.
    """

    def __init__(
        self,
        when: str,
        directory: str | os.PathLike[str] | None,
        result: MinimizeResult | None = None,
    ) -> None:
        advice = (
            "a run with directory=... can be resumed"
            if directory is None
            else f"resume=True goes on from what {os.fspath(directory)!r} holds"
        )
        super().__init__(f"{when}; {advice}")
        self.result = result
