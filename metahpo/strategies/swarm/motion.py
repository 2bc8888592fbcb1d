"""The parts of particle swarm optimisation: coefficients, movement, bounds, neighbourhoods."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, draws
from metahpo.base import Key

TOPOLOGIES = ("global", "ring", "random")
INFORMED = 3  # how many others a particle informs in a random topology (Clerc 2012)


class Coefficients(NamedTuple):
    """Inertia ``w``, pull of the own best ``c1`` and of the informants' best ``c2``."""

    inertia: Any
    cognitive: Any
    social: Any


def constricted(total: float = 4.1) -> Coefficients:
    """Constriction (Clerc & Kennedy 2002, eq. 29): both pulls ``total / 2`` before, above 2.

    Example:
        >>> [round(c, 4) for c in constricted()]
        [0.7298, 1.4962, 1.4962]
    """
    factor = 2.0 / (total - 2.0 + math.sqrt(total**2 - 4.0 * total))
    return Coefficients(factor, factor * total / 2, factor * total / 2)


COEFFICIENTS = {
    "constriction": constricted(),
    "inertia": Coefficients(0.6, 1.7, 1.7),  # Trelea 2003
    "spso2011": Coefficients(1 / (2 * math.log(2)), 0.5 + math.log(2), 0.5 + math.log(2)),
}


def stability_bound(coefficients: Coefficients, balls: bool = False) -> float:
    """The largest ``c1 + c2`` at which the variance of a stagnant particle stays bounded.

    A coordinate follows ``x' = (1 + w - f) x - w y + noise`` with the one before, ``y``, and a
    random factor ``f`` of mean ``m`` and variance ``s2``; its second moments are bounded for
    ``(1 - w) m (2 (1 + w) - m) > (1 + w) s2``.  In the canonical form ``m = (c1 + c2) / 2`` and
    ``s2 = (c1^2 + c2^2) / 12``, which for ``c1 = c2`` is ``24 (1 - w^2) / (7 - 5 w)`` (Poli 2009).
    In balls ``m = (c1 + c2) / 3``, and the sum of the variances of all coordinates ``m^2 / 3``.
    """
    w, c1, c2 = coefficients
    if balls:
        return 9.0 * (1 - w**2) / (2 - w)
    unequal = (c1**2 + c2**2) / (c1 + c2) ** 2  # 1/2 if they are equal
    return 12.0 * (1 - w**2) / (3 * (1 - w) + unequal * (1 + w))


def check_stable(coefficients: Coefficients, balls: bool = False) -> None:
    """Raises ``ValueError`` unless the coefficients, where they are known, are stable."""
    if not checks.known(*coefficients):
        return
    w, c1, c2 = coefficients
    if not (0 <= w < 1 and c1 >= 0 and c2 >= 0 and c1 + c2 > 0):
        raise ValueError(
            "particles need 0 <= inertia < 1 and pulls that are not negative nor both 0, got "
            f"inertia {w}, cognitive {c1}, social {c2}"
        )
    if c1 + c2 >= (bound := stability_bound(coefficients, balls)):
        raise ValueError(
            "the positions' variance grows without bound (order-2 stability) unless cognitive + "
            f"social < {bound:.4g} at inertia {w}, got {c1} + {c2} = {c1 + c2}"
        )


def accelerate(
    key: Key,
    coefficients: Coefficients,
    x: chex.Array,
    velocity: chex.Array,
    own: chex.Array,
    theirs: chex.Array,
) -> chex.Array:
    """The canonical velocity, ``f[P, D]``: every coordinate draws its own two weights."""
    w, c1, c2 = coefficients
    r1, r2 = draws.weights(key, x.shape)
    return w * velocity + c1 * r1 * (own - x) + c2 * r2 * (theirs - x)


def sphere_velocity(
    key: Key,
    coefficients: Coefficients,
    x: chex.Array,
    velocity: chex.Array,
    own: chex.Array,
    theirs: chex.Array,
    alone: chex.Array,
) -> chex.Array:
    """The velocity of the standard of 2011 (Clerc 2012, section 4), ``f[P, D]``.

    The centre of gravity lies between the particle and points a bit beyond the two attractors, or
    beyond the one, where the particle itself is its best informant (``alone``, ``bool[P]``).  The
    next point is drawn from a ball around the centre that reaches to the particle: the direction
    uniform, the radius uniform.
    """
    w, c1, c2 = coefficients
    direction_key, radius_key = jax.random.split(key)
    to_own, to_theirs = c1 * (own - x), c2 * (theirs - x)
    centre = jnp.where(alone[:, None], to_own / 2, (to_own + to_theirs) / 3)
    direction = draws.normal(draws.uniform(direction_key, x.shape))
    share = draws.uniform(radius_key, (x.shape[0], 1))
    length = jnp.linalg.norm(direction, axis=1, keepdims=True)
    radius = share * jnp.linalg.norm(centre, axis=1, keepdims=True)
    return w * velocity + centre + direction * (radius / length)


def confine(point: chex.Array, velocity: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Stops at the bound, and turns that coordinate's velocity round and halves it (Clerc 2012)."""
    inside = jnp.clip(point, 0.0, 1.0)
    return inside, jnp.where(inside == point, velocity, -0.5 * velocity)


def informant(topology: str, loss: chex.Array, links: chex.Array) -> chex.Array:
    """``i32[P]``: of those that inform a particle, itself included, the one with the lowest loss.

    Args:
        topology: one of ``TOPOLOGIES``.
        loss: ``f[P]``, of the best points.
        links: ``i32[K, P]``, whom each particle informs in a random topology.
    """
    population = loss.shape[0]
    me = jnp.arange(population, dtype=jnp.int32)
    if topology == "global":
        leader = jnp.argmin(loss)
    elif topology == "ring":
        before, after = jnp.roll(loss, 1), jnp.roll(loss, -1)
        leader = jnp.where(before < after, jnp.roll(me, 1), jnp.roll(me, -1))
    else:
        informs = (links[:, None, :] == me[:, None]).any(axis=0)
        leader = jnp.argmin(jnp.where(informs, loss, jnp.inf), axis=1)
        # Whom nobody informs has index 0, who is no informant.
        leader = jnp.where(informs.any(axis=1), leader, me)
    # Somebody else's equal is no better than one's own.
    return jnp.where(loss <= loss[leader], me, leader).astype(jnp.int32)
