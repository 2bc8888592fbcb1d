"""A small network on 39 features, with second moments factored into rows and columns."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.base import Key
from metahpo.learned_optimizers.features import ABSOLUTE_FLOOR, RELATIVE_FLOOR
from metahpo.learned_optimizers.update_rule import UpdateRule, each_tensor, update_rule

HIDDEN = 4
TIME_SCALES = tuple(10.0 ** (k / 2) for k in range(11))
"""Updates, from 1 to 100,000."""
FEATURES = 28 + len(TIME_SCALES)
_ADAM = 7
"""The place of the fast momentum over the root of the second moment among the features."""


class FactoredWeights(NamedTuple):
    """The weights of ``factored_mlp``, 197 in all.

    Attributes:
        momenta: ``f[3]``, logits of the decays of the momenta.
        second: ``f[]``, logit of the decay of the squared gradient's mean.
        factored: ``f[3]``, logits of the decays of its means over rows and columns.
        first: ``f[4, 39]``, from features to hidden units.
        first_bias: ``f[4]``.
        middle: ``f[4, 4]``, between hidden units.
        middle_bias: ``f[4]``.
        out: ``f[2, 4]``, to direction and log rate.
        out_bias: ``f[2]``; the second is the logit of the base rate relative to ``max_rate``.
    """

    momenta: chex.Array
    second: chex.Array
    factored: chex.Array
    first: chex.Array
    first_bias: chex.Array
    middle: chex.Array
    middle_bias: chex.Array
    out: chex.Array
    out_bias: chex.Array


class Moments(NamedTuple):
    """Of one tensor: momenta ``f[3, *shape]``, the second moment, and means over rows and columns.

    Attributes:
        momenta: ``f[3, ...]``, like the tensor.
        second: like the tensor.
        rows: ``f[3, ...]``, means over the last axis, which they lack; for tensors with less than
            two axes the second moments themselves.
        columns: ``f[3, ...]``, means over the last axis but one.
    """

    momenta: chex.Array
    second: chex.Array
    rows: chex.Array
    columns: chex.Array


def factored_mlp(
    rate: float = 0.01,
    max_rate: float = 1.0,
    decays: Sequence[float] = (0.9, 0.99, 0.999),
    second_decay: float = 0.999,
) -> UpdateRule:
    """A rule of 197 weights for large networks, after the small rules of Metz et al. 2022.

    As in arXiv:2203.11860, every parameter runs a network 39-4-4-2 with ReLU on features of its
    gradients: momenta with three decays, one running mean of the squared gradient, and three that
    are factored into rows and columns (Shazeer & Stern 2018), which cost a matrix next to nothing.
    28 features are quotients that do not depend on the units, 11 are ``tanh`` of the number of
    updates on a scale of its own.  The decays are learned with the network.  With the outputs ``d``
    and ``r`` of the network an update is ``-max_rate sigmoid(r) d``.

    The state holds four numbers a parameter and a few for each row and column.

    Untrained, ``d`` is the fast momentum over the root of the second moment: Adam with learning
    rate ``rate``.  Updates do not change when all gradients are multiplied by a positive number.

    Args:
        rate: the untrained rule's rate.
        max_rate: upper bound of the rate of every entry, above ``rate``.
        decays: three, of the momenta and of the factored second moments, untrained.
        second_decay: of the squared gradient's mean, untrained.

    Returns:
        An UpdateRule with ``FactoredWeights``.

    Raises:
        ValueError: for decays outside of (0, 1) or not three, and unless ``0 < rate < max_rate``.

    Example:
        >>> import metahpo as mh
        >>> rule = mh.learned_optimizers.factored_mlp()
        >>> weights = jax.jit(rule.init)(jax.random.key(0))
        >>> sum(leaf.size for leaf in weights)
        197
        >>> optimizer, params = rule.transform(weights), jnp.array([1.0, -2.0])
        >>> updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]
        [-0.01, 0.01]
    """
    if not 0.0 < rate < max_rate:
        raise ValueError(f"rate must be in (0, max_rate), got {rate} and {max_rate}")
    decays = tuple(decays)
    if len(decays) != 3 or not all(0.0 < decay < 1.0 for decay in (*decays, second_decay)):
        raise ValueError(f"decays must be three in (0, 1), got {decays} and {second_decay}")

    def init(key: Key) -> FactoredWeights:
        first_key, middle_key = jax.random.split(key)
        first = jax.random.normal(first_key, (HIDDEN, FEATURES)) / math.sqrt(FEATURES)
        middle = jax.random.normal(middle_key, (HIDDEN, HIDDEN)) / math.sqrt(HIDDEN)
        # Two units pass one feature on, its positive and its negative part.
        signs = jnp.array([1.0, -1.0])
        first = first.at[:2].set(0.0).at[:2, _ADAM].set(signs)
        return FactoredWeights(
            momenta=_logit(decays),
            second=_logit(second_decay),
            factored=_logit(decays),
            first=first,
            first_bias=jnp.zeros(HIDDEN),
            middle=middle.at[:2].set(jnp.eye(2, HIDDEN)),
            middle_bias=jnp.zeros(HIDDEN),
            out=jnp.zeros((2, HIDDEN)).at[0, :2].set(signs),
            out_bias=jnp.array([0.0, math.log(rate / (max_rate - rate))]),
        )

    def transform(weights: FactoredWeights) -> optax.GradientTransformation:
        def step(
            count: chex.Array, grad: chex.Array, state: Moments, param: chex.Array
        ) -> tuple[chex.Array, Moments]:
            own = jax.tree.map(lambda w: jnp.asarray(w, grad.dtype), weights)
            state = _moved(own, state, grad)
            rows = _features(grad, _corrected(own, state, count), param)
            time = jnp.tanh(count.astype(grad.dtype) / jnp.asarray(TIME_SCALES, grad.dtype))
            return -max_rate * _network(own, rows, time), state

        return each_tensor(_start, step)

    return update_rule("factored_mlp", init, transform)


def _logit(decay: float | Sequence[float]) -> chex.Array:
    x = jnp.asarray(decay, jnp.result_type(float))
    return jnp.log(x) - jnp.log1p(-x)


def _start(param: chex.Array) -> Moments:
    zeros = jnp.zeros((3, *param.shape), param.dtype)
    return Moments(zeros, jnp.zeros_like(param), _over(zeros, -1), _over(zeros, -2))


def _over(stacked: chex.Array, axis: int) -> chex.Array:
    """The mean over an axis of tensors ``f[3, ...]`` that have two axes or more."""
    return stacked.mean(axis) if stacked.ndim > 2 else stacked


def _moved(weights: FactoredWeights, state: Moments, grad: chex.Array) -> Moments:
    """The running means after one more gradient."""

    def mean(logits: chex.Array, old: chex.Array, new: chex.Array) -> chex.Array:
        column = logits.reshape(-1, *[1] * new.ndim)
        return jax.nn.sigmoid(column) * old + jax.nn.sigmoid(-column) * new

    square = jnp.square(grad)
    return Moments(
        mean(weights.momenta, state.momenta, grad),
        mean(weights.second, state.second[None], square)[0],
        mean(weights.factored, state.rows, _over(square[None], -1)[0]),
        mean(weights.factored, state.columns, _over(square[None], -2)[0]),
    )


def _corrected(weights: FactoredWeights, state: Moments, count: chex.Array) -> Moments:
    """Without the weight that the zeros at the start still have (Kingma & Ba 2015, section 3)."""

    def divided(logits: chex.Array, moment: chex.Array) -> chex.Array:
        # 1 - decay^t, also where the decay is nearly 1.
        share = -jnp.expm1(count.astype(logits.dtype) * jax.nn.log_sigmoid(logits))
        return moment / share.reshape(-1, *[1] * (moment.ndim - 1))

    return Moments(
        divided(weights.momenta, state.momenta),
        divided(weights.second, state.second[None])[0],
        divided(weights.factored, state.rows),
        divided(weights.factored, state.columns),
    )


class _Features(NamedTuple):
    """Of the tensor's shape ``entries``, 16 of them; ``rows`` f[6, ...], ``columns`` f[6, ...]."""

    entries: list[chex.Array]
    rows: chex.Array
    columns: chex.Array


