"""Ask for candidates and tell their losses, from a loop, a scheduler or a study of one's own.

``minimize`` is this object in a loop.  What a strategy proposes depends on the key and on what it
was told alone, so a tuner is saved as the log of what was asked and told, and restored by going
through it again.
"""

import os
from typing import Any, NamedTuple

import jax
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import FULL_BUDGET, HParams, Key, StopReason, Strategy
from metahpo.floats import double_precision
from metahpo.run import checkpoint, log
from metahpo.run.agreement import check_room, check_same_space, described
from metahpo.run.candidates import message, scalar
from metahpo.run.log import Log
from metahpo.run.loop import strongly_typed
from metahpo.run.records import Failure, MinimizeResult, MinimizeState
from metahpo.run.rounds import Round, history
from metahpo.run.single_precision import SinglePrecision
from metahpo.run.strategy_programs import strategy_programs
from metahpo.stopping import Stopping


class Candidate(NamedTuple):
    """Something to evaluate.

    Attributes:
        number: its place in the order of asking, from 0.
        hparams: Python values in the structure of the space.
        budget: the updates granted, ``None`` for a whole training.
        parent: the number of the candidate whose training it goes on from, ``None`` from scratch.
    """

    number: int
    hparams: HParams
    budget: int | None
    parent: int | None


class WaitingError(RuntimeError):
    """The strategy cannot propose more before it is told the losses of pending candidates."""


