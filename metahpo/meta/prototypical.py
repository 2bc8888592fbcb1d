"""Prototypical networks: the class whose mean embedding is nearest."""

from typing import NamedTuple, TypedDict

import chex
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Params, Problem, TaskFamily
from metahpo.meta import amortised, similarity
from metahpo.problems.few_shot import Examples

SIMILARITIES = {"euclidean": similarity.negative_squared_distance, "cosine": similarity.cosine}


class EncoderParams(TypedDict):
    """What is learned: the encoder's parameters."""

    network: Params


class Prototypes(NamedTuple):
    """The mean embedding of every class.

    Attributes:
        network: the encoder's parameters.
        centers: ``f[ways, e]``.
        present: ``bool[ways]``, whether the support had this class; if not, its logit is -inf.
    """

    network: Params
    centers: chex.Array
    present: chex.Array


def prototypical(
    family: TaskFamily, *, ways: int, distance: str = "euclidean", scale: chex.Numeric = 1.0
) -> Problem:
    """Nearest class mean in a learned embedding (Snell, Swersky & Zemel 2017).

    Args:
        family: its network is the encoder, ``f[n, ...] -> f[n, e]``; its criterion judges the
            logits.
        ways: number of classes of these episodes.  Hyperparameters do not depend on it: those
            that ``prototypical(family_60, ways=60)`` learns serve
            ``prototypical(family_5, ways=5)``.
        distance: ``"euclidean"`` (squared) or ``"cosine"``.
        scale: of the logits; the paper has 1.

    Returns:
        A Problem of zero steps with hyperparameters ``{"network": ...}``.

    Raises:
        ValueError: if ``ways`` is below 2, the distance unknown or the family has no network or
            criterion; when called, for labels that do not fit and embeddings that are not
            ``[n, e]``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> def sample(key):
        ...     y = jnp.arange(6) % 3
        ...     x = jax.nn.one_hot(y, 3) + 0.1 * jax.random.normal(key, (6, 3))
        ...     return mh.problems.Episode(*[mh.problems.Examples(x, y)] * 2)
        >>> network = mh.networks.MLP(hidden=(), bias=(0.0,) * 4, scale=1.0)
        >>> family = mh.problems.few_shot(sample, network, mh.problems.cross_entropy)
        >>> problem = prototypical(family, ways=3)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> support, query = jax.jit(sample)(jax.random.key(0))
        >>> hparams = jax.jit(problem.initial)(jax.random.key(1))
        >>> adapted = jax.jit(adapt)(hparams, support, jax.random.key(2))
        >>> jax.jit(predict)(adapted, query.x).argmax(axis=1).tolist()
        [0, 1, 2, 0, 1, 2]
    """
    network = amortised.encoder_of(family)
    ways = amortised.check_ways(ways)
    checks.one_of("distance", distance, SIMILARITIES)

    def initial(key: Key, support: Examples) -> EncoderParams:
        amortised.check_labels(support.y, ways)
        return {"network": network.init(key, support.x)}

    def represent(hparams: EncoderParams, support: Examples) -> Prototypes:
        embeddings = amortised.embed(network, hparams["network"], support.x)
        members = amortised.one_hot(support.y, ways, embeddings.dtype)
        members = amortised.weighted(members, support.weight)
        counts = members.sum(axis=0)
        sums = jnp.matmul(members.T, embeddings, precision="highest")
        centers = sums / jnp.where(counts == 0, 1, counts)[:, None]  # eq. 1
        return Prototypes(hparams["network"], centers, counts != 0)

    def predict(state: Prototypes, x: chex.Array) -> chex.Array:
        embeddings = amortised.embed(network, state.network, x)
        logits = scale * SIMILARITIES[distance](embeddings, state.centers)  # eq. 2
        return jnp.where(state.present, logits, -jnp.inf)

    return amortised.zero_steps(family, initial, represent, predict)
