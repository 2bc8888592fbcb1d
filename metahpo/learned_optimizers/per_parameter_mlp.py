"""A learned update rule: one small network that every parameter runs on its own features."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Params
from metahpo.floats import wide
from metahpo.learned_optimizers import features
from metahpo.learned_optimizers.update_rule import UpdateRule, update_rule


class RuleWeights(NamedTuple):
    """The weights of ``per_parameter_mlp``; rows of ``skip`` and ``out``: direction, log rate.

    Attributes:
        rate: ``f[]``, the logit of the base rate relative to ``max_rate``.
        skip: ``f[2, F]``, from features straight to outputs.
        hidden: ``f[H, F]``, from features to hidden units.
        context: ``f[H, C]``, from the tensor's features to hidden units.
        bias: ``f[H]``.
        out: ``f[2, H]``, from hidden units to outputs.
    """

    rate: chex.Array
    skip: chex.Array
    hidden: chex.Array
    context: chex.Array
    bias: chex.Array
    out: chex.Array


class RuleState(NamedTuple):
    """The optax state: updates made, one pytree like the parameters a decay, second moments."""

    count: chex.Array
    momenta: tuple[Params, ...]
    second: Params


def per_parameter_mlp(
    hidden: int = 8,
    rate: float = 0.01,
    max_rate: float = 1.0,
    decays: Sequence[float] = (0.5, 0.9, 0.99),
    second_decay: float = 0.99,
) -> UpdateRule:
    """A network that maps each parameter's gradient history to its update.

    After the small dense rules of Metz et al. 2020 (arXiv:2009.11243) and 2022
    (arXiv:2203.11860), with the direction and the log rate as outputs.  The update of an entry with
    features ``x``, in a tensor with features ``c``, is::

        h = tanh(hidden x + context c + bias)
        update = -max_rate sigmoid(rate + skip[1] x + out[1] h) (skip[0] x + out[0] h)

    so no weights can overflow the rate.  Untrained, ``out`` is zero and ``skip`` selects the
    middle momentum over the root of the second moment: Adam with learning rate ``rate``.
    The updates do not change when all gradients are multiplied by a positive number.

    Args:
        hidden: hidden units.
        rate: the untrained rule's learning rate.
        max_rate: upper bound of the rate of every entry, above ``rate``.
        decays: decays of the momenta.
        second_decay: decay of the squared gradient's mean.

    Returns:
        An UpdateRule with ``RuleWeights``; its transformation needs the parameters in ``update``.

    Raises:
        ValueError: for no hidden units, decays outside [0, 1) or none, and unless
            ``0 < rate < max_rate``.

    Example:
        >>> import metahpo as mh
        >>> rule = mh.learned_optimizers.per_parameter_mlp()
        >>> optimizer = rule.transform(jax.jit(rule.init)(jax.random.key(0)))
        >>> params = jnp.array([1.0, -2.0])
        >>> state = optimizer.init(params)
        >>> updates, state = jax.jit(optimizer.update)(params, state, params)
        >>> [round(float(x), 4) for x in optax.apply_updates(params, updates)]
        [0.99, -1.99]
    """
    _check(hidden, rate, max_rate, [*decays, second_decay])
    number = len(decays) + 4
    context = len(decays) + len(features.TIME_SCALES) + 1

    def init(key: Key) -> RuleWeights:
        hidden_key, context_key = jax.random.split(key)
        return RuleWeights(
            rate=jnp.log(rate / (max_rate - rate)) + jnp.zeros(()),
            skip=jnp.zeros((2, number)).at[0, len(decays) // 2].set(1.0),
            hidden=jax.random.normal(hidden_key, (hidden, number)) / math.sqrt(number),
            context=jax.random.normal(context_key, (hidden, context)) / math.sqrt(context),
            bias=jnp.zeros(hidden),
            out=jnp.zeros((2, hidden)),
        )

    def transform(weights: RuleWeights) -> optax.GradientTransformation:
        def start(params: Params) -> RuleState:
            zeros = optax.tree.zeros_like(jax.tree.map(wide, params))
            return RuleState(jnp.zeros((), jnp.int32), (zeros,) * len(decays), zeros)

        def update(grads: Params, state: RuleState, params: Params) -> tuple[Params, RuleState]:
            count = optax.safe_increment(state.count)
            # In half precision the squares of small gradients, and the floors, would vanish.
            grads, params = jax.tree.map(wide, (grads, params))
            momenta = tuple(
                optax.tree.update_moment(grads, momentum, decay, 1)
                for momentum, decay in zip(state.momenta, decays, strict=True)
            )
            second = optax.tree.update_moment(grads, state.second, second_decay, 2)
            corrected = [
                optax.tree.bias_correction(m, decay, count)
                for m, decay in zip([*momenta, second], [*decays, second_decay], strict=True)
            ]
            updates = jax.tree.map(
                lambda g, p, v, *m: rule_step(weights, max_rate, count, g, m, v, p),
                grads,
                params,
                corrected[-1],
                *corrected[:-1],
            )
            return updates, RuleState(count, momenta, second)

        return optax.GradientTransformation(start, update)

    return update_rule("per_parameter_mlp", init, transform)


def rule_step(
    weights: RuleWeights,
    max_rate: float,
    count: chex.Array,
    grad: chex.Array,
    momenta: Sequence[chex.Array],
    second: chex.Array,
    param: chex.Array,
) -> chex.Array:
    """The update of one tensor, in its own shape."""
    weights = jax.tree.map(lambda w: w.astype(grad.dtype), weights)
    x = features.per_parameter(grad, momenta, second, param)
    c = features.per_tensor(count, momenta, second, param)
    h = jnp.tanh(weights.hidden @ x + (weights.context @ c + weights.bias)[:, None])
    direction, rate = weights.skip @ x + weights.out @ h
    update = -max_rate * jax.nn.sigmoid(weights.rate + rate) * direction
    return update.reshape(grad.shape)


def _check(hidden: int, rate: float, max_rate: float, decays: Sequence[float]) -> None:
    hidden = checks.whole("hidden", hidden)
    if not 0.0 < rate < max_rate:
        raise ValueError(f"rate must be in (0, max_rate), got {rate} and {max_rate}")
    if len(decays) < 2 or not all(0.0 <= decay < 1.0 for decay in decays):
        raise ValueError(f"decays must be in [0, 1), at least one of them, got {decays}")
