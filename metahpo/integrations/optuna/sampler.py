"""Any strategy that trains from scratch, as a sampler of Optuna."""

import threading
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from metahpo import checks
from metahpo.base import Strategy
from metahpo.integrations.optuna import notes
from metahpo.integrations.optuna.replay import Replay

ABOUT_TO = timedelta(seconds=15)
"""A trial that began within this time and has no values yet is about to ask for some."""


class Sampler(BaseSampler):
    """Samples the trials of an Optuna study with a strategy.

    With one worker the trials after the first are the candidates of ``mh.minimize`` with the same
    seed; the space of a study is known only when its first trial has ended.

    - **Space.** The strategy proposes the parameters that all completed trials had, with equal
      distributions.  Others, those of a branch for example, are drawn independently, with a seed
      made of ``seed``, the trial's number and the parameter's name.  When a trial changes what
      all trials have in common, the strategy begins anew in the new space.
    - **Values.** Of a study that maximises they are negated.  A pruned trial counts with its last
      intermediate value, or as infinite without one.  A failed trial's candidate is tried once
      more; if that fails too it is infinite.
    - **Workers.** Threads, and processes on one storage, share one run of the strategy; give all of
      them the same seed.  Running trials are pending.  Strategies with ``needs.order=False``
      (random, sobol, grid, the differential evolutions) go on with what is known; the others need
      the whole of a round, and a worker that finds all of it given out draws its trial
      independently, which the strategy does not learn of.  After as many of those as a round has
      candidates, workers evaluate pending candidates a second time, in case their worker is gone;
      at once where it was a process of this machine that has ended.  The first value counts.
    - **Other trials**, from ``study.enqueue_trial``, ``study.add_trial`` or another sampler, are
      not told to the strategy.  What you know beforehand goes into its ``initial=``.
    - **Ends.** The study ends where you say.  A strategy with reasons of its own to stop goes on;
      ``mh.strategies.bipop_cma_es`` begins again.
    - **Closed and opened again**, a study goes on as if it had never been closed: all that the run
      needs stands in its trials, whose system attribute ``"metahpo"`` says which candidate each
      of them is.  Strategy and seed must be the same; with others, it begins anew.  A trial whose
      process has ended is taken for lost, so whoever asks for it must live until it is told.

    Args:
        strategy: ``(space) -> Strategy``, with the space as a dict of ``Float``, ``Int`` and
            ``Choice`` by parameter: a lambda, or ``functools.partial(mh.strategies.cma_es,
            population=8)`` where the sampler must be pickled.  It must train from scratch, with
            full budgets and without gradients.
        seed: decides all randomness.

    Raises:
        ValueError: within a study of several objectives; for a strategy that needs gradients,
            budgets or the trainings of others; for a distribution that is no dimension (see
            ``mh.Float``).

    Example:
        >>> import optuna
        >>> import metahpo as mh
        >>> sampler = Sampler(lambda space: mh.strategies.cma_es(space, population=6), seed=1)
        >>> study = optuna.create_study(sampler=sampler)
        >>> study.optimize(lambda trial: trial.suggest_float("x", -1.0, 1.0) ** 2, n_trials=30)
        >>> study.best_value < 1e-2
        True
    """

    def __init__(self, strategy: Callable[[dict[str, Any]], Strategy], *, seed: int = 0) -> None:
        checks.function("strategy", strategy, "(space) -> Strategy", None)
        self._strategy, self._seed = strategy, checks.whole("seed", seed, at_least=0)
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._spaces: dict[str, IntersectionSearchSpace] = {}  # by study
        self._replays: dict[str, list[Replay]] = {}  # by study, one a space

    def __getstate__(self) -> dict[str, Any]:
        """Without what the trials tell anyway."""
        dropped = ("_lock", "_spaces", "_replays")
        return {name: value for name, value in vars(self).items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Takes over the candidate of a failed trial, where the study's storage tries it again."""
        if (note := notes.read(trial)) is not None:
            notes.write(study._storage, trial, note._replace(opened=False, worker=notes.worker()))

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What all completed trials have in common; parameters with one value are left out."""
        _check_one_objective(study)
        with self._lock:
            space = self._spaces.setdefault(study.study_name, IntersectionSearchSpace())
            found = space.calculate(study)
        return {name: one for name, one in found.items() if not one.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next candidate of the strategy, or nothing where there is none now."""
        if not search_space:
            return {}
        old = notes.read(trial)  # of a trial that failed, of which this one is a copy
        fixed = trial.system_attrs.get("fixed_params", {})
        if old is None and search_space.keys() & fixed.keys():
            return {}
        with self._lock:
            # All of them, also where a pruner shows a sampler but a part.
            trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
            replay = self._replay(study, search_space)
            noted = [(one, note) for one in trials if (note := notes.read(one)) is not None]
            replay.follow(pair for pair in noted if pair[1].run == replay.mark)
            if old is not None:
                known = old.run == replay.mark and 0 <= old.candidate < len(replay.candidates)
                return replay.candidates[old.candidate] if known else {}
            note = replay.next(trial.number, _ahead(trials, trial), notes.worker())
            notes.write(study._storage, trial, note)
            return replay.candidates[note.candidate] if note.candidate >= 0 else {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A uniform value that depends on the seed, the trial's number and the name alone."""
        _check_one_objective(study)
        entropy = [self._seed, trial.number, zlib.crc32(param_name.encode())]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        one = RandomSampler(seed)
        return one.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Nothing: workers that share a study share its seed."""

    def _replay(self, study: Study, space: dict[str, BaseDistribution]) -> Replay:
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        known = self._replays.setdefault(study.study_name, [])
        for replay in reversed(known):
            if replay.space == space:
                return replay
        known.append(Replay(space, self._strategy, self._seed, sign))
        return known[-1]


def _check_one_objective(study: Study) -> None:
    if len(study.directions) > 1:
        raise ValueError(
            f"the study must have one objective, {study.study_name!r} has {len(study.directions)}"
        )


def _ahead(trials: list[FrozenTrial], trial: FrozenTrial) -> int:
    """How many earlier trials are about to take a candidate, so that no two take the same."""
    since = datetime.now() - ABOUT_TO
    return sum(
        one.state == TrialState.RUNNING
        and one.number < trial.number
        and not one.params
        and "fixed_params" not in one.system_attrs
        and notes.read(one) is None
        and (one.datetime_start or since) > since
        for one in trials
    )
