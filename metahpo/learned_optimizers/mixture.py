"""One optimiser out of several known ones: a convex mixture with rates and schedules of its own."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Params
from metahpo.learned_optimizers.curves import Curve
from metahpo.learned_optimizers.update_rule import UpdateRule, update_rule


class MixtureWeights(NamedTuple):
    """The weights of ``mixture``.

    Attributes:
        logits: ``f[layers, K]``, of the shares of the ``K`` optimisers, in alphabetical order.
        log_rates: ``f[layers, knots]``, the logarithm of what each layer's update is multiplied by
            along training; ``f[layers, 1]`` without a curve.
    """

    logits: chex.Array
    log_rates: chex.Array


class MixtureState(NamedTuple):
    """The optax state: ``count`` i32[], updates made, and the states of all optimisers."""

    count: chex.Array
    inner: tuple[optax.OptState, ...]


def mixture(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    like: Params | None = None,
    curve: Curve | None = None,
    first: str | None = None,
) -> UpdateRule:
    """A convex mixture of known optimisers, whose shares and rates are learned.

    All of them see the same gradients, each keeps its own state, and layer ``l`` moves by::

        exp(log_rates[l](t)) * sum_k softmax(logits[l])_k * update_k

    With one share of 1 (a logit far above the others) and ``log_rates`` of 0 it is that optimiser,
    to the bit.  A network can make the shares of a task's features (``for_task``; arXiv:2408.09310
    has shares per layer).

    Args:
        optimizers: at least two by name, each with the rate at which it is known to work; all must
            give finite updates, also where their share is 0.
        like: the parameters, or their shapes: every layer (leaf) then has shares and rates of its
            own.  Without it all share one row.
        curve: how rates change along training, such as ``polynomial(steps, 2)``; constant without.
        first: the name of the optimiser that the untrained mixture mostly is: its share is then
            0.9; equal shares without.

    Returns:
        An UpdateRule with ``MixtureWeights``.  ``init`` does not depend on its key.

    Raises:
        ValueError: for less than two optimisers, what is none, and an unknown ``first``.

    Example:
        >>> rule = mixture({"adam": optax.adam(0.1), "sgd": optax.sgd(1.0)})
        >>> weights = rule.init(jax.random.key(0))
        >>> optimizer, params = rule.transform(weights), jnp.array([2.0, -1.0])
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]  # half of -0.1 and -2, of 0.1 and 1
        [-1.05, 0.55]
    """
    if len(optimizers) < 2:
        raise ValueError(f"a mixture needs at least two optimisers, got {list(optimizers)}")
    names = sorted(optimizers)
    for name in names:
        kind = optax.GradientTransformation
        checks.record(f"the optimiser {name!r}", optimizers[name], kind, "a function of optax")
    if first is not None:
        checks.one_of("first", first, names)
    makers = [optax.with_extra_args_support(optimizers[name]) for name in names]
    layers = 1 if like is None else len(jax.tree.leaves(like))

    def init(key: Key) -> MixtureWeights:
        del key
        logits = jnp.zeros((layers, len(names)))
        if first is not None:
            logits = logits.at[:, names.index(first)].set(jnp.log(9.0 * (len(names) - 1)))
        start = jnp.zeros(())
        row = start[None] if curve is None else curve.init(start)
        return MixtureWeights(logits, jnp.tile(row, (layers, 1)))

    def transform(weights: MixtureWeights) -> optax.GradientTransformation:
        def start(params: Params) -> MixtureState:
            if like is not None:
                checks.alike("the parameters of the mixture", params, like)
            inner = tuple(maker.init(params) for maker in makers)
            return MixtureState(jnp.zeros((), jnp.int32), inner)

        def update(
            grads: Params, state: MixtureState, params: Params | None = None, **extra: Any
        ) -> tuple[Params, MixtureState]:
            pairs = [
                maker.update(grads, own, params, **extra)
                for maker, own in zip(makers, state.inner, strict=True)
            ]
            columns = [jax.tree.leaves(updates) for updates, _ in pairs]
            shares = jax.nn.softmax(weights.logits)
            rates = jnp.exp(jax.vmap(_rate, (0, None))(weights.log_rates, state.count))
            mixed = []
            for i, each in enumerate(zip(*columns, strict=True)):
                row = i if like is not None else 0
                total = sum(
                    (shares[row, k].astype(x.dtype) * x for k, x in enumerate(each)),
                    jnp.zeros((), each[0].dtype),
                )
                mixed.append(rates[row].astype(total.dtype) * total)
            after = MixtureState(optax.safe_increment(state.count), tuple(own for _, own in pairs))
            return jax.tree.unflatten(jax.tree.structure(grads), mixed), after

        return optax.GradientTransformationExtraArgs(start, update)

    def _rate(knots: chex.Array, count: chex.Array) -> chex.Array:
        return knots[0] if curve is None else curve.value(knots, count)

    return update_rule("a mixture", init, transform)


def one_hot(weights: MixtureWeights, place: int) -> MixtureWeights:
    """The mixture that is one of its optimisers, at the rate that this one has.

    Args:
        weights: of the rule's ``init``.
        place: of the optimiser in alphabetical order.

    Example:
        >>> rule = mixture({"adam": optax.adam(0.1), "sgd": optax.sgd(1.0)})
        >>> jax.nn.softmax(one_hot(rule.init(jax.random.key(0)), 1).logits).tolist()
        [[0.0, 1.0]]
    """
    logits = jnp.full_like(weights.logits, -1e4).at[:, place].set(0.0)
    return MixtureWeights(logits, jnp.zeros_like(weights.log_rates))
