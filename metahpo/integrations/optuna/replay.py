"""A strategy's run as the trials of a study tell it: followed as they come, or from the first.

The strategy is asked for a round at a time.  The trial that asked for a round notes which
candidates were pending then; all others were told, in their order.  So the notes and the values of
the trials are the whole run, whichever processes took part, and each of them can rebuild it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import jax
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from metahpo.base import Strategy
from metahpo.integrations.optuna import distributions as dist
from metahpo.integrations.optuna.notes import MOST, Note, dead
from metahpo.run import AskTell

ATTEMPTS = 2
"""Trials of a candidate that may fail before it counts as infinite."""


class Standing(NamedTuple):
    """What became of the candidates that the strategy was not told of.

    Attributes:
        known: their losses.
        failed: those given up.
        pending: those that a trial evaluates.
        free: those that nobody evaluates.
    """

    known: dict[int, float]
    failed: list[int]
    pending: list[int]
    free: list[int]


class Replay:
    """The run of one strategy in one search space.

    Args:
        space: the distributions by name.
        strategy: ``(space) -> Strategy``.
        seed: of the run, which proposes what ``minimize`` would with it.
        sign: -1 for a study that maximises.

    Attributes:
        mark: a short name of space, strategy and seed; notes of others belong to other runs.
        candidates: the values of all candidates that were asked for, by name.
    """

    def __init__(
        self,
        space: dict[str, BaseDistribution],
        strategy: Callable[[dict[str, Any]], Strategy],
        seed: int,
        sign: int,
    ) -> None:
        self.space = space
        dims = {name: dist.dimension(one) for name, one in space.items()}
        self._dims, self._strategy = dims, strategy(dims)
        self._seed, self._sign = seed, sign
        self._restart()
        self.mark = _mark(space, self._strategy, seed)

    def _restart(self) -> None:
        self._tuner = AskTell(self._dims, self._strategy, seed=self._seed)
        self.candidates: list[dict[str, Any]] = []
        self._untold: list[int] = []
        # Of every round the trials that claim to have opened it, up to the one that was believed.
        self._openers: list[list[tuple[int, Note]]] = []

    def follow(self, noted: Iterable[tuple[FrozenTrial, Note]]) -> None:
        """Comes to where the trials are; only what is new is told, unless the past has changed."""
        self._claims: dict[int, list[tuple[FrozenTrial, Note]]] = {}
        openers: dict[int, list[tuple[int, Note]]] = {}
        self._waiting: dict[int, int] = {}
        for trial, note in noted:
            if note.candidate < 0:
                self._waiting[note.round] = self._waiting.get(note.round, 0) + 1
            else:
                self._claims.setdefault(note.candidate, []).append((trial, note))
            if note.opened:
                openers.setdefault(note.round, []).append((trial.number, note))
        for t, seen in enumerate(self._openers):
            if openers.get(t, [])[: len(seen)] != seen:
                self._restart()
                break
        while self._follow_into_next_round(openers.get(len(self._openers), [])):
            pass

    def _follow_into_next_round(self, openers: list[tuple[int, Note]]) -> bool:
        for place, (_, note) in enumerate(openers):
            if (losses := self._losses_told(note)) is not None:
                self._ask(losses)
                self._openers.append(openers[: place + 1])
                return True
        return False

    def _losses_told(self, note: Note) -> dict[int, float] | None:
        """What the strategy was told before this round; ``None`` if that was another run."""
        if self._strategy.needs.order and note.pending:
            return None
        losses = {}
        for candidate in self._untold:
            if candidate in note.pending:
                continue
            trials = [trial for trial, _ in self._trials(candidate)]
            if candidate in note.failed and trials:
                losses[candidate] = math.inf
            elif (loss := self._loss(trials)) is not None:
                losses[candidate] = loss
            else:
                return None
        return losses

    def next(self, trial: int, ahead: int, worker: str) -> Note:
        """The candidate for a trial, of a new round where the last one is given out.

        Args:
            trial: its number.
            ahead: how many trials before it are about to take a candidate.
            worker: who asks.
        """
        note = Note(self.mark, max(len(self._openers) - 1, 0), -1, False, [], [], worker)
        now = self._standing()
        if ahead < len(now.free):
            return note._replace(candidate=now.free[ahead])
        ahead -= len(now.free)
        pending = sorted(now.pending + now.free)
        wait = self._strategy.needs.order and pending
        if wait or len(pending) + len(now.failed) > MOST:
            return note._replace(candidate=self._second_trial(now.pending, note.round))
        t, first = len(self._openers), len(self.candidates)
        self._ask(now.known | dict.fromkeys(now.failed, math.inf))
        note = Note(
            self.mark,
            t,
            first + min(ahead, self._size - 1),
            opened=True,
            pending=pending,
            failed=now.failed,
            worker=worker,
        )
        self._openers.append([(trial, note)])
        return note

    def _second_trial(self, pending: list[int], t: int) -> int:
        """Who waits for long evaluates what it waits for: whoever had it may be gone.

        The first to wait, as many as the round has candidates, do without one.
        """
        if self._waiting.get(t, 0) < self._size or not pending:
            return -1
        return min(pending, key=lambda one: (len(self._claims[one]), one))

    def _ask(self, losses: dict[int, float]) -> None:
        """Tells losses and asks for another round."""
        for candidate in sorted(losses):
            self._tuner.tell(candidate, losses[candidate])
        self._untold = [one for one in self._untold if one not in losses]
        asked = [self._tuner.ask()]
        asked += [self._tuner.ask() for _ in range(self._tuner.queued)]
        if any(one.budget is not None for one in asked):
            raise ValueError(
                "every proposal must train for the whole budget, because a trial of Optuna has no "
                f"other; the strategy proposed {[one.budget for one in asked]}"
            )
        self._untold += [one.number for one in asked]
        self.candidates += [
            {name: dist.fitted(self.space[name], value) for name, value in one.hparams.items()}
            for one in asked
        ]
        self._size = len(asked)

    def _standing(self) -> Standing:
        now = Standing({}, [], [], [])
        for candidate in self._untold:
            claims = self._trials(candidate)
            if (loss := self._loss([trial for trial, _ in claims])) is not None:
                now.known[candidate] = loss
            elif any(_at_work(trial, note) for trial, note in claims):
                now.pending.append(candidate)
            elif len(claims) >= ATTEMPTS:
                now.failed.append(candidate)
            else:
                now.free.append(candidate)
        return now

    def _trials(self, candidate: int) -> list[tuple[FrozenTrial, Note]]:
        """The trials that evaluate a candidate, and not only say so."""
        wanted = self.candidates[candidate]
        return [
            (trial, note)
            for trial, note in self._claims.get(candidate, [])
            if dist.same(self.space, wanted, trial.params)
            and (self.space.keys() <= trial.params.keys() or not _valued(trial))
        ]

    def _loss(self, trials: list[FrozenTrial]) -> float | None:
        """Of the trial that ended first."""
        ended = [trial for trial in trials if _valued(trial)]
        if not ended:
            return None
        first = min(ended, key=lambda one: (one.datetime_complete or datetime.max, one.number))
        values = first.values or list(_last(first.intermediate_values))
        return self._sign * values[0] if values else math.inf


def _mark(space: dict[str, BaseDistribution], strategy: Strategy, seed: int) -> str:
    """By what every machine agrees on: no numbers that were computed."""
    ask = getattr(strategy.ask, "__qualname__", getattr(strategy.init, "__qualname__", ""))
    state = jax.eval_shape(strategy.init, jax.random.key(0))
    dims = sorted((name, distribution_to_json(one)) for name, one in space.items())
    text = json.dumps([dims, ask, str(state), seed])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _valued(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _at_work(trial: FrozenTrial, note: Note) -> bool:
    if trial.state == TrialState.RUNNING:
        return not dead(note.worker)
    return trial.state == TrialState.WAITING


def _last(values: dict[int, float]) -> Iterable[float]:
    """The value of the last step, if there is one."""
    return [values[max(values)]] if values else []
