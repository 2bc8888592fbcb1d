"""A minimisation under way: what a checkpoint holds, and how one round goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Evaluation, HParams, Key, Proposal, PyTree, StopReason, Strategy
from metahpo.run import checkpoint
from metahpo.run.candidates import call, decoder
from metahpo.run.host import check_first
from metahpo.run.loop import loop_keys, strongly_typed
from metahpo.run.records import EvaluationError, Failure, MinimizeResult, SearchHistory, not_run
from metahpo.stopping import Stopping, first


class State(NamedTuple):
    """What a checkpoint holds: everything after some rounds and some members of the next."""

    strategy: PyTree
    stop: PyTree
    reason: chex.Array
    history: SearchHistory  # of numpy arrays, which are filled in place


class Minimization:
    """A minimisation under way.

    Attributes:
        state: a ``State``.
        done: finished rounds.
        part: evaluated members of the round after them.
        failed: ``[round, member, message]`` of every failure.
    """

    def __init__(
        self,
        fn: Callable[[HParams], float],
        space: spaces.Space,
        strategy: Strategy,
        stop: Stopping | None,
        rounds: int,
        key: Key,
        on_error: str,
    ) -> None:
        init_key, self.key = loop_keys(key)
        _, strategy_key, _ = jax.random.split(init_key, 3)  # the keys of ``search``
        self.fn, self.rounds, self.on_error = fn, rounds, on_error
        self.ask, self.told = _compiled(strategy, stop)
        self.candidates = decoder(space)
        self.state = _start(strategy, stop, strategy_key, rounds)
        self.done, self.part = 0, 0
        self.failed: list[Any] = []
        self.folder: Path | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.done == self.rounds or int(self.state.reason) > 0

    def keep_in(self, folder: Path, mark: checkpoint.Fingerprint) -> None:
        """Goes on from the checkpoint in ``folder``, if there is one, and writes more there."""
        self.folder, self.mark = folder, mark
        if found := checkpoint.restore(folder, self.state, mark):
            self.done, state = found
            self.state = state._replace(history=jax.tree.map(np.array, state.history))
            self.part, self.failed = checkpoint.restore_notes(folder)

    def save(self) -> None:
        """Writes a checkpoint, also of a part of a round."""
        if self.folder is not None and (self.done or self.part):
            notes = [self.part, self.failed]
            checkpoint.save(self.folder, self.done, self.state, self.mark, self.part, notes)

    def evaluate(self) -> None:
        """Calls the function for the members of the round that it was not yet called for."""
        self.asked = self.ask(self.key, np.int32(self.done), self.state.strategy)
        proposal = self.asked[0]
        _check_parents(proposal)
        history, t = self.state.history, self.done
        history.unit[t], history.parent[t] = proposal.unit, proposal.parent
        wanted = np.asarray(proposal.budget) > 0
        for member, hparams in enumerate(self.candidates(proposal.unit)):
            if member >= self.part and wanted[member]:
                self._evaluate_one(t, member, hparams)
            self.part = max(self.part, member + 1)

    def _evaluate_one(self, t: int, member: int, hparams: HParams) -> None:
        loss, message, error = call(self.fn, hparams)
        if message is not None:
            if self.on_error == "raise":
                failure = Failure(t, member, hparams, message)
                raise EvaluationError(failure, self.result()) from error
            self.failed.append([t, member, message])
        history, at = self.state.history, (t, member)
        with np.errstate(over="ignore"):  # too large for the type is infinite, and counted
            rounded = np.asarray(loss).astype(history.loss.dtype)
        finite = bool(np.isfinite(rounded))
        history.loss[at] = rounded if finite else np.inf
        history.nonfinite[at], history.budget[at] = not finite, 1  # one call is a whole training
        history.metrics["failed"][at] = message is not None

    def tell(self) -> None:
        """Ends the round."""
        proposal, between, tell_key = self.asked
        losses = self.state.history.loss[self.done]
        if self.done == 0 and (proposal.budget > 0).any():
            self._check_first()
        evaluation = Evaluation(jnp.asarray(losses), None, ())
        told = self.told(tell_key, between, self.state.stop, proposal, evaluation)
        strategy, rule, reason = told
        self.state = State(strategy, rule, reason, self.state.history)
        self.done, self.part = self.done + 1, 0

    def _check_first(self) -> None:
        try:
            check_first(self.state.history)
        except ValueError as error:
            if not self.failed:
                raise
            failure = self._failures()[0]
            raise ValueError(f"{error}; at {failure.hparams}: {failure.message}") from error

    def _failures(self) -> list[Failure]:
        def told(t: int, member: int, message: str) -> Failure:
            hparams = self.candidates(self.state.history.unit[t])[member]
            return Failure(t, member, hparams, message)

        return [told(*failed) for failed in self.failed]

    def result(self) -> MinimizeResult:
        """What has been evaluated so far."""
        history = jax.tree.map(np.copy, self.state.history)
        t, member = np.unravel_index(np.argmin(history.loss), history.loss.shape)
        info = {
            "best_unit": history.unit[t, member],
            "nonfinite": int(history.nonfinite.sum()),
            "failed": len(self.failed),
            "failures": self._failures(),
            "evaluations": int((history.budget > 0).sum()),
            "rounds": self.done,
            "stop_reason": StopReason(int(self.state.reason)),
            "strategy": self.state.strategy,
        }
        if self.done == self.rounds and not info["stop_reason"]:
            info["stop_reason"] = StopReason.BUDGET
        hparams = self.candidates(history.unit[t])[member]
        return MinimizeResult(float(history.loss[t, member]), hparams, history, info)


def _compiled(strategy: Strategy, stop: Stopping | None) -> tuple[Callable, Callable]:
    """The strategy's ``ask``, with the keys of a round of ``search``, and its ``tell``."""

    @jax.jit
    def ask(key: Key, t: jax.Array, state: PyTree) -> tuple[Proposal, PyTree, Key]:
        ask_key, _, tell_key = jax.random.split(jax.random.fold_in(key, t), 3)
        return *strategy.ask(ask_key, state), tell_key

    @jax.jit
    def tell(
        key: Key, state: PyTree, rule: PyTree, proposal: Proposal, evaluation: Evaluation
    ) -> tuple[PyTree, PyTree, chex.Array]:
        state = strategy.tell(key, state, proposal, evaluation)
        if stop is None:
            return state, rule, first()
        rule = stop.update(rule, proposal, evaluation)
        own = () if strategy.stop is None else (strategy.stop(state),)
        return state, rule, first(stop.reason(rule), *own)

    return ask, tell


