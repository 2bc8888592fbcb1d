"""Rounds of candidates whose losses come one by one: what is known, and the history it makes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from metahpo.base import Evaluation, Key, Proposal
from metahpo.run.records import SearchHistory


class Round:
    """A proposal, and what is known of it.

    Attributes:
        proposal: as the strategy made it.
        numbers: ``i64[P]``, of the candidates; -1 for an idle slot.
        sources: ``i64[P]``, the candidates whose trainings they go on from; -1 from scratch.
        budgets: ``i32[P]``.
        units: ``f[P, D]``.
        loss: ``f64[P]``, ``inf`` where nothing is known.
        steps: ``i32[P]``, 0 for what is pending.
        failed: ``bool[P]``.
        new: ``bool[P]``, what the strategy was not told yet.
    """

    def __init__(
        self, proposal: Proposal, tell_key: Key, first_number: int, holders: np.ndarray | None
    ) -> None:
        self.proposal, self._tell_key, self._tells = proposal, tell_key, 0
        self.units, self.budgets = np.asarray(proposal.unit), np.asarray(proposal.budget)
        active, parents = self.budgets > 0, np.asarray(proposal.parent)
        population = len(active)
        self.numbers = np.where(active, first_number + np.cumsum(active) - 1, -1)
        # Before the first round nobody trained.
        holders = np.full(population, -1) if holders is None else holders
        self.sources = np.where(parents >= 0, holders[parents], -1)
        idle = np.where(parents >= 0, self.sources, holders)
        self.holders = np.where(active, self.numbers, idle)  # whose training each slot has now
        self.loss = np.full(population, np.inf)
        self.steps = np.zeros(population, np.int32)
        self.failed, self.new = np.zeros(population, bool), np.zeros(population, bool)

    @property
    def pending(self) -> np.ndarray:
        """``bool[P]``: whose losses are not known."""
        return (self.numbers >= 0) & (self.steps == 0)

    def learn(self, slot: int, loss: float, steps: int, failed: bool) -> None:
        """One more loss."""
        self.loss[slot], self.steps[slot] = loss, steps
        self.failed[slot], self.new[slot] = failed, True

    def news(self) -> tuple[Key, Evaluation]:
        """What the strategy was not told yet, in double precision, and the key to tell it with."""
        key = self._tell_key
        if self._tells:
            key = jax.random.fold_in(key, self._tells)
        loss = np.where(self.new & np.isfinite(self.loss), self.loss, np.inf)
        steps = np.where(self.new, self.steps, 0)
        self._tells, self.new = self._tells + 1, np.zeros_like(self.new)
        return key, Evaluation(loss, None, steps)


def history(rounds: Sequence[Round], rows: int) -> SearchHistory:
    """The history of some rounds as numpy arrays, with blank rows behind them up to ``rows``."""

    def column(of: Callable[[Round], Any], fill: Any) -> np.ndarray:
        values = np.stack([np.asarray(of(r)) for r in rounds])
        return np.concatenate([values, np.full((rows - len(rounds), *values.shape[1:]), fill)])

    dtype = rounds[0].units.dtype
    known = column(lambda r: r.steps > 0, False)
    loss = column(lambda r: r.loss, np.inf).astype(np.float64)
    return SearchHistory(
        unit=column(lambda r: r.units, 0).astype(dtype),
        loss=np.where(np.isfinite(loss), loss, np.inf),
        parent=column(lambda r: r.proposal.parent, -1).astype(np.int32),
        budget=column(lambda r: r.steps, 0).astype(np.int32),
        grad=None,
        metrics={"failed": column(lambda r: r.failed, False).astype(bool)},
        nonfinite=known.astype(bool) & ~np.isfinite(loss),
    )
