"""Adam whose rate, momentum and decay a small network sets for each tensor, as training goes on."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key
from metahpo.learned_optimizers.features import ABSOLUTE_FLOOR, RELATIVE_FLOOR
from metahpo.learned_optimizers.update_rule import UpdateRule, over_tensors, update_rule

_TIMES = (3.0, 10.0, 100.0)
_LATE = 100.0
_DECAY = -4.0


class SteeredWeights(NamedTuple):
    """The weights of ``steered``; rows of ``skip`` and ``out``: directions, log rate, decay.

    Attributes:
        rate: ``f[]``, the log of the base rate.
        fall: ``f[]``, the logit of the power of time by which rates fall in the end.
        hidden: ``f[H, C]``, from a tensor's features to hidden units.
        bias: ``f[H]``.
        skip: ``f[K + 3, C]``, from features straight to outputs.
        out: ``f[K + 3, H]``, from hidden units to outputs.
    """

    rate: chex.Array
    fall: chex.Array
    hidden: chex.Array
    bias: chex.Array
    skip: chex.Array
    out: chex.Array


class SteeredState(NamedTuple):
    """Of one tensor: ``momenta`` f[K, ...], ``second`` and the ``first`` f[] mean square."""

    momenta: chex.Array
    second: chex.Array
    first: chex.Array


def steered(
    hidden: int = 16,
    rate: float = 0.01,
    decays: Sequence[float] = (0.5, 0.9, 0.99),
    second_decay: float = 0.99,
    bound: float = 4.0,
) -> UpdateRule:
    """A rule that costs a parameter little more than Adam does, however large its network.

    Once an update every tensor runs a network of one hidden layer, and all its entries obey the
    outputs ``o``::

        update = -r (sum_k (e_k + tanh(o_k)) m_k / sqrt(v) + sigmoid(o_decay - 4) p)
        r = rate exp(bound tanh(o_rate / bound)) (1 + t / 100)^-sigmoid(fall)

    with ``K`` momenta and the gradient itself for ``m``, the parameter ``p``, and ``e`` the middle
    momentum alone.  Untrained, ``skip``, ``out`` and ``fall`` are zero: AdamW with this ``rate``
    over the root of ``1 + t / 100`` and a weight decay of 0.018.

    It is made to be trained longer than it has seen.  What it knows of time ends at some hundred
    updates; from there on rates fall, whatever the weights, as a power of time, directions stay
    within ``K + 2`` units, and weights are never pushed outwards.

    A tensor sees how consistent its gradients have been on each time scale, how large they are
    beside what they were at first and beside their own mean, its own size, its shape (in muP,
    Yang et al. 2021, the fan-in decides the rate), the number of updates, and the mean over all
    tensors of what the gradients show.

    Updates do not change when all gradients are multiplied by a positive number, nor when tensors
    or a tensor's rows and columns change their order.

    Args:
        hidden: units of the network.
        rate: the untrained rule's learning rate.
        decays: of the momenta.
        second_decay: of the squared gradient's mean.
        bound: of the logarithm of a rate relative to the base rate.

    Returns:
        An UpdateRule with ``SteeredWeights``, 466 of them by default.

    Raises:
        ValueError: for no hidden units, decays outside [0, 1) or less than two, and a rate or a
            bound that is not positive.

    Example:
        >>> import metahpo as mh
        >>> rule = mh.learned_optimizers.steered()
        >>> weights = jax.jit(rule.init)(jax.random.key(0))
        >>> sum(leaf.size for leaf in weights)
        466
        >>> optimizer, params = rule.transform(weights), jnp.array([1.0, -2.0])
        >>> updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]
        [-0.0102, 0.0104]
    """
    hidden = checks.whole("hidden", hidden)
    checks.positive(rate=rate, bound=bound)
    decays = tuple(decays)
    if len(decays) < 2 or not all(0.0 <= decay < 1.0 for decay in (*decays, second_decay)):
        raise ValueError(f"decays must be in [0, 1), at least two, got {decays}, {second_decay}")
    count_of_momenta = len(decays)
    inputs, outputs = 2 * count_of_momenta + 10, count_of_momenta + 3

    def init(key: Key) -> SteeredWeights:
        return SteeredWeights(
            rate=math.log(rate) + jnp.zeros(()),
            fall=jnp.zeros(()),
            hidden=jax.random.normal(key, (hidden, inputs)) / math.sqrt(inputs),
            bias=jnp.zeros(hidden),
            skip=jnp.zeros((outputs, inputs)),
            out=jnp.zeros((outputs, hidden)),
        )

    def start(param: chex.Array) -> SteeredState:
        momenta = jnp.zeros((count_of_momenta, *param.shape), param.dtype)
        return SteeredState(momenta, jnp.zeros_like(param), jnp.zeros((), param.dtype))

    def transform(weights: SteeredWeights) -> optax.GradientTransformation:
        def step(
            count: chex.Array,
            grads: list[chex.Array],
            states: list[SteeredState],
            params: list[chex.Array],
        ) -> list[tuple[chex.Array, SteeredState]]:
            moved = [
                _moved(decays, second_decay, *pair) for pair in zip(grads, states, strict=True)
            ]
            means = [_corrected(decays, second_decay, count, state) for state in moved]
            rows = list(zip(grads, moved, means, strict=True))
            seen = [_gradients(grad, state.first, *mean) for grad, state, mean in rows]
            sizes = jnp.asarray([grad.size for grad in grads], seen[0].dtype)
            common = jnp.stack(seen)[:, : count_of_momenta + 1].T @ (sizes / sizes.sum())
            pairs = []
            for (grad, state, mean), own, param in zip(rows, seen, params, strict=True):
                x = jnp.concatenate([own, common.astype(own.dtype), _place(count, param)])
                w = jax.tree.map(lambda leaf, g=grad: jnp.asarray(leaf, g.dtype), weights)
                o = w.skip @ x + w.out @ jnp.tanh(w.hidden @ x + w.bias)
                late = jnp.log1p((count - 1).astype(grad.dtype) / _LATE)
                log_rate = w.rate + bound * jnp.tanh(o[-2] / bound)
                speed = jnp.exp(log_rate - jax.nn.sigmoid(w.fall) * late)
                shares = jnp.tanh(o[:-2]).at[count_of_momenta // 2].add(1.0)
                direction = jnp.tensordot(shares[:-1], mean[0], 1) + shares[-1] * grad
                direction = direction * jax.lax.rsqrt(_floored(mean[1]))
                pairs.append((-speed * (direction + jax.nn.sigmoid(o[-1] + _DECAY) * param), state))
            return pairs

        return over_tensors(start, step)

    return update_rule("steered", init, transform)


def _moved(
    decays: Sequence[float], second_decay: float, grad: chex.Array, state: SteeredState
) -> SteeredState:
    """The running means after one more gradient."""
    kept = jnp.asarray(decays, grad.dtype).reshape(-1, *[1] * grad.ndim)
    square = jnp.square(grad)
    mean = square.mean()
    return SteeredState(
        kept * state.momenta + (1 - kept) * grad,
        second_decay * state.second + (1 - second_decay) * square,
        jnp.where(state.first > 0, state.first, mean),
    )


def _corrected(
    decays: Sequence[float], second_decay: float, count: chex.Array, state: SteeredState
) -> tuple[chex.Array, chex.Array]:
    """Momenta and second moment without the weight that the zeros at the start still have."""
    t = count.astype(state.second.dtype)
    shares = 1 - jnp.asarray(decays, t.dtype) ** t
    momenta = state.momenta / shares.reshape(-1, *[1] * state.second.ndim)
    return momenta, state.second / (1 - second_decay**t)


def _floored(second: chex.Array) -> chex.Array:
    return second + RELATIVE_FLOOR * second.mean() + ABSOLUTE_FLOOR


def _gradients(
    grad: chex.Array, first: chex.Array, momenta: chex.Array, second: chex.Array
) -> chex.Array:
    """Features ``f[K + 2]``: what the history of a tensor's gradients says, free of units."""
    mean = second.mean() + ABSOLUTE_FLOOR
    axes = tuple(range(1, momenta.ndim))
    consistency = jnp.square(momenta).mean(axes) / mean
    decline = jnp.log(mean / (first + ABSOLUTE_FLOOR))
    sudden = jnp.square(grad).mean() / mean
    return jnp.concatenate(
        [
            0.2 * jnp.log(consistency + 1e-4),
            jnp.clip(jnp.stack([0.1 * decline, 0.1 * jnp.log(sudden + 1e-4)]), -1.0, 1.0),
        ]
    )


def _place(count: chex.Array, param: chex.Array) -> chex.Array:
    """Features ``f[7]``: the size and shape of a tensor, and the number of updates."""
    t = count.astype(param.dtype)
    size = 0.1 * jnp.log(jnp.square(param).mean() + 1e-8)
    fan_out = param.shape[-1] if param.ndim > 1 else 1
    shape = (0.2 * math.log(param.size / fan_out), 0.2 * math.log(fan_out), float(param.ndim > 1))
    times = [jnp.tanh(t / scale) for scale in _TIMES]
    return jnp.stack([size, *times, *(jnp.asarray(x, param.dtype) for x in shape)])
