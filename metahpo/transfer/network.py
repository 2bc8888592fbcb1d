"""The network from a task's descriptor to a point of the unit cube, and ensembles of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import HParams, Key, PyTree
from metahpo.networks import MLP
from metahpo.space import Choice, Space

EDGE = 0.02
"""The untrained network stays this far inside the cube, where the sigmoid still has a slope."""


class Mapping(NamedTuple):
    """From a task's descriptor to *scores*, which stand for a point of the unit cube.

    A ``Float`` or ``Int`` dimension has one score, the unit coordinate before the sigmoid.  A
    ``Choice`` has one score a value, its log probability up to a constant.

    Attributes:
        init: ``(key) -> weights``.
        scores: ``(weights, descriptor f[F]) -> list of D arrays f[] or f[K]``.
        space: the space (static).
        default: ``f[D]``, the encoded default hyperparameters.
        learned: ``bool[D]``, the dimensions that are predicted (static); the others stay at
            ``default``.
    """

    init: Callable[[Key], PyTree]
    scores: Callable[[PyTree, chex.Array], list[chex.Array]]
    space: Space
    default: chex.Array
    learned: np.ndarray


def network(
    space: Space,
    default: HParams,
    mean: chex.Array,
    scale: chex.Array,
    hidden: Sequence[int] = (16,),
    floats_only: bool = False,
    prior: float = 0.5,
) -> Mapping:
    """A dense network from a standardised descriptor to hyperparameters.

    Its scores are those of a network that learns plus those of a random one that never does: a
    prior that training cancels where there are tasks, and that lets the members of an ensemble
    disagree where there are none (Osband et al. 2018, arXiv:1806.03335).  Untrained, it says
    ``default`` up to these differences.

    Args:
        space: the search space.
        default: the hyperparameters to start from.
        mean: ``f[F]``, subtracted from a descriptor.
        scale: ``f[F]``, positive, divides it after that.
        hidden: widths of the hidden layers.
        floats_only: whether dimensions that are not ``Float`` stay at ``default``.
        prior: about the standard deviation of the random network's scores, at least 0.

    Returns:
        A Mapping whose weights are ``{"learner": ..., "prior": ...}``.

    Raises:
        ValueError: if ``default`` does not match ``space`` or is outside, ``mean`` and ``scale``
            are not vectors of one length, a scale is not positive, nothing is to be learned, or
            ``prior`` is negative.

    Example:
        >>> import metahpo as mh
        >>> space = {"lr": mh.Float(1e-4, 1.0, log=True)}
        >>> small = network(space, {"lr": 0.01}, mean=jnp.zeros(3), scale=jnp.ones(3))
        >>> weights = jax.jit(lambda key: ensemble_init(key, small, members=5))(jax.random.key(0))
        >>> mean, std = jax.jit(lambda x: predict(small, weights, x))(jnp.zeros(3))
        >>> round(float(mean[0]), 1)
        0.5
    """
    spaces.check(space, default)
    dims = list(spaces.dimensions(space).values())
    learned = spaces.is_continuous(space) | (not floats_only)
    with jax.ensure_compile_time_eval():  # concrete, also where a traced function makes a network
        encoded = spaces.encode(space, default)
        mean, scale = _standardisation(mean, scale)
    if not learned.any():
        raise ValueError(f"floats_only needs a Float dimension, got {space}")
    if not prior >= 0.0:
        raise ValueError(f"prior must be at least 0, got {prior}")
    sizes = [len(dim.values) if isinstance(dim, Choice) else 1 for dim in dims]
    learner = MLP(hidden=tuple(hidden), bias=tuple(_bias(dims, encoded)))
    # Unlike the learner's tanh, the prior's ReLU goes on growing where no task has been.
    random = MLP(tuple(hidden), (0.0,) * sum(sizes), scale=1.0, activation=nn.relu, spread=1.0)

    def init(key: Key) -> PyTree:
        learner_key, prior_key = jax.random.split(key)
        zeros = jnp.zeros(mean.shape)
        return {"learner": learner.init(learner_key, zeros), "prior": random.init(prior_key, zeros)}

    def scores(weights: PyTree, descriptor: chex.Array) -> list[chex.Array]:
        x = (descriptor - mean) / scale
        fixed = prior * cast(chex.Array, random.apply(weights["prior"], x))
        outputs = cast(chex.Array, learner.apply(weights["learner"], x))
        outputs = outputs + jax.lax.stop_gradient(fixed)
        parts = jnp.split(outputs, np.cumsum(sizes)[:-1])
        return [
            part if isinstance(dim, Choice) else part[0]
            for part, dim in zip(parts, dims, strict=True)
        ]

    return Mapping(init, scores, space, encoded, learned)


def unit_point(network: Mapping, weights: PyTree, descriptor: chex.Array) -> chex.Array:
    """What one network says, ``f[D]``: a choice is the middle of its most probable value's cell."""
    dims = spaces.dimensions(network.space).values()
    units = [
        _middles(scores)[jnp.argmax(scores)] if isinstance(dim, Choice) else jax.nn.sigmoid(scores)
        for scores, dim in zip(network.scores(weights, descriptor), dims, strict=True)
    ]
    return _keep_default(network, jnp.stack(units))


