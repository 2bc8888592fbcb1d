"""What the strategies of the CMA-ES family share around the update: arguments, bounds, margin."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import Key
from metahpo.space import Space
from metahpo.strategies import cma_parts, margin, parts
from metahpo.strategies.cma_parts import Gaussian, Shape

SMALLEST_POPULATION = 2
COVARIANCES = ("full", "separable")
FACTORS = ("cholesky", "eigen")
PLACES_OUTSIDE, FREE_PLACES = 0.3, 4


def check(
    name: str,
    space: Space,
    population: int,
    initial: chex.Array | None,
    sigma: chex.Numeric,
    covariance: str,
    factor: str,
) -> Shape:
    """The shape of the covariance; raises ``ValueError`` for wrong arguments."""
    parts.check_population(name, population, SMALLEST_POPULATION)
    parts.check_initial(space, population, initial)
    if not isinstance(sigma, jax.core.Tracer) and not (np.asarray(sigma) > 0).all():
        raise ValueError(f"sigma must be positive, got {sigma}")
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance must be one of {COVARIANCES}, got {covariance!r}")
    if factor not in FACTORS:
        raise ValueError(f"factor must be one of {FACTORS}, got {factor!r}")
    return cma_parts.SHAPES["separable" if covariance == "separable" else factor]


def first_points(key: Key, space: Space, population: int, initial: chex.Array | None) -> chex.Array:
    """``f[K, D]``: the points of ``initial``, moved into the unit cube; none without."""
    known = 0 if initial is None else jnp.shape(initial)[0]
    return parts.starting_points(key, space, population, initial)[:known]


def sampled(
    shape: Shape,
    gaussian: Gaussian,
    z: chex.Array,
    widened: chex.Array,
    given: chex.Array,
    first: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """``f[P, D]`` points of the unit cube, and the normal numbers ``f[P, D]`` behind them.

    The first of a first generation are the given ones; their steps are shortened to at most
    ``sqrt(D) + 2 D / (D + 2)`` (Hansen, Injecting external solutions into CMA-ES, 2011).
    """
    g, known, size = gaussian, given.shape[0], z.shape[1]
    if known:
        steps = (given - g.mean) / g.sigma  # the first covariance is the identity
        length = jnp.sqrt((steps**2).sum(1, keepdims=True))
        limit = np.sqrt(size) + 2 * size / (size + 2)
        steps *= jnp.minimum(1.0, limit / jnp.maximum(length, 1e-12))
        z = jnp.where(first, z.at[:known].set(steps), z)
    step = shape.stretch(g.factor, z)
    unit = jnp.clip(g.mean + g.sigma * (step * widened if widened.shape[0] else step), 0.0, 1.0)
    if known:
        unit = jnp.where(first, unit.at[:known].set(given), unit)
    return unit, z


def standing(
    shape: Shape,
    gaussian: Gaussian,
    z: chex.Array,
    widened: chex.Array,
    ranks: chex.Array,
    population: chex.Numeric,
) -> chex.Array:
    """``i32[S]``: the ranks with which samples update the distribution that has drawn them.

    A sample outside the cube has the loss of the point to which it was clipped, which says nothing
    of how far outside it lies.  Without a penalty the search is slow to return: plain clipping
    solves the rotated Rastrigin function of BBOB (5-D, 64 samples) in 12 % of its runs, an
    unbounded search in 33 %.  So a sample loses places, a fifth of the population for each mean
    squared standard deviation outside, which gives 30 % and, because it counts in ranks, does not
    depend on the scale of the losses.  Optima on a bound are still found as fast as by clipping.

    Args:
        shape: what is learned of the covariance.
        gaussian: the distribution that has drawn the samples.
        z: ``f[S, D]``, the standard normal numbers behind them.
        widened: ``f[D]``, by what the margin widens them, or ``f[0]``.
        ranks: ``i32[S]`` of their losses.
        population: how many slots count, those with the lowest ranks; may be traced.
    """
    std = cma_parts.deviations(shape, gaussian)
    step = gaussian.sigma * shape.stretch(gaussian.factor, z)
    if widened.shape[0]:
        std, step = std * widened, step * widened
    point = gaussian.mean + step
    outside = (point - jnp.clip(point, 0.0, 1.0)) / std
    most = PLACES_OUTSIDE * jnp.maximum(population - FREE_PLACES, 0)
    places = ranks + most * (outside**2).mean(1)
    return cma_parts.ranks(jnp.where(ranks < population, places, jnp.inf))


def into_cube(
    shape: Shape,
    gaussian: Gaussian,
    widened: chex.Array,
    found: margin.Cells | None,
    alpha: chex.Numeric,
) -> tuple[Gaussian, chex.Array]:
    """The distribution near the unit cube, with the margin that its integers and choices need."""
    if found is None:
        return bounded(shape, gaussian), widened
    gaussian = bounded(shape, gaussian, widened)
    std = cma_parts.deviations(shape, gaussian) * widened
    mean, more = margin.correct(found, gaussian.mean, std, alpha)
    return gaussian._replace(mean=mean), widened * more


def bounded(shape: Shape, gaussian: Gaussian, widened: chex.Numeric = 1.0) -> Gaussian:
    """The distribution, kept near the unit cube: its mean and its step size are limited.

    Samples are evaluated where they are clipped to the cube but update the distribution where they
    were drawn.  With the mean at most one standard deviation outside, an optimum on the bound is
    sampled exactly, and the search returns to one inside.  Standard deviations above 1 make no
    difference in the cube, so a loss that is the same everywhere cannot blow the step size up.

    Args:
        shape: what is learned of the covariance.
        gaussian: the distribution.
        widened: ``f[D]``, further factors of the standard deviations.
    """
    std = cma_parts.deviations(shape, gaussian) * widened
    shrunk = jnp.minimum(1.0, 1.0 / std.max())
    reach = shrunk * std
    mean = jnp.clip(gaussian.mean, -reach, 1.0 + reach)
    return gaussian._replace(sigma=gaussian.sigma * shrunk, mean=mean)
