"""The search: populations of every family, and which family has the next round."""

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

import metahpo.space as spaces
from metahpo.automl.metrics import Metric
from metahpo.automl.models.family import Family, Task
from metahpo.automl.preprocessing import Statistics
from metahpo.automl.programs import fitting
from metahpo.automl.tables.padding import Table
from metahpo.base import Evaluation, PyTree, Strategy
from metahpo.hinted import as_points, hinted
from metahpo.space import Space

StrategyMaker = Callable[[Space, int], Strategy]
"""``(space, population) -> Strategy``, as those of ``mh.strategies`` are called."""


class Trial(NamedTuple):
    """A configuration that was fitted on every fold.

    Attributes:
        family: the name of its family.
        hparams: its hyperparameters, Python values.
        loss: of its out-of-fold predictions.
        fold_loss: ``f32[F]``.
        round: in which it was tried.
        unit: ``f[D]``, the hyperparameters in the unit cube; empty where it is not kept.
        out_of_fold: ``f32[N, P]``; ``None`` where it is not kept.
        weights: arrays ``[1, F, ...]``; ``None`` where they are not kept.
    """

    family: str
    hparams: Any
    loss: float
    fold_loss: np.ndarray
    round: int
    unit: np.ndarray
    out_of_fold: np.ndarray | None
    weights: PyTree


class Found(NamedTuple):
    """What a search has tried.

    Attributes:
        trials: in their order.
        statistics: of the features, by transform.
        rounds: the family and the number of trials of each.
        stopped: why it ended: ``"budget"`` or ``"deadline"``.
        seconds: that it took.
    """

    trials: list[Trial]
    statistics: dict[str, Statistics]
    rounds: list[tuple[str, int]]
    stopped: str
    seconds: float


class _Branch:
    """A family, its strategy, and what it has found."""

    def __init__(
        self, family: Family, index: int, task: Task, shape: tuple[int, int], make: StrategyMaker
    ) -> None:
        self.family, self.index = family, index
        self.init, self.ask, self.tell, self.decode = _strategy(family, task.kind, make)
        self.losses: list[float] = []
        self.seconds = 0.0
        self.rounds = 0
        self.operations = family.operations(*shape, task) * family.population
        self.state: PyTree = None

    def promise(self, best: float) -> float:
        """The improvement to be expected of another member, an operation.

        The better half of the family's losses are a kernel density of the next one's.
        """
        losses = np.sort([loss for loss in self.losses if math.isfinite(loss)])
        losses = losses[: -(-len(losses) // 2)]
        if not len(losses):
            return 0.0
        width = losses.std() * len(losses) ** -0.2 + 1e-4 * abs(best) + 1e-12
        z = (best - losses) / width
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        below = np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in z])
        gain = float((width * (z * below + density)).mean())
        return gain / self.operations * self.family.population


@lru_cache(maxsize=256)
def _strategy(family: Family, kind: str, make: StrategyMaker) -> tuple[Callable, ...]:
    """Compiled once, with what makes values of points; the portfolio comes first."""
    space = family.space(kind)
    strategy = make(space, family.population)
    if strategy.needs.gradients or strategy.needs.sizes:
        raise ValueError(
            "strategy must be one that trains from scratch by losses alone, as random, "
            "differential_evolution or gaussian_process, not one that needs gradients or budgets"
        )
    strategy = hinted(strategy, as_points(space, family.portfolio(kind)))
    programs = (jax.jit(each) for each in (strategy.init, strategy.ask, strategy.tell))
    return *programs, spaces.decoder(space)


def search(
    seed: int,
    table: Table,
    task: Task,
    metric: Metric,
    families: Sequence[Family],
    *,
    budget: int,
    deadline: float | None = None,
    strategy: StrategyMaker,
    progress: Callable[[str], None] | None = None,
) -> Found:
    """Fits populations, round after round, until the budget or the time is used up.

    Every family has a round in the order that they are given; from then on the next round is that
    of the family from whose losses most improvement is to be expected, an operation.  So what is
    tried does not depend on the machine's speed, and a search with less budget is the beginning of
    one with more.  A deadline ends it between rounds: before a round that would not be finished if
    it took as long as the last one of its family, or of a new family as the longest so far.

    Args:
        seed: of everything random.
        table: padded.
        task: what shapes the programs.
        metric: that decides.
        families: to choose from.
        budget: configurations to try, each on all folds.
        deadline: seconds from now.
        strategy: of every family.
        progress: is told of every round, in words.
    """
    begin = time.monotonic()
    shape = (int(table.rows.x.shape[0]), int(table.rows.x.shape[1]))
    branches = [_Branch(f, i, task, shape, strategy) for i, f in enumerate(families)]
    key = jax.random.key(seed)
    trials: list[Trial] = []
    statistics: dict[str, Statistics] = {}
    rounds: list[tuple[str, int]] = []
    stopped = "budget"
    while len(trials) < budget:
        branch = _next(branches, trials)
        longest = max(branch.seconds for branch in branches)
        if rounds and _late(branch.seconds or longest, begin, deadline):
            stopped = "deadline"
            break
        start = time.monotonic()
        new, found = _round(branch, key, table, task, metric, len(rounds), budget - len(trials))
        branch.seconds = time.monotonic() - start
        statistics[branch.family.transform] = found
        trials += new
        rounds.append((branch.family.name, len(new)))
        if progress is not None:
            best = min(new, key=lambda trial: trial.loss).loss
            progress(
                f"round {len(rounds)}, {branch.family.name}: {len(trials)} of {budget} "
                f"configurations, best loss {best:.4g}, {min(t.loss for t in trials):.4g} in all"
            )
    return Found(trials, statistics, rounds, stopped, time.monotonic() - begin)


def _next(branches: list[_Branch], trials: list[Trial]) -> _Branch:
    for branch in branches:
        if not branch.rounds:
            return branch
    best = min(trial.loss for trial in trials)
    return max(branches, key=lambda branch: branch.promise(best))


def _late(seconds: float, begin: float, deadline: float | None) -> bool:
    """Whether a round of so many seconds would end too late."""
    return deadline is not None and time.monotonic() - begin + seconds > deadline


def _round(
    branch: _Branch, key: Any, table: Table, task: Task, metric: Metric, number: int, left: int
) -> tuple[list[Trial], Statistics]:
    """A round of a family; members beyond what is left are not looked at."""
    own = jax.random.fold_in(jax.random.fold_in(key, branch.index), branch.rounds)
    keys = jax.random.split(own, 4)
    if branch.state is None:
        branch.state = branch.init(keys[0])
    proposal, branch.state = branch.ask(keys[1], branch.state)
    fitted = jax.device_get(fitting(branch.family, task, metric)(keys[2], proposal.unit, table))
    told = Evaluation(fitted.loss, None, np.ones(len(fitted.loss), np.int32))
    branch.state = branch.tell(keys[3], branch.state, proposal, told)
    branch.rounds += 1
    units = np.asarray(proposal.unit)
    count = min(left, len(units))
    hparams = branch.decode(units)
    new = [
        Trial(
            branch.family.name,
            hparams[i],
            float(fitted.loss[i]),
            fitted.fold_loss[i],
            number,
            units[i],
            fitted.out_of_fold[i],
            jax.tree.map(lambda a, i=i: np.array(a[i : i + 1]), fitted.weights),
        )
        for i in range(count)
    ]
    branch.losses += [trial.loss for trial in new]
    return new, fitted.statistics
