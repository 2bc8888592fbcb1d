"""What runs of a search tell: histories, results and failures."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.base import HParams, PyTree


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


class SearchResult(NamedTuple):
    """The outcome of a search.

    Attributes:
        best_loss: ``f[]``, the lowest outer loss of any member in any round.
        best_hparams: the hyperparameters that reached it.
        history: a ``SearchHistory``.
        info: ``best_unit`` ``f[D]``, ``best_state`` (the training state behind the best loss),
            ``nonfinite`` ``i32[]`` (how many evaluations were not finite), ``evaluations``
            ``i32[]``, ``rounds`` ``i32[]`` (how many were run) and ``stop_reason`` ``i32[]``, a
            ``StopReason``; ``BUDGET`` when all rounds were run.
    """

    best_loss: chex.Array
    best_hparams: HParams
    history: SearchHistory
    info: dict[str, PyTree]


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


class MinimizeResult(NamedTuple):
    """The outcome of a minimisation; plain Python values and numpy arrays.

    Attributes:
        best_loss: the lowest loss, rounded to the strategy's float type.
        best_hparams: the hyperparameters that reached it, as the function got them.
        history: a ``SearchHistory`` of numpy arrays, leading axes ``[rounds, P]``; its
            ``metrics["failed"]`` is ``bool[rounds, P]``, which calls failed.
        info: ``best_unit`` ``f[D]``, ``nonfinite`` (how many losses were not finite, failures
            included), ``failed`` (how many calls failed), ``failures`` (a list of ``Failure``),
            ``evaluations``, ``rounds`` (how many were finished), ``stop_reason`` (a ``StopReason``)
            and ``strategy``, the strategy's last state.
    """

    best_loss: float
    best_hparams: HParams
    history: SearchHistory
    info: dict[str, PyTree]


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
    """A run was interrupted from the keyboard.

    Attributes:
        result: a ``MinimizeResult`` of what was evaluated before.
    """

    def __init__(self, result: MinimizeResult) -> None:
        super().__init__(f"after {result.info['evaluations']} evaluations")
        self.result = result
