"""The 24 noiseless BBOB functions, less their optimal values.

Each is a function of a point ``f[D]`` and of a ``BBOBInstance``, written so that it is zero
at the optimum and keeps its relative precision near it, also in float32: differences of numbers
that are nearly equal are worked out beforehand (``z`` is measured from the optimum, cosines become
squared sines, and so on).  The definitions are those of RR-6829, by its numbers; ``y`` stands for
``x - x_opt`` throughout.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp
import numpy as np

from metahpo.problems.bbob.instances import LUNACEK, SCHWEFEL, BBOBInstance
from metahpo.problems.bbob.transformations import (
    EDGE,
    map_linear,
    oscillate,
    penalty,
    power,
    powers,
    ripple,
    stretch,
)

# The maximum of z sin(sqrt(z)) near 420.97 is where tan(r) = -r / 2 for its root r.
SCHWEFEL_ROOT = 20.51752290994169
SCHWEFEL_SINE = SCHWEFEL_ROOT / (4 + SCHWEFEL_ROOT**2) ** 0.5
WEIERSTRASS_TERMS, KATSUURA_TERMS = 12, 32


def sphere(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f1."""
    return jnp.sum((x - task.x_opt) ** 2)


def separable_ellipsoid(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f2."""
    return jnp.sum(powers(1e6, x) * oscillate(x - task.x_opt) ** 2)


def _rastrigin(z: chex.Array) -> chex.Array:
    return jnp.sum(10 * ripple(z) + z**2)


def separable_rastrigin(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f3."""
    z = stretch(oscillate(x - task.x_opt), 0.2)
    return _rastrigin(powers(10**0.5, x) * z)


def bueche_rastrigin(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f4: uneven coordinates, counted from one, are ten times longer on the positive side."""
    z = oscillate(x - task.x_opt)
    uneven = np.arange(x.shape[-1]) % 2 == 0
    z = jnp.where(uneven & (z > 0), 10 * z, z)
    return _rastrigin(powers(10**0.5, x) * z) + 100 * penalty(x)


def linear_slope(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f5: flat beyond the optimal corner."""
    return jnp.sum(powers(10, x) * jnp.maximum(0.0, EDGE - jnp.sign(task.x_opt) * x))


def attractive_sector(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f6."""
    z = map_linear(task.inner, x - task.x_opt)
    z = jnp.where(z * task.x_opt > 0, 100 * z, z)
    return power(oscillate(jnp.sum(z**2)), 0.9)


def step_ellipsoid(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f7: plateaus; its gradient is zero but for the penalty and the first coordinate."""
    z = map_linear(task.inner, x - task.x_opt)
    steps = jnp.where(jnp.abs(z) > 0.5, jnp.floor(z + 0.5), jnp.floor(10 * z + 0.5) / 10)
    ellipsoid = jnp.sum(powers(100, x) * map_linear(task.outer, steps) ** 2)
    return 0.1 * jnp.maximum(1e-4 * jnp.abs(z[0]), ellipsoid) + penalty(x)


def _rosenbrock(z: chex.Array) -> chex.Array:
    """``f[D - 1]``, the terms, by the distance ``z`` from the optimum at (1, ..., 1)."""
    first, second = z[:-1], z[1:]
    return 100 * ((2 + first) * first - second) ** 2 + first**2


def rosenbrock(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f8."""
    widening = max(1.0, x.shape[-1] ** 0.5 / 8)
    return jnp.sum(_rosenbrock(widening * (x - task.x_opt)))


def rotated_rosenbrock(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f9."""
    return jnp.sum(_rosenbrock(map_linear(task.inner, x - task.x_opt)))


def ellipsoid(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f10."""
    z = oscillate(map_linear(task.inner, x - task.x_opt))
    return jnp.sum(powers(1e6, x) * z**2)


def discus(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f11."""
    z = oscillate(map_linear(task.inner, x - task.x_opt))
    return 1e6 * z[0] ** 2 + jnp.sum(z[1:] ** 2)


def bent_cigar(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f12."""
    z = stretch(map_linear(task.inner, x - task.x_opt), 0.5)
    z = map_linear(task.outer, z)
    return z[0] ** 2 + 1e6 * jnp.sum(z[1:] ** 2)


def sharp_ridge(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f13."""
    z = map_linear(task.inner, x - task.x_opt)
    return z[0] ** 2 + 100 * power(jnp.sum(z[1:] ** 2), 0.5)


def different_powers(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f14."""
    z = map_linear(task.inner, x - task.x_opt)
    exponents = jnp.asarray(np.linspace(2, 6, x.shape[-1]), x.dtype)
    return power(jnp.sum(jnp.abs(z) ** exponents), 0.5)


def rastrigin(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f15."""
    z = stretch(oscillate(map_linear(task.inner, x - task.x_opt)), 0.2)
    return _rastrigin(map_linear(task.outer, z))


def weierstrass(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f16: ``cos(2 pi 3^k (z + 1/2))`` is ``-cos(2 pi 3^k z)`` because ``3^k`` is uneven."""
    z = map_linear(task.outer, oscillate(map_linear(task.inner, x - task.x_opt)))
    k = np.arange(WEIERSTRASS_TERMS)
    frequency, weight = jnp.asarray(3.0**k, x.dtype), jnp.asarray(0.5**k, x.dtype)
    waves = jnp.sum(weight * ripple(frequency * z[:, None]))
    dimension = x.shape[-1]
    return 10 * (waves / dimension) ** 3 + 10 / dimension * penalty(x)


def schaffer(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f17 and, with another scale, f18."""
    z = map_linear(task.outer, stretch(map_linear(task.inner, x - task.x_opt), 0.5))
    square = z[:-1] ** 2 + z[1:] ** 2
    terms = power(square, 0.25) * (1 + jnp.sin(50 * power(square, 0.1)) ** 2)
    return jnp.mean(terms) ** 2 + 10 * penalty(x)


def griewank_rosenbrock(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f19."""
    s = _rosenbrock(map_linear(task.inner, x - task.x_opt))
    return 10 * jnp.mean(s / 4000 + 2 * jnp.sin(s / 2) ** 2)


def _schwefel_valley(d: chex.Array) -> chex.Array:
    """``h(0) - h(d)`` for ``h(d) = z sin(sqrt(|z|))`` and ``z = r0^2 + d``, exact near ``d = 0``.

    With ``e = sqrt(z) - r0`` and ``tan(r0) = -r0 / 2``, the terms of first order cancel.
    """
    r0 = SCHWEFEL_ROOT
    z = r0**2 + d
    r = jnp.sqrt(jnp.where(z > 0, z, 1.0))
    e = jnp.where(z > 0, d, 1 - r0**2) / (r + r0)
    square = e**2
    series = square * (1 - square / 20 * (1 - square / 42 * (1 - square / 72))) / 6
    sine = jnp.sin(e)
    less = jnp.where(square < 0.1, -e * series, sine - e)  # sin(e) - e
    second = 2 * (r * jnp.sin(e / 2)) ** 2 + (4 * sine - e) * e + 2 * square * sine / r0
    near = SCHWEFEL_SINE * (second + 2 * r0 * less)
    root = jnp.sqrt(jnp.where(z < 0, -z, 1.0))
    far = r0**2 * SCHWEFEL_SINE - jnp.where(z < 0, z * jnp.sin(root), 0.0)
    return jnp.where(z > 0, near, far)


def schwefel(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f20."""
    y = 2 * jnp.sign(task.x_opt) * (x - task.x_opt)
    y = y.at[1:].add(0.25 * y[:-1])
    d = 100 * powers(10**0.5, x) * y
    outside = penalty(100 * SCHWEFEL + d, 500.0)
    # The optimum is rounded to ten digits, and 1e-8 off the valley's bottom.
    offset = 100 * SCHWEFEL - SCHWEFEL_ROOT**2
    return 0.01 * (jnp.mean(_schwefel_valley(d + offset)) + outside)


def gallagher(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f21 and, with fewer peaks, f22."""
    away = map_linear(task.inner, x - task.x_opt) - task.peaks
    heights = jnp.asarray(task.heights)
    exponents = -0.5 / x.shape[-1] * jnp.sum(jnp.asarray(task.widths) * away**2, axis=1)
    below = (heights[0] - heights) - heights * jnp.expm1(exponents)
    return oscillate(jnp.min(below)) ** 2 + penalty(x)


def katsuura(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f23."""
    z = map_linear(task.inner, x - task.x_opt)
    frequency = jnp.asarray(2.0 ** np.arange(1, KATSUURA_TERMS + 1), x.dtype)
    waves = frequency * z[:, None]
    roughness = jnp.sum(jnp.abs(waves - jnp.round(waves)) / frequency, axis=1)
    dimension = x.shape[-1]
    rank = jnp.arange(1, dimension + 1, dtype=x.dtype)
    product = 10 / dimension**1.2 * jnp.sum(jnp.log1p(rank * roughness))
    return 10 / dimension**2 * jnp.expm1(product) + penalty(x)


def lunacek(x: chex.Array, task: BBOBInstance) -> chex.Array:
    """f24: two funnels, the better one at the optimum, and Rastrigin's waves on both."""
    dimension = x.shape[-1]
    s = 1 - 1 / (2 * (dimension + 20) ** 0.5 - 8.2)
    other = -(((LUNACEK**2 - 1) / s) ** 0.5)
    y = 2 * jnp.sign(task.x_opt) * (x - task.x_opt)
    second = dimension + s * jnp.sum((y + (LUNACEK - other)) ** 2)
    funnels = jnp.minimum(jnp.sum(y**2), second)
    waves = 10 * jnp.sum(ripple(map_linear(task.inner, y)))
    return funnels + waves + 1e4 * penalty(x)


FUNCTIONS: tuple[Callable[[chex.Array, BBOBInstance], chex.Array], ...] = (
    sphere,
    separable_ellipsoid,
    separable_rastrigin,
    bueche_rastrigin,
    linear_slope,
    attractive_sector,
    step_ellipsoid,
    rosenbrock,
    rotated_rosenbrock,
    ellipsoid,
    discus,
    bent_cigar,
    sharp_ridge,
    different_powers,
    rastrigin,
    weierstrass,
    schaffer,
    schaffer,
    griewank_rosenbrock,
    schwefel,
    gallagher,
    gallagher,
    katsuura,
    lunacek,
)
"""By number, f1 first."""
