"""What a recommender is worth on tasks that it has not seen."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key
from metahpo.report import Interval, interval
from metahpo.transfer.constant import best_on_average, greedy_portfolio
from metahpo.transfer.experience import Experience
from metahpo.transfer.past import Past, past_of, permuted, without
from metahpo.transfer.recommender import Recommender

AT_ONCE = 4  # tasks that are left out side by side


class LeftOut(NamedTuple):
    """What was suggested for every task by those who had not seen it.

    Attributes:
        chosen: ``i32[T, K]``, numbers of configurations.
        low: ``f[T, K]``, the lower end of the interval for the regret of each.
        high: ``f[T, K]``, its upper end.
        mean: ``f[T, K]``, the expected regret.
        log_density: ``f[T, K]``, of the regrets that there were.
    """

    chosen: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    log_density: np.ndarray


class Evaluation(NamedTuple):
    """What ``evaluate`` finds.

    Attributes:
        k: the numbers of suggestions.
        tasks: ``T`` names.
        regret: ``f64[len(k), T]``, the lowest normalised regret among the first ``k`` suggestions.
        portfolio: ``f64[len(k), T]``, that of the unconditional greedy portfolio, learned likewise.
        average: ``f64[T]``, that of the configuration that is best on average.
        worth: ``f64[len(k)]``, how many evaluations random search needs for the same mean regret.
        p_value: ``f64[len(k)]``, Wilcoxon's signed-rank test of ``regret`` against ``portfolio``,
            two-sided.
        coverage: the share of tasks whose first suggestion's regret lies in its interval.
        log_density: the mean logarithm of the predicted density of that regret.
        risk: ``f64[T]``, the mean regret of the first suggestion over the 1 ... ``T`` tasks that it
            is most confident of, by the upper end of the interval.
        permuted: ``f64[P, len(k), T]``, regrets after descriptors were exchanged among the tasks.
        constant: ``f64[len(k), T]``, regrets where all descriptors are the same.
        left_out: a ``LeftOut``.
    """

    k: tuple[int, ...]
    tasks: tuple[str, ...]
    regret: np.ndarray
    portfolio: np.ndarray
    average: np.ndarray
    worth: np.ndarray
    p_value: np.ndarray
    coverage: float
    log_density: float
    risk: np.ndarray
    permuted: np.ndarray
    constant: np.ndarray
    left_out: LeftOut

    @property
    def mean(self) -> list[Interval]:
        """The mean regret for every ``k``, with a 95 % interval over tasks."""
        return [interval(row) for row in self.regret]


def evaluate(
    recommender: Recommender,
    experience: Experience,
    k: Sequence[int] = (1, 2, 4, 8),
    *,
    key: Key | None = None,
    grouped: bool = False,
    controls: int = 2,
    coverage: float = 0.9,
) -> Evaluation:
    """Leaves out one task after the other, and sees how what is suggested for it would have done.

    What is learned for a task comes from a past in which nothing of it is left, neither descriptor
    nor score; only then the recommender is shown its descriptor.  The scores of the task are looked
    up when all has been suggested.

    Args:
        recommender: what is evaluated.
        experience: of tasks that have tried all configurations; others are left out altogether.
        k: numbers of suggestions.
        key: of what recommenders draw, and of the permutations.
        grouped: whether near-duplicates of a task are left out with it.
        controls: permutations of the descriptors; 0 leaves both controls out.
        coverage: of the intervals.

    Returns:
        An ``Evaluation``.

    Raises:
        ValueError: for fewer than three tasks that have tried all, or numbers of suggestions that
            are below 1 or above that of the configurations.

    Example:
        >>> import numpy as np, metahpo as mh
        >>> rows = np.linspace(0.0, 1.0, 12)[:, None]
        >>> scores = abs(rows - np.linspace(0.0, 1.0, 5))
        >>> past = mh.transfer.experience({"x": mh.Int(0, 4)}, rows, [{"x": i} for i in range(5)],
        ...                               scores)
        >>> found = evaluate(mh.transfer.nearest_tasks(), past, k=(1, 2), controls=1)
        >>> bool(found.regret[0].mean() < found.average.mean()), found.regret.shape
        (True, (2, 12))
    """
    checks.record("recommender", recommender, Recommender, "mh.transfer.greedy_portfolio")
    checks.record("experience", experience, Experience, "mh.transfer.experience")
    counts = tuple(checks.whole("k", number) for number in k)
    if not counts or max(counts) > len(experience.unit):
        raise ValueError(
            f"k must be numbers of at most {len(experience.unit)} configurations, got {counts}"
        )
    controls = checks.whole("controls", controls, at_least=0)
    checks.share("coverage", coverage)
    whole = experience.take(np.flatnonzero(~np.isnan(experience.losses()).any(1)))
    if len(whole.tasks) < 3:
        raise ValueError(
            f"at least three tasks must have tried all configurations, got {len(whole.tasks)}"
        )
    past = past_of(whole)
    key = jax.random.key(0) if key is None else key
    most = max(counts)

    def run(recommender: Recommender, past: Past, part: int = 0) -> LeftOut:
        run_key = jax.random.fold_in(key, part)
        found = leave_out(recommender, run_key, past, most, grouped, coverage)
        return LeftOut(*map(np.asarray, found))

    regret = np.asarray(past.regret, np.float64)
    left_out = run(recommender, past)
    reached = _reached(regret, left_out.chosen, counts)
    portfolio = _reached(regret, run(greedy_portfolio(), past).chosen, counts)
    average = _reached(regret, run(best_on_average(), past).chosen, (1,))[0]
    exchanged, same = [], np.full_like(reached, np.nan)
    for number in range(controls):
        shuffled = permuted(jax.random.fold_in(key, 1000 + number), past)
        exchanged.append(_reached(regret, run(recommender, shuffled, 1 + number).chosen, counts))
    if controls:
        flat = past._replace(descriptors=jnp.zeros_like(past.descriptors))
        same = _reached(regret, run(recommender, flat, 999).chosen, counts)
    first = regret[np.arange(len(regret)), left_out.chosen[:, 0]]
    inside = (first >= left_out.low[:, 0] - 1e-6) & (first <= left_out.high[:, 0] + 1e-6)
    order = np.argsort(left_out.high[:, 0], kind="stable")
    return Evaluation(
        k=counts,
        tasks=whole.tasks,
        regret=reached,
        portfolio=portfolio,
        average=average,
        worth=np.array([worth(regret, row.mean()) for row in reached]),
        p_value=np.array([wilcoxon(a, b) for a, b in zip(reached, portfolio, strict=True)]),
        coverage=float(inside.mean()),
        log_density=float(left_out.log_density[:, 0].mean()),
        risk=np.cumsum(first[order]) / np.arange(1, len(first) + 1),
        permuted=np.array(exchanged).reshape(-1, *reached.shape),
        constant=same,
        left_out=left_out,
    )


@partial(jax.jit, static_argnums=(0, 3, 4, 5))
def leave_out(
    recommender: Recommender, key: Key, past: Past, most: int, grouped: bool, coverage: float
) -> LeftOut:
    """One program for all tasks; the regret of a task left out is read for its density alone."""

    def one(task: chex.Array) -> LeftOut:
        itself = jnp.arange(len(past.there)) == task
        out = past.group == past.group[task] if grouped else itself
        memory = recommender.learn(key, without(past, out))
        descriptor = past.descriptors[task]
        chosen = recommender.choose(memory, descriptor, most)
        found = recommender.outcomes(memory, descriptor)
        found = found._replace(values=found.values[chosen])
        low, high = found.interval(coverage)
        density = found.log_density(past.regret[task][chosen])
        return LeftOut(chosen, low, high, found.mean, density)

    return jax.lax.map(one, jnp.arange(len(past.there)), batch_size=AT_ONCE)


def _reached(regret: np.ndarray, chosen: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """``f64[len(counts), T]``."""
    tried = np.take_along_axis(regret, chosen.astype(int), axis=1)
    return np.minimum.accumulate(tried, axis=1)[:, np.array(counts) - 1].T


def of_random_search(regret: np.ndarray, most: int) -> np.ndarray:
    """``f64[most, T]``: expected regrets of random search after 1 ... ``most`` evaluations.

    Exact, for draws without replacement from the configurations.

    Example:
        >>> of_random_search(np.array([[0.0, 0.5, 1.0]]), 3)[:, 0].round(3).tolist()
        [0.5, 0.167, 0.0]
    """
    ordered = np.sort(regret, axis=1)
    size = ordered.shape[1]
    rank = np.arange(size)
    found = []
    left = np.full(size, 1.0)  # the probability that the lowest is at this rank or behind
    for number in range(most):
        # One more draw: all of them lie behind the ranks before.
        left = left * np.maximum(size - rank - number, 0) / (size - number)
        found.append(ordered @ (left - np.append(left[1:], 0.0)))
    return np.array(found)


def worth(regret: np.ndarray, reached: float) -> float:
    """How many evaluations random search needs for a mean regret, between whole numbers linearly.

    ``inf`` if it is beyond what all configurations give; below 1 it is 1 for a single evaluation's
    regret or more.
    """
    mean = of_random_search(regret, regret.shape[1]).mean(1)
    below = np.flatnonzero(mean <= reached)
    if not len(below):
        return math.inf
    at = int(below[0])
    if at == 0:
        return 1.0
    return at + float((mean[at - 1] - reached) / (mean[at - 1] - mean[at]))


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """The p-value of Wilcoxon's signed-rank test for two paired samples, two-sided.

    By the normal approximation with a correction for ties; pairs without a difference are left out.
    1 where no pair differs.

    Example:
        >>> round(wilcoxon(np.arange(10.0), np.arange(10.0) + 1 + np.arange(10) / 10), 4)
        0.0051
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    difference = difference[difference != 0]
    count = len(difference)
    if not count:
        return 1.0
    _, place, ties = np.unique(np.abs(difference), return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - (ties - 1) / 2)[place]
    positive = rank[difference > 0].sum()
    middle = count * (count + 1) / 4
    variance = count * (count + 1) * (2 * count + 1) / 24 - (ties**3 - ties).sum() / 48
    return math.erfc(abs(positive - middle) / math.sqrt(2 * variance))