def ensemble_init(key: Key, network: Mapping, members: int) -> PyTree:
    """Weights of ``members`` independent networks, with a leading axis ``[members]``."""
    members = checks.whole("members", members)
    return jax.vmap(network.init)(jax.random.split(key, members))


def predict(
    network: Mapping, weights: PyTree, descriptor: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """The ensemble's prediction for a task, and its uncertainty, in the unit cube.

    Args:
        network: the network.
        weights: an ensemble's weights, leading axis ``[members]``.
        descriptor: ``f[F]``, the task's descriptor as the family gives it.

    Returns:
        ``(mean, std)``, both ``f[D]``.  Of a ``Float`` or ``Int``: mean and standard deviation over
        the members.  Of a ``Choice``: the middle of the cell of the value with the largest mean
        probability, and the root mean square distance of the values from there under these
        probabilities.  Dimensions that are not learned: the default, and 0.
    """
    members = jax.vmap(network.scores, (0, None))(weights, descriptor)
    dims = spaces.dimensions(network.space).values()
    pairs = [
        _vote(scores) if isinstance(dim, Choice) else _spread(jax.nn.sigmoid(scores))
        for scores, dim in zip(members, dims, strict=True)
    ]
    mean, std = (jnp.stack(column) for column in zip(*pairs, strict=True))
    return _keep_default(network, mean), jnp.where(jnp.asarray(network.learned), std, 0.0)


def _spread(units: chex.Array) -> tuple[chex.Array, chex.Array]:
    return units.mean(), units.std()


def _vote(scores: chex.Array) -> tuple[chex.Array, chex.Array]:
    probabilities = jax.nn.softmax(scores, axis=-1).mean(axis=0)
    middles = _middles(probabilities)
    best = middles[jnp.argmax(probabilities)]
    return best, jnp.sqrt(probabilities @ jnp.square(middles - best))


def _middles(scores: chex.Array) -> chex.Array:
    """The middles of a choice's cells."""
    return (jnp.arange(len(scores)) + 0.5).astype(scores.dtype) / len(scores)


def _keep_default(network: Mapping, unit: chex.Array) -> chex.Array:
    return jnp.where(jnp.asarray(network.learned), unit, network.default.astype(unit.dtype))


def _bias(dims: Sequence[spaces.Dimension], encoded: chex.Array) -> list[float]:
    """Scores that say ``encoded``; of a choice the default is only the most probable value."""
    bias: list[float] = []
    for dim, unit in zip(dims, np.asarray(encoded, dtype=float), strict=True):
        if isinstance(dim, Choice):
            bias += [float(i == int(dim.decode(unit))) for i in range(len(dim.values))]
        else:
            inside = np.clip(unit, EDGE, 1.0 - EDGE)
            bias.append(float(np.log(inside / (1.0 - inside))))
    return bias


def _standardisation(mean: chex.Array, scale: chex.Array) -> tuple[chex.Array, chex.Array]:
    mean, scale = jnp.asarray(mean), jnp.asarray(scale)
    if mean.ndim != 1 or mean.shape != scale.shape:
        raise ValueError(
            f"mean and scale must be vectors of one length, got shapes {mean.shape}, {scale.shape}"
        )
    if not (np.asarray(scale) > 0.0).all():
        raise ValueError(f"scale must be positive, got {scale}")
    return mean, scale