class AskTell:
    """A strategy to ask and to tell, one candidate at a time.

    The strategy sees the keys of ``search``: told the same losses it proposes the same candidates.
    Losses and values are of double precision, as the function has them; a strategy that works in
    single precision is told them in an order that is kept (see ``run.single_precision``).  Rules of
    ``stop`` see them as they are.

    Losses may come in any order.  Most strategies propose the next round only when they know all
    losses of the last one; then ``ask`` raises a ``WaitingError`` while some are pending, and
    ``ready`` says so beforehand.  Those with ``needs.order=False`` go on with what they know; only
    one that then leaves all slots idle has to wait, which ``ready`` says as soon as ``ask`` did.

    Args:
        space: the search space.
        strategy: proposes a population of candidates a round; needs no gradients.
        key: the only source of randomness; ``jax.random.key(0)`` without one and without ``seed``.
        seed: makes the key, in place of ``key``.
        rounds: the most rounds; as many as are asked for without.
        stop: ends the run, as in ``search``.
        state: goes on from an earlier tuner's ``state``, with ``rounds`` more, as if both were one;
            key and strategy must be the same.
        trainings: whether whoever evaluates can go on from the trainings of other candidates.

    Attributes:
        reason: a ``StopReason``, ``RUNNING`` while the strategy goes on.
        lowest: the lowest loss that was told, as it was told.

    Raises:
        ValueError: for a space that is not one, a strategy that needs gradients, no rounds, a
            state that key, space and strategy do not lead to.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> tuner = AskTell(space, mh.strategies.random(space, population=4), rounds=2)
        >>> while not tuner.over:
        ...     candidate = tuner.ask()
        ...     tuner.tell(candidate.number, candidate.hparams["x"] ** 2)
        >>> tuner.result().history.loss.shape
        (2, 4)
    """

    def __init__(
        self,
        space: spaces.Space,
        strategy: Strategy,
        *,
        key: Key | None = None,
        seed: int | None = None,
        rounds: int | None = None,
        stop: Stopping | None = None,
        state: MinimizeState | None = None,
        trainings: bool = False,
    ) -> None:
        spaces.size(space)  # refuses what is not a space
        checks.record("strategy", strategy, Strategy, "a function of mh.strategies")
        if stop is not None:
            checks.record("stop", stop, Stopping, "mh.stopping.when")
        check_same_space(strategy, space)
        if strategy.needs.gradients:
            raise ValueError(
                "a strategy that needs gradients (needs_grad=True) cannot be told losses alone: "
                "make a problem of the function with metahpo.problems.function and use search"
            )
        rounds = None if rounds is None else checks.whole("rounds", rounds)
        self.space, self.strategy, self.limit = space, strategy, rounds
        if key is not None and seed is not None:
            raise ValueError(f"either key or seed decides the randomness, got {key=} and {seed=}")
        seed = 0 if seed is None else checks.whole("seed", seed, at_least=0)
        self.key = jax.random.key(seed) if key is None else key
        self._trainings, self._decode = trainings, spaces.decoder(space)
        init, self._ask, self._tell_all, self._judge = strategy_programs(strategy, stop)
        self._round_key, self._state = init(self.key)
        with double_precision():
            self._rule = None if stop is None else jax.tree.map(strongly_typed, stop.init())
        self._start = self._state
        self.reason = StopReason.RUNNING
        self._rounds: list[Round] = []
        self._open: list[Round] = []  # those with pending candidates
        self._places: list[tuple[int, int]] = []  # round and slot of every candidate
        self._queue: list[Candidate] = []  # not asked for yet, or once more
        self._failures: dict[int, str] = {}
        self._log: list[tuple[int, float, int]] = []  # as in ``MinimizeState``
        self._asked: set[int] = set()
        self._waits = False  # the strategy had nothing to propose for want of pending losses
        self._single = SinglePrecision()
        self._file: Log | None = None
        self.lowest = float("inf")
        if state is not None:
            checks.record("state", state, MinimizeState, "an earlier result's state")
            self._replay(state, "the state")
            self.limit = None if rounds is None else self.rounds + rounds
        check_room(strategy, self.limit)

    @property
    def rounds(self) -> int:
        """Rounds whose losses are all known."""
        return len(self._rounds) - len(self._open)

    @property
    def evaluations(self) -> int:
        """Losses that were told."""
        return len(self._log) - len(self._asked)

    @property
    def pending(self) -> list[int]:
        """The numbers of candidates that were asked for and not told, in order."""
        found = [n for r in self._open for n in r.numbers[r.pending].tolist()]
        return sorted(n for n in found if n in self._asked)

    @property
    def parents(self) -> set[int]:
        """The candidates whose trainings may still be gone on from, whether by now or later."""
        holders = self._rounds[-1].holders.tolist() if self._rounds else []
        sources = [n for r in self._open for n in r.sources[r.pending].tolist()]
        return {number for number in (*holders, *sources) if number >= 0}

    @property
    def queued(self) -> int:
        """Candidates of the last round that were not asked for yet."""
        return len(self._queue)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.reason != StopReason.RUNNING or self.rounds == self.limit

    @property
    def ready(self) -> bool:
        """Whether ``ask`` has a candidate now."""
        if self.over:
            return False
        if self._queue:
            return True
        wait = self._waits or (self.strategy.needs.order and bool(self._open))
        return not wait and len(self._rounds) != self.limit

    def ask(self) -> Candidate:
        """The next candidate.

        Raises:
            WaitingError: if nothing can be proposed before pending candidates are told.
            RuntimeError: if the run is over, or the strategy has come to its end.
            ValueError: if a candidate goes on from a training though ``trainings`` is false.
        """
        while not self._queue:  # a round may be idle as a whole
            if self.over:
                raise RuntimeError(f"the run is over after {self.rounds} rounds")
            if not self.ready:
                raise WaitingError(f"the losses of the candidates {self.pending} must come first")
            self._propose()
        candidate = self._queue.pop(0)
        if candidate.number not in self._asked:
            if self._file is not None:
                t, slot = self._places[candidate.number]
                self._file.asked(*candidate[:2], self._rounds[t].units[slot])
            self._asked.add(candidate.number)
            self._log.append((~candidate.number, 0.0, 0))
        return candidate

    def tell(self, number: int, loss: Any, *, steps: int | None = None) -> None:
        """Tells the loss of a candidate.

        Args:
            number: the candidate's.
            loss: a real scalar, or the exception because of which there is none; an exception, and
                what is not finite, is the worst loss.
            steps: the updates behind it, at least 1; by default what was granted, or 1, on top of
                those of the training that it went on from.

        Raises:
            ValueError: for a candidate that was not asked for or has been told, a loss that is
                not a real scalar, or no steps.
        """
        number = checks.whole("number", number, at_least=0)
        steps = None if steps is None else checks.whole("steps", steps)
        if number not in self._asked:
            raise ValueError(f"candidate {number} was not asked for")
        t, slot = self._places[number]
        if not self._rounds[t].pending[slot]:
            raise ValueError(f"candidate {number} has been told already")
        if isinstance(loss, BaseException):
            self._failures[number] = message(loss)
            loss = float("inf")
        self._tell(number, scalar(loss), self._steps(t, slot) if steps is None else steps)

    def result(self) -> MinimizeResult:
        """What is known so far; pending candidates have an infinite loss and the budget 0.

        Raises:
            ValueError: if nothing was asked for yet.
        """
        if not self._rounds:
            raise ValueError("there is no result before the first candidate")
        record = history(self._rounds, self.limit or len(self._rounds))
        t, slot = np.unravel_index(np.argmin(record.loss), record.loss.shape)
        reason = self.reason
        if self.over and reason == StopReason.RUNNING:
            reason = StopReason.BUDGET
        return MinimizeResult(
            best_loss=float(record.loss[t, slot]),
            best_hparams=self._decode(record.unit[t])[slot],
            history=record,
            best_unit=record.unit[t, slot],
            evaluations=int((record.budget > 0).sum()),
            nonfinite=int(record.nonfinite.sum()),
            failures=[self.failure(number) for number in sorted(self._failures)],
            rounds=self.rounds,
            stop_reason=reason,
            strategy=self._state,
            state=self.state,
        )

    @property
    def state(self) -> MinimizeState:
        """All that another tuner needs to go on."""
        numbers, losses, steps = zip(*self._log, strict=True) if self._log else ((), (), ())
        places = [self._places[max(number, ~number)] for number in numbers]
        return MinimizeState(
            np.array(numbers, np.int64),
            np.array(losses, np.float64),
            np.array(steps, np.int32),
            np.array([self._rounds[t].units[slot] for t, slot in places]),
            tuple(self._failures.items()),
        )

    def failure(self, number: int, error: BaseException | None = None) -> Failure:
        """A candidate and what went wrong with it, as it was told or as ``error`` says."""
        t, slot = self._places[number]
        what = self._failures[number] if error is None else message(error)
        return Failure(t, slot, self._candidate(t, slot).hparams, what)

    def save(self, directory: str | os.PathLike[str], about: str = "") -> None:
        """Writes a checkpoint, of which the newest two stay; needs the extra ``checkpoint``.

        Args:
            directory: new, empty, or one that this tuner was saved in or restored from.
            about: what else must be the same for it to fit, in words of your own.

        Raises:
            ValueError: if the folder is not writable or holds something else.
        """
        folder = checkpoint.prepare(directory, resume=True)
        if not self._log:
            return
        part = sum(int((r.steps > 0).sum()) for r in self._open)
        log, mark = self.state._replace(failures=()), self._mark(about)
        checkpoint.save(folder, self.rounds, log, mark, part, list(self._failures.items()))

    def restore(self, directory: str | os.PathLike[str], about: str = "") -> None:
        """Goes on from the newest checkpoint in a folder, if there is one.

        Candidates that were asked for and not told are asked for again, before all others.  There
        may be more rounds than there were, and another rule: it counts from the first round.

        Raises:
            ValueError: if this tuner was asked before, or the checkpoint is damaged, of another
                run, of one with more rounds, or does not lead to the same candidates again.
        """
        if self._log:
            raise ValueError("a tuner that was asked for candidates cannot be restored")
        folder = checkpoint.prepare(directory, resume=True)
        like = MinimizeState(
            np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.int32), np.zeros((1, 1)), ()
        )
        found = checkpoint.restore(folder, like, self._mark(about))
        if found is None:
            return
        notes = checkpoint.restore_notes(folder)
        self._go_on(found[1]._replace(failures=notes), f"the checkpoint in {str(folder)!r}")

    def keep_log(self, directory: str | os.PathLike[str], about: str = "") -> None:
        """Goes on from the log in a folder, and from now on writes there what is asked and told.

        A line is written before ``ask`` and ``tell`` return, so that a process that is killed has
        lost nothing that it was told.  The file ``log.jsonl`` has a JSON object a line; otherwise
        as ``restore``, without an extra.

        Raises:
            ValueError: if the folder is not writable or holds something else, and as ``restore``.
        """
        if self._log:
            raise ValueError("a tuner that was asked for candidates cannot be restored")
        file = Log(log.prepare(directory, resume=True), self._mark(about))
        if file.found is not None:
            self._go_on(file.found, f"the log {str(file.path)!r}")
        self._file = file

    def _go_on(self, state: MinimizeState, what: str) -> None:
        """Goes through a log again that has no more rounds than there may be."""
        limit = self.limit
        self._replay(state, what)
        if limit is not None and len(self._rounds) > limit:
            raise ValueError(f"{what} has {len(self._rounds)} rounds, more than the {limit} asked")
        self.limit = limit

    def _replay(self, state: MinimizeState, what: str) -> None:
        """Goes through a log again, without an end to the rounds."""
        self.limit, self._failures = None, dict(state.failures)
        for number, loss, steps, unit in zip(*state[:4], strict=True):
            if number >= 0:
                self._tell(int(number), float(loss), int(steps))
                continue
            self.reason = StopReason.RUNNING  # the run went on, whatever this rule says
            if not self._asked_again(~int(number), unit):
                raise ValueError(
                    f"{what} does not lead to the same candidate {~number} again: the key, the "
                    "strategy, or the version of JAX, is another"
                )
        self._queue = [self._candidate(*self._places[n]) for n in self.pending] + self._queue

    def _asked_again(self, number: int, unit: np.ndarray) -> bool:
        """Asks for a candidate as the log says; whether it is the one that it was."""
        candidate = self.ask()
        t, slot = self._places[candidate.number]
        return candidate.number == number and np.array_equal(self._rounds[t].units[slot], unit)

    def _propose(self) -> None:
        """Asks the strategy for another round; one of idle slots may mean to wait, or the end."""
        for r in self._open:  # none, where it waits for all losses
            if r.new.any():
                self._tell_strategy(r)
        t = len(self._rounds)
        proposal, state, tell_key = self._ask(self._round_key, np.int32(t), self._state)
        if not np.any(np.asarray(proposal.budget) > 0):
            if self._open:
                self._waits = True
                return
            if self.strategy.stop is not None and (own := int(self.strategy.stop(self._state))):
                self.reason = StopReason(own)
                return
        self._state = state
        if (parent := int(np.asarray(proposal.parent).max())) >= 0 and not self._trainings:
            raise ValueError(
                "every proposal must train from scratch (parent -1), because there is no training "
                f"state to go on from; the strategy proposed parent {parent}"
            )
        holders = self._rounds[-1].holders if t else None
        r = Round(proposal, tell_key, len(self._places), holders)
        self._rounds.append(r)
        slots = np.flatnonzero(r.numbers >= 0).tolist()
        self._places += [(t, slot) for slot in slots]
        hparams = self._decode(r.units)
        self._queue += [self._candidate(t, slot, hparams) for slot in slots]
        if slots:
            self._open.append(r)
        else:
            self._tell_strategy(r)

    def _tell(self, number: int, loss: float, steps: int) -> None:
        t, slot = self._places[number]
        r = self._rounds[t]
        if self._file is not None:
            self._file.told(number, loss, steps, self._failures.get(number))
        self._waits = False
        r.learn(slot, loss, steps, number in self._failures)
        self._log.append((number, loss, steps))
        self.lowest = min(self.lowest, loss) if np.isfinite(loss) else self.lowest
        if not r.pending.any():
            self._open.remove(r)
            self._tell_strategy(r)

    def _tell_strategy(self, r: Round) -> None:
        """Tells what is new of a round."""
        key, evaluation = r.news()
        loss, dtype = evaluation.loss, r.units.dtype
        told = loss if dtype == np.float64 else self._single.told(loss).astype(dtype)
        self._state, own = self._tell_all(
            key, self._state, r.proposal, evaluation._replace(loss=told)
        )
        ruled = StopReason.RUNNING
        if self._rule is not None:
            with double_precision():  # targets and tolerances are those of the function
                self._rule, ruled = self._judge(self._rule, r.proposal, evaluation)
        if self.reason == StopReason.RUNNING:
            self.reason = StopReason(int(ruled) or int(own))

    def _steps(self, t: int, slot: int) -> int:
        """The updates behind a candidate once it had those that it was granted."""
        r = self._rounds[t]
        granted, source = int(r.budgets[slot]), int(r.sources[slot])
        before = 0
        if source >= 0:
            t, slot = self._places[source]
            before = int(self._rounds[t].steps[slot])
        return before + (1 if granted == FULL_BUDGET else granted)

    def _candidate(self, t: int, slot: int, hparams: list[HParams] | None = None) -> Candidate:
        r = self._rounds[t]
        decoded = self._decode(r.units) if hparams is None else hparams
        budget, source = int(r.budgets[slot]), int(r.sources[slot])
        return Candidate(
            int(r.numbers[slot]),
            decoded[slot],
            None if budget == FULL_BUDGET else budget,
            None if source < 0 else source,
        )

    def _mark(self, about: str) -> checkpoint.Fingerprint:
        dims = "; ".join(f"{name}: {dim}" for name, dim in described(self.space).items())
        return checkpoint.fingerprint(self.key, None, self._start, f"{dims} {about}".strip())
