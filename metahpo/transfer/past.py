"""Past evaluations as arrays inside a program: regrets, and tasks that can be taken out."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Key
from metahpo.surrogates import gaussian_process as gp
from metahpo.surrogates.prior import of_space
from metahpo.transfer.experience import Experience

LENGTH = 0.25  # of the process that fills gaps, in units of the prior's median
FAR = 6.0  # from a median, in units of the spread, where distances grow by logarithms


class Past(NamedTuple):
    """What a recommender learns from: ``T`` tasks, ``C`` configurations; a pytree.

    Attributes:
        descriptors: ``f[T, F]``, NaN where unknown.
        unit: ``f[C, D]``, the configurations.
        regret: ``f[T, C]``, of every task 0 for its best loss and 1 for its worst.
        group: ``i32[T]``, the same for near-duplicates.
        there: ``bool[T]``, tasks that may be learned from; of the others nothing is left.
    """

    descriptors: chex.Array
    unit: chex.Array
    regret: chex.Array
    group: chex.Array
    there: chex.Array


def past_of(experience: Experience) -> Past:
    """Regrets of an experience; a score that a task does not have is what its own others suggest.

    That is the mean of a Gaussian process over the task's evaluations.  A failure is as bad as the
    worst that did not fail.

    Raises:
        ValueError: if all scores of every task are equal.
    """
    losses = experience.losses()
    finite = np.isfinite(losses)
    low = np.where(finite, losses, np.inf).min(1, keepdims=True)
    high = np.where(finite, losses, -np.inf).max(1, keepdims=True)
    width = high - low
    if not (width > 0).any():
        raise ValueError("some task must have scores that differ, all are equal in every task")
    regret = np.where(finite, (losses - low) / np.where(width > 0, width, 1.0), 1.0)
    regret = np.where(np.isnan(losses), np.nan, np.clip(regret, 0.0, 1.0))
    if np.isnan(regret).any():
        regret = _filled(experience, regret)
    count = len(regret)
    return Past(
        jnp.asarray(experience.descriptors, float),
        jnp.asarray(experience.unit, float),
        jnp.asarray(regret, float),
        jnp.asarray(experience.groups, jnp.int32),
        jnp.ones(count, bool),
    )


def _filled(experience: Experience, regret: np.ndarray) -> np.ndarray:
    dims = list(spaces.dimensions(experience.space).values())
    prior = of_space(dims, LENGTH)
    points = prior.seen(jnp.asarray(experience.unit, float))
    numbers = prior.numbers(prior.mode)
    alike = np.asarray(gp_covariance(prior.kernel, numbers, points), np.float64)
    noise = float(np.ravel(numbers.noise)[-1])
    result = regret.copy()
    for row in result:
        known = ~np.isnan(row)
        centre, spread = row[known].mean(), max(row[known].std(), 1e-6)
        scaled = (row[known] - centre) / spread
        inner = alike[np.ix_(known, known)] + noise * np.eye(known.sum())
        guess = centre + spread * alike[np.ix_(~known, known)] @ np.linalg.solve(inner, scaled)
        row[~known] = np.clip(guess, 0.0, 1.0)
    return result


def gp_covariance(kernel: gp.Kernel, numbers: gp.Numbers, x: chex.Array) -> chex.Array:
    """``f[C, C]`` of points, without noise."""
    return kernel.covariance(numbers.kernel, x, x)


def without(past: Past, out: chex.Array) -> Past:
    """The past with nothing left of the tasks ``bool[T]``: neither descriptors nor regrets.

    All functions of a recommender see such a past only, so what they have not been given they
    cannot know.
    """
    gone = out[:, None]
    return past._replace(
        descriptors=jnp.where(gone, jnp.nan, past.descriptors),
        regret=jnp.where(gone, 0.0, past.regret),
        group=jnp.where(out, -1, past.group),
        there=past.there & ~out,
    )


def permuted(key: Key, past: Past) -> Past:
    """Every task with the descriptor of another one: a control."""
    order = jax.random.permutation(key, len(past.there))
    return past._replace(descriptors=past.descriptors[order])


class Scale(NamedTuple):
    """Where descriptors lie: ``f[T, F]`` sorted with infinity behind, and ``f[F]`` counts."""

    values: chex.Array
    count: chex.Array


def scale_of(past: Past) -> Scale:
    """Of the tasks that are there."""
    known = past.there[:, None] & ~jnp.isnan(past.descriptors)
    return Scale(jnp.sort(jnp.where(known, past.descriptors, jnp.inf), axis=0), known.sum(0))


def scaled(scale: Scale, descriptor: chex.Array) -> chex.Array:
    """``f[F]`` in [-1, 1]: the share of tasks below minus that above; 0 where unknown.

    So no unit and no logarithm matters, and the farthest of all is no farther than the next.
    """
    below = (scale.values < descriptor).sum(0)
    above = (scale.values > descriptor).sum(0) - (len(scale.values) - scale.count)
    share = (below - above) / jnp.maximum(scale.count, 1)
    return jnp.where(jnp.isnan(descriptor), 0.0, share)


def all_scaled(past: Past) -> tuple[Scale, chex.Array]:
    """The scale, and all descriptors on it, ``f[T, F]``; 0 of tasks that are not there."""
    scale = scale_of(past)
    return scale, jax.vmap(lambda row: scaled(scale, row))(past.descriptors)


def unlikeness(past: Past, descriptor: chex.Array) -> chex.Array:
    """``f[]``: how far a task is from the nearest one, in units of what is usual in the past.

    Descriptors count in standard deviations of the past, by their logarithms beyond a few.  1 is
    what half of the past tasks have to their nearest neighbours of other groups.
    """
    known = past.there[:, None] & ~jnp.isnan(past.descriptors)
    count = jnp.maximum(known.sum(0), 1)
    table = jnp.where(known, past.descriptors, 0.0)
    mean = table.sum(0) / count
    spread = jnp.sqrt((jnp.where(known, table - mean, 0.0) ** 2).sum(0) / count)

    def moved(rows: chex.Array) -> chex.Array:
        z = (rows - mean) / jnp.where(spread > 0, spread, 1.0)
        far = FAR + jnp.log(jnp.maximum(jnp.abs(z), FAR) / FAR)
        z = jnp.sign(z) * jnp.minimum(jnp.abs(z), far)
        return jnp.where(jnp.isnan(rows), 0.0, z)

    rows, new = moved(past.descriptors), moved(descriptor)
    apart = jnp.sqrt(((rows[:, None] - rows) ** 2).mean(-1))
    other = past.there & (past.group[:, None] != past.group)
    own = jnp.where(other, apart, jnp.inf).min(1)
    usual = jnp.nanmedian(jnp.where(past.there & jnp.isfinite(own), own, jnp.nan))
    nearest = jnp.where(past.there, jnp.sqrt(((rows - new) ** 2).mean(-1)), jnp.inf).min()
    return nearest / jnp.where(usual > 0, usual, 1.0)
