"""Links: hyperparameters with bounds as functions of unconstrained numbers.

A gradient step on a learning rate of 1e-6 easily makes it negative.  On its logarithm it cannot,
and is a step of a relative size besides.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Problem, PyTree
from metahpo.reparametrised import reparametrised

__all__ = [
    "Link",
    "constrain",
    "identity",
    "log",
    "logit",
    "softplus",
    "unconstrain",
    "unconstrained",
]


class Link(NamedTuple):
    """A monotone function from the real line to a range of values, and its inverse.

    Every finite number has a finite value in the range, or at its ends by rounding.

    Attributes:
        constrain: from an unconstrained number to the hyperparameter, elementwise.
        unconstrain: back; a ``ValueError`` outside of the range, NaN or infinite where the value
            is traced and cannot raise.
    """

    constrain: Callable[[chex.Array], chex.Array]
    unconstrain: Callable[[chex.Array], chex.Array]


def logit(low: float, high: float, log: bool = False) -> Link:
    """Values between two bounds, by a sigmoid.

    Args:
        low: lower bound, finite.
        high: upper bound, finite and above ``low``.
        log: whether the sigmoid runs over the logarithms of the bounds, which are then positive.

    Raises:
        ValueError: for other bounds.

    Example:
        >>> link = logit(1e-6, 1.0, log=True)
        >>> [f"{float(link.constrain(x)):.3g}" for x in (-9.0, 0.0, 9.0)]
        ['1e-06', '0.001', '0.998']
    """
    checks.numbers(low=low, high=high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"logit needs finite bounds, low < high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"bounds on a log scale must be positive, got {low} and {high}")
    checks.fits_floats(low, high, log, f"logit({low}, {high})")
    a, b = (math.log(low), math.log(high)) if log else (low, high)

    def constrain(x: chex.Array) -> chex.Array:
        # From the nearer bound, so that neither value nor slope is lost where the sigmoid is 1.
        share = (b - a) * jax.nn.sigmoid(jnp.where(x < 0, x, -x))  # -abs(x) has no slope at 0
        value = jnp.where(x < 0, a + share, b - share)
        return jnp.clip(jnp.exp(value), low, high) if log else value

    def unconstrain(value: chex.Array) -> chex.Array:
        value = _checked(value, low, high)
        inner = jnp.log(value) if log else value
        return jnp.log(inner - a) - jnp.log(b - inner)

    return Link(constrain, unconstrain)


def _exp(x: chex.Array) -> chex.Array:
    """Neither 0 nor infinite."""
    return jnp.exp(jnp.clip(x, *_log_range(x)))


def _softplus(x: chex.Array) -> chex.Array:
    """``log(1 + exp(x))``, never 0."""
    return jax.nn.softplus(jnp.maximum(x, _log_range(x)[0]))


def _log_range(x: chex.Array) -> tuple[float, float]:
    """The logarithms of the smallest and the largest normal number, with some room."""
    limits = jnp.finfo(jnp.result_type(x, float))
    return math.log(float(limits.tiny)) + 1, math.log(float(limits.max)) - 1


def _inverse_softplus(value: chex.Array) -> chex.Array:
    """``log(exp(value) - 1)`` for tiny and for large values."""
    value = _checked(value, 0, jnp.inf)
    return value + jnp.log(-jnp.expm1(-value))


identity = Link(lambda x: x, lambda value: value)
"""Any value."""

log = Link(_exp, lambda value: jnp.log(_checked(value, 0, jnp.inf)))
"""Positive values by their logarithm: a gradient step is a relative change."""

softplus = Link(_softplus, _inverse_softplus)
"""Positive values, ``log(1 + exp(x))``: on a log scale below 1, unchanged far above."""


def constrain(links: PyTree, values: HParams) -> HParams:
    """The hyperparameters of unconstrained ``values``.

    Args:
        links: a pytree prefix of ``values``: one ``Link`` for each leaf or for a whole subtree.
        values: unconstrained numbers.

    Raises:
        ValueError: if a link is applied to a leaf that is not a float.
    """
    return _by_link(links, values, "constrain")


def unconstrain(links: PyTree, hparams: HParams) -> HParams:
    """The inverse of ``constrain``: where to start a descent on unconstrained values.

    Args:
        links: a pytree prefix of ``hparams``.
        hparams: values within the ranges of their links.

    Raises:
        ValueError: if a value that is not traced is out of its link's range, or if a link is
            applied to a leaf that is not a float.

    Example:
        >>> unconstrain({"lr": log, "momentum": logit(0.0, 1.0)}, {"lr": 1.0, "momentum": 0.5})
        {'lr': Array(0., ...), 'momentum': Array(0., ...)}
    """
    return _by_link(links, hparams, "unconstrain")


def unconstrained(problem: Problem, links: PyTree) -> Problem:
    """The same problem, whose hyperparameters are the unconstrained values.

    Args:
        problem: the training process.
        links: a pytree prefix of its hyperparameters; ``identity`` leaves them as they are.

    Returns:
        A Problem to which every estimator applies; ``constrain(links, ...)`` turns what was
        learned into the hyperparameters of ``problem``.  Its ``initial`` is that of ``problem``,
        unconstrained; the ``inner_loss`` of ``implicit``, ``soba`` and ``saba`` stays that of
        ``problem``, of constrained values.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> problem = mh.problems.function(lambda h: (h["lr"] - 0.1) ** 2)
        >>> links = {"lr": mh.links.log}
        >>> free = mh.links.unconstrained(problem, links)
        >>> start = mh.links.unconstrain(links, {"lr": 1e-6})
        >>> result = jax.jit(lambda key: mh.meta_train(
        ...     key, free, mh.hypergrad.reverse(free, steps=1), start,
        ...     optax.adam(0.5), rounds=200, tasks=1,
        ... ))(jax.random.key(0))
        >>> round(float(mh.links.constrain(links, result.hparams)["lr"]), 3)
        0.1
    """
    start = problem.initial
    return reparametrised(
        problem,
        lambda values: constrain(links, values),
        None if start is None else lambda key: unconstrain(links, start(key)),
    )


def _by_link(links: PyTree, tree: PyTree, direction: str) -> PyTree:
    def apply(link: Link, part: PyTree) -> PyTree:
        return part if link is identity else jax.tree.map(lambda x: one(link, x), part)

    def one(link: Link, leaf: chex.Array) -> chex.Array:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"a link needs a float hyperparameter, got dtype {leaf.dtype}")
        return getattr(link, direction)(leaf)

    return jax.tree.map(apply, links, tree, is_leaf=lambda x: isinstance(x, Link))


def _checked(value: chex.Array, low: float, high: float) -> chex.Array:
    """Refuses concrete values outside of the open range, also those that are NaN."""
    value = jnp.asarray(value)
    inside = (value > low) & (value < high)
    if checks.known(inside) and not inside.all():
        raise ValueError(f"values must be in ({low}, {high}), got {value}")
    return value
