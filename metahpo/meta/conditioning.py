"""Networks that listen to a few numbers besides their inputs: by concatenation or by FiLM."""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, Network, Params
from metahpo.problems.few_shot import outputs_of


class Conditioned(NamedTuple):
    """A model of inputs and of a context that all of a task's inputs share.

    Attributes:
        init: ``(key, x, context) -> params`` for inputs like ``x`` ``f[n, ...]`` and contexts like
            ``f[c]``.
        apply: ``(params, x, context) -> outputs`` ``f[n, ...]``.
        train: ``(params, x, context, key) -> outputs`` in updates, ``None`` where it is ``apply``.
    """

    init: Callable[[Key, chex.Array, chex.Array], Params]
    apply: Callable[[Params, chex.Array, chex.Array], chex.Array]
    train: Callable[[Params, chex.Array, chex.Array, Key], chex.Array] | None = None


def concatenated(network: Network) -> Conditioned:
    """The context is appended to every input, along the last axis.

    Args:
        network: of inputs ``f[n, ..., d + c]``; images get the context as constant channels.

    Example:
        >>> import jax, metahpo as mh
        >>> network = concatenated(mh.problems.sinusoid(shots=5).network)
        >>> x, z = jnp.zeros((5, 1)), jnp.zeros(4)
        >>> params = jax.eval_shape(network.init, jax.random.key(0), x, z)
        >>> params["params"]["Dense_0"]["kernel"].shape
        (5, 40)
    """

    def joined(x: chex.Array, context: chex.Array) -> chex.Array:
        return jnp.concatenate([x, jnp.broadcast_to(context, (*x.shape[:-1], context.size))], -1)

    return Conditioned(
        lambda key, x, context: network.init(key, joined(x, context)),
        lambda params, x, context: network.apply(params, joined(x, context)),
        lambda params, x, context, key: outputs_of(network, params, joined(x, context), key),
    )


class FilmParams(TypedDict):
    """``modulation`` f[c, 2 e] makes a scale and a shift of the features from the context."""

    encoder: Params
    modulation: chex.Array
    head: Params


def film(encoder: Network, head: Network) -> Conditioned:
    """Features between two networks are scaled and shifted by the context (Perez et al. 2018).

    ``head(features * (1 + gamma) + beta)`` with ``gamma, beta = context @ modulation``, so that a
    context of zeros changes nothing.

    Args:
        encoder: of inputs, with features ``f[n, ..., e]``.
        head: of features.

    Example:
        >>> import jax, metahpo as mh
        >>> body, head = (mh.networks.MLP(hidden=(8,), bias=(0.0,) * n) for n in (6, 1))
        >>> network = film(body, head)
        >>> x, z = jnp.zeros((5, 1)), jnp.zeros(4)
        >>> params = jax.eval_shape(network.init, jax.random.key(0), x, z)
        >>> params["modulation"].shape
        (4, 12)
    """

    def init(key: Key, x: chex.Array, context: chex.Array) -> FilmParams:
        keys = jax.random.split(key, 3)
        body = encoder.init(keys[0], x)
        features = encoder.apply(body, x)
        shape = context.size, 2 * features.shape[-1]
        modulation = jax.nn.initializers.lecun_normal()(keys[1], shape, features.dtype)
        return {
            "encoder": body,
            "modulation": modulation,
            "head": head.init(keys[2], features),
        }

    def update(
        params: FilmParams, x: chex.Array, context: chex.Array, key: Key | None
    ) -> chex.Array:
        keys = (None, None) if key is None else jax.random.split(key)
        gamma, beta = jnp.split(context @ params["modulation"], 2)
        features = outputs_of(encoder, params["encoder"], x, keys[0])
        return outputs_of(head, params["head"], features * (1 + gamma) + beta, keys[1])

    def apply(params: FilmParams, x: chex.Array, context: chex.Array) -> chex.Array:
        return update(params, x, context, None)

    return Conditioned(init, apply, update)