def _start(strategy: Strategy, stop: Stopping | None, key: Key, rounds: int) -> State:
    """Before the first round, with an empty history."""
    state = jax.jit(lambda key: jax.tree.map(strongly_typed, strategy.init(key)))(key)
    proposal, _ = jax.eval_shape(strategy.ask, key, state)
    shape = (rounds, *proposal.parent.shape)

    def empty(dtype: Any, *more: int) -> np.ndarray:
        return np.zeros((*shape, *more), dtype)

    float_type = proposal.unit.dtype
    unit = empty(float_type, proposal.unit.shape[1])
    parent, budget = empty(proposal.parent.dtype), empty(proposal.budget.dtype)
    metrics = {"failed": empty(bool)}
    losses = empty(float_type)
    history = SearchHistory(unit, losses, parent, budget, None, metrics, empty(bool))
    rule = () if stop is None else jax.tree.map(strongly_typed, stop.init())
    return State(state, rule, np.int32(0), jax.tree.map(np.array, not_run(history)))


def _check_parents(proposal: Proposal) -> None:
    if (parent := int(np.max(proposal.parent))) >= 0:
        raise ValueError(
            "every proposal must train from scratch (parent -1), because a plain callable has no "
            f"training state to go on from; the strategy proposed parent {parent}"
        )
