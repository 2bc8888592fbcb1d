"""Update rules that are formulas: sums of named terms, and a small grammar to search."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import HParams, Key
from metahpo.learned_optimizers.update_rule import UpdateRule, each_tensor, update_rule
from metahpo.space import Choice, Float, Space

FAST, SLOW, SECOND = 0.9, 0.99, 0.999
"""Decays of the momentum, of Lion's momentum, and of the squared gradient's mean."""
_FLOOR = 1e-16


class Means(NamedTuple):
    """Of one tensor: running means of the gradient with two decays, and of its square."""

    fast: chex.Array
    slow: chex.Array
    second: chex.Array


class Seen(NamedTuple):
    """What a term is made of, arrays like the tensor.

    Attributes:
        gradient: of this update.
        momentum: its mean with the decay ``FAST``, bias-corrected, this gradient included.
        before: its mean with the decay ``SLOW``, without this gradient.
        scale: one over the root of the mean square with the decay ``SECOND``, bias-corrected.
        parameter: before the update.
    """

    gradient: chex.Array
    momentum: chex.Array
    before: chex.Array
    scale: chex.Array
    parameter: chex.Array


class SymbolicWeights(NamedTuple):
    """The weights of ``symbolic``: ``log_rate`` f[] and ``mix`` f[K], one for each term."""

    log_rate: chex.Array
    mix: chex.Array


Term = Callable[[Seen], chex.Array]

TERMS: dict[str, Term] = {
    "gradient": lambda s: s.gradient,
    "momentum": lambda s: s.momentum,
    "sign": lambda s: jnp.sign(s.gradient),
    "sign_momentum": lambda s: jnp.sign(s.momentum),
    "lion": lambda s: jnp.sign(FAST * s.before + (1 - FAST) * s.gradient),
    "rms_prop": lambda s: s.gradient * s.scale,
    "adam": lambda s: s.momentum * s.scale,
    "power_sign": lambda s: jnp.exp(_agreement(s)) * s.gradient,
    "add_sign": lambda s: (1 + _agreement(s)) * s.gradient,
    "decay": lambda s: s.parameter,
}
"""Directions by name: PowerSign and AddSign of Bello et al. 2017 (arXiv:1709.07417), Lion of Chen
et al. 2023 (arXiv:2302.06675), decoupled weight decay, and what everybody knows."""

OPERANDS: dict[str, Term] = {
    **TERMS,
    "agreement": lambda s: _agreement(s),
    "one": lambda s: 1.0 + 0.0 * s.gradient,
}
"""What a formula of the grammar begins with."""

UNARY: dict[str, tuple[str, Callable[[chex.Array], chex.Array]]] = {
    "itself": ("{}", lambda x: x),
    "sign": ("sign({})", jnp.sign),
    "exp": ("exp({})", lambda x: jnp.exp(jnp.clip(x, -10.0, 10.0))),
    "log": ("log|{}|", lambda x: jnp.log(jnp.abs(x) + 1e-8)),
    "root": ("root({})", lambda x: jnp.sign(x) * jnp.sqrt(jnp.abs(x) + _FLOOR)),
    "clip": ("clip({})", lambda x: jnp.clip(x, -1.0, 1.0)),
}
"""Functions of one operand, with what they look like; exponents are cut at 10."""

BINARY: dict[str, tuple[str, Callable[[chex.Array, chex.Array], chex.Array]]] = {
    "first": ("{0}", lambda x, y: x),
    "plus": ("{0} + {1}", lambda x, y: x + y),
    "minus": ("{0} - {1}", lambda x, y: x - y),
    "times": ("{0} * {1}", lambda x, y: x * y),
    "over": ("{0} / (1 + |{1}|)", lambda x, y: x / (1 + jnp.abs(y))),
}
"""Functions of two, with what they look like."""


def symbolic(
    terms: Sequence[str] = ("adam", "momentum", "lion", "power_sign", "add_sign"),
    rate: float = 0.01,
) -> UpdateRule:
    """A weighted sum of named directions: ``-exp(log_rate) sum_k mix_k term_k``.

    The weights can be learned by gradients, as of every rule, or searched: ``mix`` is an ordinary
    array of floats for any strategy.  ``formula`` of ``expression_space`` goes further.

    Args:
        terms: names of ``TERMS``.
        rate: the untrained rule's, which takes the first term alone.

    Returns:
        An UpdateRule with ``SymbolicWeights``.

    Raises:
        ValueError: for no term or an unknown one, and a rate that is not positive.

    Example:
        >>> import metahpo as mh
        >>> rule = mh.learned_optimizers.symbolic(["lion", "decay"], rate=0.1)
        >>> weights = rule.init(jax.random.key(0))._replace(mix=jnp.array([1.0, 0.5]))
        >>> optimizer, params = rule.transform(weights), jnp.array([1.0, -2.0])
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]
        [-0.15, 0.2]
    """
    checks.positive(rate=rate)
    if isinstance(terms, str) or not terms:
        raise ValueError(f"terms must be names of TERMS, got {terms!r}")
    for term in terms:
        checks.one_of("a term", term, TERMS)

    def init(key: Key) -> SymbolicWeights:
        del key
        mix = jnp.zeros(len(terms)).at[0].set(1.0)
        return SymbolicWeights(jnp.log(jnp.asarray(rate, mix.dtype)), mix)

    def transform(weights: SymbolicWeights) -> optax.GradientTransformation:
        def direction(seen: Seen) -> chex.Array:
            parts = [TERMS[term](seen) for term in terms]
            mix = jnp.asarray(weights.mix, seen.gradient.dtype)
            return sum(share * part for share, part in zip(mix, parts, strict=True))

        return _descent(weights.log_rate, direction)

    return update_rule("symbolic", init, transform)


def expression_space(low: float = 1e-4, high: float = 1.0) -> Space:
    """The grammar ``rate * binary(unary(operand), unary(operand))`` as a space to search.

    As in Bello et al. 2017, with one level.  Any strategy that takes choices searches it; what it
    finds is an optimiser by ``expression`` and a text by ``formula``.

    Args:
        low: the smallest rate, positive.
        high: the largest rate.

    Example:
        >>> sorted(expression_space())
        ['binary', 'left', 'left_unary', 'rate', 'right', 'right_unary']
    """
    operands, unary = Choice(tuple(OPERANDS)), Choice(tuple(UNARY))
    return {
        "rate": Float(low, high, log=True),
        "left": operands,
        "left_unary": unary,
        "binary": Choice(tuple(BINARY)),
        "right": operands,
        "right_unary": unary,
    }


def expression(hparams: HParams) -> optax.GradientTransformation:
    """The optimiser of one formula of ``expression_space``.

    Args:
        hparams: as the space decodes them: a rate, and indices that may be traced.

    Returns:
        A transformation that needs the parameters in ``update``.

    Example:
        >>> import metahpo as mh
        >>> names = {"left": "power_sign", "left_unary": "clip", "binary": "first"}
        >>> h = expression_hparams(rate=0.1, **names)
        >>> formula(h)
        '0.1 clip(power_sign)'
        >>> optimizer, params = expression(h), jnp.array([1.0, -0.1])
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]
        [-0.1, 0.0272]
    """

    def side(seen: Seen, name: str) -> chex.Array:
        operands = jnp.stack([term(seen) for term in OPERANDS.values()])
        x = jnp.take(operands, hparams[name], axis=0)
        every = jnp.stack([function(x) for _, function in UNARY.values()])
        return jnp.take(every, hparams[f"{name}_unary"], axis=0)

    def direction(seen: Seen) -> chex.Array:
        left, right = side(seen, "left"), side(seen, "right")
        joined = jnp.stack([function(left, right) for _, function in BINARY.values()])
        return jnp.take(joined, hparams["binary"], axis=0)

    rule = update_rule(
        "expression", lambda key: (), lambda w: _descent(jnp.log(hparams["rate"]), direction)
    )
    return rule.transform(())


def expression_hparams(
    rate: float,
    left: str,
    left_unary: str = "itself",
    binary: str = "first",
    right: str = "one",
    right_unary: str = "itself",
) -> dict[str, chex.Numeric]:
    """The point of ``expression_space`` that names stand for.

    Raises:
        ValueError: for an unknown name, or a rate that is not positive.

    Example:
        >>> expression_hparams(0.1, "adam")["left"]
        6
    """
    checks.positive(rate=rate)
    names = {"left": left, "left_unary": left_unary, "binary": binary}
    names |= {"right": right, "right_unary": right_unary}
    found: dict[str, chex.Numeric] = {"rate": rate}
    for field, name in names.items():
        known = list(_table(field))
        checks.one_of(field, name, known)
        found[field] = known.index(name)
    return found


def formula(hparams: HParams) -> str:
    """What an expression does, for people: the update is minus this.

    Args:
        hparams: known values of ``expression_space``.

    Example:
        >>> formula(expression_hparams(0.1, "gradient", "itself", "times", "agreement", "exp"))
        '0.1 gradient * exp(agreement)'
    """

    def chosen(field: str) -> str:
        return list(_table(field))[int(hparams[field])]

    left, right = (
        UNARY[chosen(f"{side}_unary")][0].format(chosen(side)) for side in ("left", "right")
    )
    return f"{float(hparams['rate']):.3g} {BINARY[chosen('binary')][0].format(left, right)}"


def _table(field: str) -> Mapping[str, object]:
    tables: dict[str, Mapping[str, object]] = {"binary": BINARY, "left": OPERANDS}
    tables |= {"right": OPERANDS, "left_unary": UNARY, "right_unary": UNARY}
    return tables[field]


def _agreement(seen: Seen) -> chex.Array:
    """1 where gradient and momentum point the same way, -1 where they do not."""
    return jnp.sign(seen.gradient) * jnp.sign(seen.momentum)


def _descent(
    log_rate: chex.Array, direction: Callable[[Seen], chex.Array]
) -> optax.GradientTransformation:
    """Minus the rate times a direction."""

    def start(param: chex.Array) -> Means:
        return Means(*(jnp.zeros_like(param) for _ in Means._fields))

    def step(
        count: chex.Array, grad: chex.Array, state: Means, param: chex.Array
    ) -> tuple[chex.Array, Means]:
        new = Means(
            optax.tree.update_moment(grad, state.fast, FAST, 1),
            optax.tree.update_moment(grad, state.slow, SLOW, 1),
            optax.tree.update_moment(grad, state.second, SECOND, 2),
        )
        momentum = optax.tree.bias_correction(new.fast, FAST, count)
        second = optax.tree.bias_correction(new.second, SECOND, count)
        seen = Seen(grad, momentum, state.slow, jax.lax.rsqrt(second + _FLOOR), param)
        return -jnp.asarray(jnp.exp(log_rate), grad.dtype) * direction(seen), new

    return each_tensor(start, step)
