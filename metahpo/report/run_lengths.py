"""How long optimisers take to reach their targets: expected running times and distributions.

A target is a loss to be reached; a run length is the number of evaluations until it is.  Runs that
end without success still count: what they cost is part of the expected running time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BBOB_TARGETS = 10.0 ** np.linspace(2, -8, 51)
"""The customary targets for ``f - f_opt``: 51 from 100 down to 1e-8, five a decade."""


class RunLengths(NamedTuple):
    """When runs reached their targets.

    Attributes:
        targets: ``f[T]``.
        hits: ``f[..., T]``, evaluations up to the first with a loss of at most the target; ``inf``
            for a run that never got there.
        total: ``f[...]``, all evaluations of a run.
    """

    targets: np.ndarray
    hits: np.ndarray
    total: np.ndarray


class Distribution(NamedTuple):
    """An empirical cumulative distribution.

    Attributes:
        x: ``f[N]``, ascending run lengths at which it rises.
        share: ``f[N]``, the share of all runs and targets that were reached by then.
    """

    x: np.ndarray
    share: np.ndarray


def run_lengths(
    loss: ArrayLike, targets: ArrayLike = BBOB_TARGETS, evaluated: ArrayLike | None = None
) -> RunLengths:
    """Reads off a history when each run reached each target.

    Args:
        loss: ``f[..., rounds, P]`` as in a search history, in the order of evaluation, with any
            leading axes of runs.  Values that are not finite reach no target.
        targets: ``f[T]``, losses to be reached, in any order.
        evaluated: ``bool[..., rounds, P]``, which entries are evaluations (``history.budget > 0``);
            by default all are.

    Returns:
        ``RunLengths`` with the leading axes of ``loss``.

    Raises:
        ValueError: for a loss without rounds and members, or ``evaluated`` of another shape.

    Example:
        >>> run_lengths([[3.0, 0.5], [0.2, 0.01]], targets=[1.0, 0.1, 0.001]).hits
        array([ 2.,  4., inf])
    """
    losses = np.asarray(loss, dtype=np.float64)
    if losses.ndim < 2:
        raise ValueError(f"a loss must have axes of rounds and members, got shape {losses.shape}")
    counted = np.ones(losses.shape, bool) if evaluated is None else np.asarray(evaluated, bool)
    if counted.shape != losses.shape:
        raise ValueError(
            f"evaluated must have the loss's shape {losses.shape}, got {counted.shape}"
        )
    goals = np.atleast_1d(np.asarray(targets, dtype=np.float64))
    runs = losses.shape[:-2]
    size = losses.shape[-2] * losses.shape[-1]
    best = np.where(np.isfinite(losses) & counted, losses, np.inf).reshape(-1, size)
    best = np.minimum.accumulate(best, axis=1)
    count = np.cumsum(counted.reshape(-1, size), axis=1).astype(np.float64)
    hits = np.full((len(best), len(goals)), np.inf)
    for row, (falling, spent) in enumerate(zip(best, count, strict=True)):
        first = np.searchsorted(-falling, -goals)  # the number of evaluations above the target
        reached = first < size
        hits[row, reached] = spent[first[reached]]
    return RunLengths(goals, hits.reshape(*runs, len(goals)), count[:, -1].reshape(runs))


def expected_running_time(lengths: RunLengths) -> np.ndarray:
    """ERT: what a success costs on average, with the failures before it.

    The evaluations of all runs, each until it reached the target or until its end, divided by the
    number of those that reached it.

    Args:
        lengths: of runs along the first axis.

    Returns:
        ``f[..., T]``, the leading axis of runs gone; ``inf`` where no run succeeded.

    Raises:
        ValueError: without an axis of runs.

    Source:
        Hansen, Auger, Finck & Ros, "Real-parameter black-box optimization benchmarking 2010:
        experimental setup", INRIA RR-7215 (2010), section 5.

    Example:
        >>> lengths = RunLengths(np.array([0.1]), np.array([[30.0], [np.inf]]), np.array([50, 90]))
        >>> expected_running_time(lengths)
        array([120.])
    """
    if np.ndim(lengths.total) < 1 or len(lengths.total) == 0:
        raise ValueError(f"expected_running_time needs several runs, got {lengths.total!r}")
    return _running_time(lengths.hits, lengths.total)


def running_time_interval(
    lengths: RunLengths, confidence: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap of the expected running time over the runs.

    Args:
        lengths: of runs along the first axis.
        confidence: of the interval, between 0 and 1.
        samples: how often the runs are drawn again with replacement.
        seed: of NumPy's generator.

    Returns:
        Lower and upper ends, each like ``expected_running_time``'s result; the upper one is ``inf``
        where too many draws contain no success.

    Raises:
        ValueError: for a confidence outside (0, 1), no samples, or no axis of runs.

    Source:
        Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must be between 0 and 1, got {confidence}")
    if samples < 1:
        raise ValueError(f"a bootstrap needs at least one sample, got {samples}")
    like = expected_running_time(lengths)
    rng = np.random.default_rng(seed)
    count = len(lengths.total)
    drawn = np.empty((samples, *like.shape))
    for i in range(samples):
        rows = rng.integers(0, count, count)
        drawn[i] = _running_time(lengths.hits[rows], lengths.total[rows])
    drawn.sort(axis=0)
    # Single order statistics, because there is nothing between a number and infinity.
    low = int(np.floor((1 - confidence) / 2 * (samples - 1)))
    return drawn[low], drawn[samples - 1 - low]


def distribution(hits: ArrayLike) -> Distribution:
    """The share of runs and targets that are reached within a number of evaluations.

    Args:
        hits: run lengths of any shape, all pooled (runs, targets, functions), ``inf`` for those
            that are never reached; divide them by the dimension first where that is the unit.

    Returns:
        A ``Distribution`` that begins at its shortest run length; empty if nothing is reached.

    Raises:
        ValueError: without run lengths, or for one that is not a number.

    Example:
        >>> distribution([3.0, 1.0, np.inf, 3.0])
        Distribution(x=array([1., 3.]), share=array([0.25, 0.75]))
    """
    lengths = np.ravel(np.asarray(hits, dtype=np.float64))
    if lengths.size == 0 or np.isnan(lengths).any():
        raise ValueError(f"a distribution needs run lengths that are numbers, got {hits!r}")
    x, count = np.unique(lengths[np.isfinite(lengths)], return_counts=True)
    return Distribution(x, np.cumsum(count) / lengths.size)


def _running_time(hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    reached = np.isfinite(hits)
    spent = np.where(reached, hits, np.asarray(total, np.float64)[..., None]).sum(axis=0)
    successes = reached.sum(axis=0)
    return np.where(successes > 0, spent / np.maximum(successes, 1), np.inf)