def _features(grad: chex.Array, moments: Moments, param: chex.Array) -> _Features:
    # In units of the tensor's gradients: what is no quotient already becomes one.
    unit = jax.lax.rsqrt(moments.second.mean() + ABSOLUTE_FLOOR)
    grad, momenta = grad * unit, [momentum * unit for momentum in moments.momenta]
    second, rows, columns = (
        x * unit**2 + RELATIVE_FLOOR for x in (moments.second, moments.rows, moments.columns)
    )
    inverse, row, column = map(jax.lax.rsqrt, (second, rows, columns))
    if grad.ndim >= 2:  # a matrix is close to rows * columns / mean
        root = jnp.sqrt(rows.mean(-1, keepdims=True))
        factors = list((row * root)[..., :, None] * column[..., None, :])
    else:
        factors = list(row)
    entries = [
        grad,
        _normalised(param),
        *momenta,
        second,
        _normalised(inverse),
        *(momentum * inverse for momentum in momenta),
        *(grad * factor for factor in factors),
        *(momentum * factor for momentum, factor in zip(momenta, factors, strict=True)),
    ]
    rows = jnp.concatenate([rows, jnp.stack([_normalised(x) for x in row])])
    columns = jnp.concatenate([columns, jnp.stack([_normalised(x) for x in column])])
    return _Features(entries, rows, columns)


def _normalised(x: chex.Array) -> chex.Array:
    """Of unit root mean square, or zero."""
    return x * jax.lax.rsqrt(jnp.square(x).mean() + ABSOLUTE_FLOOR)


def _network(weights: FactoredWeights, seen: _Features, time: chex.Array) -> chex.Array:
    """Direction times the sigmoid of the log rate, in the shape of the tensor.

    Written out unit by unit, so that a compiler makes features where they are used: no array ever
    holds all of them, which would be most of the memory that an update touches.
    """
    large = len(seen.entries)
    entry, row, column, late = jnp.split(weights.first, [large, large + 6, large + 12], axis=1)
    whole = late @ time + weights.first_bias
    by_row, by_column = jnp.tensordot(row, seen.rows, 1), jnp.tensordot(column, seen.columns, 1)
    if seen.entries[0].ndim >= 2:
        by_row, by_column = by_row[..., :, None], by_column[..., None, :]
    h = [
        jax.nn.relu(_sum(entry[j], seen.entries) + by_row[j] + by_column[j] + whole[j])
        for j in range(HIDDEN)
    ]
    h = [jax.nn.relu(_sum(w, h) + bias) for w, bias in _units(weights.middle, weights.middle_bias)]
    direction, rate = (_sum(w, h) + bias for w, bias in _units(weights.out, weights.out_bias))
    return jax.nn.sigmoid(rate) * direction


def _units(kernel: chex.Array, bias: chex.Array) -> list[tuple[chex.Array, chex.Array]]:
    return list(zip(kernel, bias, strict=True))


def _sum(weights: chex.Array, values: list[chex.Array]) -> chex.Array:
    return sum(
        (w * x for w, x in zip(weights[1:], values[1:], strict=True)), weights[0] * values[0]
    )
