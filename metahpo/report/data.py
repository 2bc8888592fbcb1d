"""The numbers behind tables and plots; nothing here draws."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A mean and how far it may be off.

    Attributes:
        mean: ``f[...]``, the mean.
        half_width: ``f[...]``; the interval is ``mean`` +- ``half_width``.
        n: number of values behind it.
    """

    mean: np.ndarray
    half_width: np.ndarray
    n: int


class Curve(NamedTuple):
    """A quantity over the budget.

    Attributes:
        x: ``f[N]``, the budget.
        mean: ``f[N]``.
        half_width: ``f[N]``, or ``None`` without a band.
    """

    x: np.ndarray
    mean: np.ndarray
    half_width: np.ndarray | None = None


def best_so_far(loss: ArrayLike, evaluated: ArrayLike | None = None) -> np.ndarray:
    """The lowest loss after each evaluation.

    Args:
        loss: ``f[evaluations]``, or ``f[..., rounds, P]`` as in a search history, with any leading
            axes of seeds and tasks.  Values that are not finite count as infinite.
        evaluated: ``bool[...]`` like ``loss``, false in idle slots, which are no evaluations; all
            are by default.

    Returns:
        ``f[evaluations]`` or ``f[..., rounds * P]``, in the order of the rounds and members.  Idle
        slots are left out, and the end repeats the last value in their place.

    Raises:
        ValueError: for a single number.

    Example:
        >>> best_so_far([[3.0, np.nan], [4.0, 1.0]])
        array([3., 3., 3., 1.])
    """
    losses = _floats(loss)
    if losses.ndim == 0:
        raise ValueError(f"best_so_far needs losses of several evaluations, got {loss!r}")
    if losses.ndim > 1:
        losses = losses.reshape(*losses.shape[:-2], -1)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    if evaluated is not None:
        idle = ~np.broadcast_to(evaluated, np.shape(loss)).reshape(losses.shape)
        order = np.argsort(idle, axis=-1, stable=True)
        losses = np.take_along_axis(np.where(idle, np.inf, losses), order, axis=-1)
    return np.minimum.accumulate(losses, axis=-1)


def regret(loss: ArrayLike, optimum: ArrayLike) -> np.ndarray:
    """How far the best loss so far is above the optimum.

    Args:
        loss: as for ``best_so_far``.
        optimum: the lowest possible loss; a number, or one for each of the leading axes.

    Returns:
        ``f[..., evaluations]``.

    Raises:
        ValueError: for an optimum of another shape.

    Example:
        >>> regret([3.0, 1.5, 2.0], optimum=1.0)
        array([2. , 0.5, 0.5])
    """
    best, lowest = best_so_far(loss), _floats(optimum)
    if lowest.shape not in ((), best.shape[:-1]):
        raise ValueError(
            f"optimum must be a number or one for each of the leading axes {best.shape[:-1]}, "
            f"got shape {lowest.shape}"
        )
    return best - lowest[..., None]


def interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean and confidence interval by Student's t, for independent values.

    For a difference of two methods on the same tasks give the paired differences.

    Args:
        values: ``f[n]`` or ``f[n, ...]``; the mean is over the first axis.
        confidence: probability that the interval covers the true mean, between 0 and 1.

    Returns:
        An ``Interval``; its half-width is ``nan`` for a single value, which tells nothing of the
        spread, and wherever a value is not finite.

    Raises:
        ValueError: without values, or for a confidence outside (0, 1).

    Source:
        Student, "The probable error of a mean", Biometrika 6 (1908).

    Example:
        >>> mean, half_width, n = interval([1.0, 2.0, 3.0, 4.0])
        >>> float(mean), round(float(half_width), 4), n
        (2.5, 2.0543, 4)
    """
    numbers = _floats(values).astype(np.float64)
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must be between 0 and 1, got {confidence}")
    if numbers.ndim == 0 or len(numbers) == 0:
        raise ValueError(f"interval needs at least one value, got shape {numbers.shape}")
    n = len(numbers)
    mean = numbers.mean(axis=0)
    if n == 1:
        return Interval(mean, np.full_like(mean, np.nan), n)
    with np.errstate(invalid="ignore"):  # the spread of infinite values is nan
        error = numbers.std(axis=0, ddof=1) / math.sqrt(n)
    return Interval(mean, t_quantile(0.5 + confidence / 2, n - 1) * error, n)


def without_shared_differences(values: ArrayLike) -> np.ndarray:
    """Values of several methods on the same tasks, less what a task does to all methods alike.

    The means stay as they are; intervals of the result show how sure differences between methods
    are, even where tasks differ far more than methods do.

    Args:
        values: ``f[methods, ..., tasks]``, at least two methods; NaN where a method has none.

    Returns:
        ``f[methods, ..., tasks]``.

    Source:
        Cousineau, "Confidence intervals in within-subject designs" (2005), with the factor of
        Morey (2008), methods / (methods - 1) on the variance.

    Example:
        >>> without_shared_differences([[1.0, 10.0], [2.0, 11.0]])
        array([[5.5, 5.5],
               [6.5, 6.5]])
    """
    numbers = _floats(values).astype(np.float64)
    if numbers.ndim < 2 or len(numbers) < 2:
        raise ValueError(f"there must be at least two methods, got shape {numbers.shape}")
    shared = _mean_of_present(numbers)
    level = numbers.mean(axis=-1, keepdims=True)
    own = numbers - shared - (level - shared.mean(axis=-1, keepdims=True))
    return level + own * math.sqrt(len(numbers) / (len(numbers) - 1))


def _mean_of_present(numbers: np.ndarray) -> np.ndarray:
    """The mean over the first axis, of what is not NaN there."""
    present = ~np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        return np.where(present, numbers, 0).sum(axis=0) / present.sum(axis=0)


def curve(values: ArrayLike, x: ArrayLike | None = None, confidence: float = 0.95) -> Curve:
    """The mean curve of several runs, with its confidence band.

    Args:
        values: ``f[n, N]``: n runs (seeds, tasks), each at the same N budgets.
        x: ``f[N]``, the budgets; 1 ... N without them.
        confidence: as for ``interval``.

    Example:
        >>> curve([[3.0, 1.0], [5.0, 1.0]]).mean
        array([4., 1.])
    """
    numbers = _floats(values)
    if numbers.ndim != 2:
        raise ValueError(f"curve needs values of shape [runs, budgets], got {numbers.shape}")
    budgets = np.arange(1, numbers.shape[1] + 1) if x is None else np.asarray(x)
    if budgets.shape != numbers.shape[1:]:
        raise ValueError(
            f"there must be one budget for each of {numbers.shape[1]} values, got {budgets.shape}"
        )
    mean, half_width, _ = interval(numbers, confidence)
    return Curve(budgets, mean, half_width)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution with a whole number of degrees of freedom.

    Args:
        probability: between 0 and 1.
        degrees: degrees of freedom, at least 1.

    Returns:
        ``t`` with ``P(T <= t) = probability``, to about 1e-10 relative.

    Source:
        Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), section 26.7.

    Example:
        >>> round(t_quantile(0.975, 4), 4)
        2.7764
    """
    if not 0 < probability < 1:
        raise ValueError(f"a probability must be between 0 and 1, got {probability}")
    if degrees != int(degrees) or degrees < 1:
        raise ValueError(f"degrees of freedom must be a whole number above 0, got {degrees}")
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    normal = NormalDist().inv_cdf(probability)
    if degrees > 1000 and normal < 6:
        return _near_normal(normal, degrees)
    low, high = 0.0, 1.0
    while _inside(high, degrees) < 2 * probability - 1:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until no number lies between
        if _inside(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _inside(t: float, degrees: int) -> float:
    """P(|T| <= t), eqs. 26.7.3 (odd degrees of freedom) and 26.7.4 (even)."""
    angle = math.atan2(t, math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    # 26.7.3: 1, 2/3, 2*4/(3*5) ... times cos, cos^3 ...; 26.7.4: 1, 1/2, 1*3/(2*4) ... cos^0, cos^2
    k = np.arange(1, (degrees - odd) // 2)
    ratios = (2 * k) / (2 * k + 1) if odd else (2 * k - 1) / (2 * k)
    series = 1.0 + float(np.cumprod(ratios * cosine**2).sum())
    if not odd:
        return math.sin(angle) * series
    return 2 / math.pi * (angle + (math.sin(angle) * cosine * series if degrees > 1 else 0.0))


def _near_normal(x: float, degrees: int) -> float:
    """Eq. 26.7.5: the expansion in 1/degrees, whose next term is below 1e-12 here."""
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / degrees**i for i, term in enumerate(terms, start=1))


def _floats(values: ArrayLike) -> np.ndarray:
    numbers = np.asarray(values)
    return numbers if np.issubdtype(numbers.dtype, np.floating) else numbers.astype(np.float64)
