"""Online hypergradient descent: the learning rate is learned while the parameters are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import checks
from metahpo.base import Params, PyTree
from metahpo.floats import wide

RULES = ("multiplicative", "additive")


class HypergradientDescentState(NamedTuple):
    """The optax state.

    Attributes:
        rates: ``{label: f[]}``, the learning rates in use, ``{"all": f[]}`` without groups.
        direction: the last update at rate 1, a pytree like the parameters.
        base: the state of the base transformation.
    """

    rates: dict[Any, chex.Array]
    direction: Params
    base: optax.OptState


def hypergradient_descent(
    base: optax.GradientTransformation,
    learning_rate: chex.Numeric | dict[Any, chex.Numeric],
    hyper_rate: chex.Numeric,
    rule: str = "multiplicative",
    groups: PyTree | Callable[[Params], PyTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Learns the rate of any optimiser by one hypergradient a step (Baydin et al. 2018).

    With ``u_t`` the update of ``base``, whose own rate is 1, the parameters move by ``a_t u_t``.
    The loss at the next parameters has the derivative ``h = g_t . u_{t-1}`` with respect to
    ``a_{t-1}``, which needs nothing but the next gradient.  Per group of parameters::

        additive:        a_t = max(a_{t-1} - hyper_rate h, 0)
        multiplicative:  a_t = a_{t-1} (1 - hyper_rate h / (|g_t| |u_{t-1}|))

    With ``optax.sgd(1.0)``, ``optax.sgd(1.0, momentum=m, nesterov=True)`` and ``optax.adam(1.0)``
    these are the paper's algorithms 1, 2 and 3.  The multiplicative rule has no unit and keeps
    every rate positive, with a factor between ``1 - hyper_rate`` and ``1 + hyper_rate`` a step: it
    crosses ``k`` powers of ten in ``2.3 k / hyper_rate`` steps.  The hyper rate of the additive
    rule has the unit of a squared rate over a loss.  The paper's additive rule has no guard; here
    it stops at 0, from where the next gradient takes it up again.

    The rule is greedy: it likes the rate that is best for the next step.  On full batches of a
    badly conditioned problem it climbs to the edge of stability and oscillates there.

    Args:
        base: an optax optimiser with the learning rate 1, so that its updates point downhill.
        learning_rate: the first rate, positive; or one for each label of ``groups``.
        hyper_rate: the step size of the rates, positive; below 1 for the multiplicative rule.
        rule: ``"multiplicative" | "additive"``.
        groups: labels, a pytree prefix of the parameters, or ``(params) -> labels``; parameters
            with the same label share a rate.  All of them by default.

    Returns:
        A transformation whose ``HypergradientDescentState`` holds the current ``rates``.

    Raises:
        ValueError: for an unknown rule, a rate or hyper rate that is not positive, or a
            multiplicative hyper rate of at least 1, unless they are traced; for a dict of rates
            whose keys are not the labels.

    Example:
        >>> import metahpo as mh
        >>> optimizer = mh.learned_optimizers.hypergradient_descent(optax.sgd(1.0), 1e-4, 0.1)
        >>> loss = lambda x: jnp.sum(x**2)
        >>> x = jnp.array([1.0, -2.0])
        >>> state = optimizer.init(x)
        >>> @jax.jit
        ... def step(x, state):
        ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
        ...     return optax.apply_updates(x, updates), state
        >>> for _ in range(150):
        ...     x, state = step(x, state)
        >>> bool(loss(x) < 1e-6), bool(state.rates["all"] > 0.1)
        (True, True)
    """
    _check(learning_rate, hyper_rate, rule)
    base = optax.with_extra_args_support(base)

    def init(params: Params) -> HypergradientDescentState:
        labels = _labels(groups, params)
        names = dict.fromkeys(labels)  # in the order of the parameters
        if not isinstance(learning_rate, dict):
            rates = dict.fromkeys(names, learning_rate)
        elif set(learning_rate) == set(names):
            rates = learning_rate
        else:
            raise ValueError(f"rates are for {set(learning_rate)}, groups are {set(names)}")
        # In bfloat16 a rate could not change by less than half a percent.
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        rates = {name: jnp.asarray(rate, dtype) for name, rate in rates.items()}
        return HypergradientDescentState(rates, optax.tree.zeros_like(params), base.init(params))

    def update(
        grads: Params, state: HypergradientDescentState, params: Params | None = None, **extra: Any
    ) -> tuple[Params, HypergradientDescentState]:
        labels = _labels(groups, grads)
        leaves, treedef = jax.tree.flatten(grads)
        last = jax.tree.leaves(state.direction)
        rates = {
            name: _new_rate(
                rate,
                [wide(g) for g, label in zip(leaves, labels, strict=True) if label == name],
                [wide(u) for u, label in zip(last, labels, strict=True) if label == name],
                hyper_rate,
                rule,
            )
            for name, rate in state.rates.items()
        }
        direction, base_state = base.update(grads, state.base, params, **extra)
        pairs = zip(jax.tree.leaves(direction), labels, strict=True)
        updates = [(rates[label] * u).astype(u.dtype) for u, label in pairs]
        return (
            jax.tree.unflatten(treedef, updates),
            HypergradientDescentState(rates, direction, base_state),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _new_rate(
    rate: chex.Array,
    grads: list[chex.Array],
    last: list[chex.Array],
    hyper_rate: chex.Numeric,
    rule: str,
) -> chex.Array:
    if rule == "additive":
        new = jnp.maximum(rate - hyper_rate * optax.tree.vdot(grads, last), 0)
    else:
        cosine = optax.tree.vdot(_normalised(grads), _normalised(last))
        new = rate * (1 - hyper_rate * jnp.clip(cosine, -1, 1))  # rounding may exceed 1
    return new.astype(rate.dtype)


def _normalised(tree: list[chex.Array]) -> list[chex.Array]:
    """Divided by the norm; zeros stay zeros, also for hypergradients through this rule."""
    largest = jnp.stack([jnp.max(jnp.abs(x)) for x in tree]).max()
    zero = largest == 0
    # Squares of large or small entries would overflow or vanish.
    scaled = [x / jnp.where(zero, 1, largest) for x in tree]
    square = jnp.where(zero, 1, optax.tree.norm(scaled, squared=True))
    return [x / jnp.sqrt(square) for x in scaled]


def _labels(groups: PyTree | Callable[[Params], PyTree] | None, params: Params) -> list[Any]:
    """The label of every leaf."""
    if groups is None:
        return ["all"] * len(jax.tree.leaves(params))
    prefix = groups(params) if callable(groups) else groups
    full = jax.tree.map(lambda label, part: jax.tree.map(lambda _: label, part), prefix, params)
    return jax.tree.leaves(full)


def _check(
    learning_rate: chex.Numeric | dict[Any, chex.Numeric], hyper_rate: chex.Numeric, rule: str
) -> None:
    checks.one_of("rule", rule, RULES)
    for name, value in (("learning_rate", learning_rate), ("hyper_rate", hyper_rate)):
        for number in _known(value):
            if not np.all(number > 0):
                raise ValueError(f"{name} must be positive, got {number}")
    if rule == "multiplicative" and any(number >= 1 for number in _known(hyper_rate)):
        raise ValueError(f"a multiplicative hyper_rate must be below 1, got {hyper_rate}")


def _known(numbers: PyTree) -> list[np.ndarray]:
    """Those that are not traced."""
    return [np.asarray(x) for x in jax.tree.leaves(numbers) if checks.known(x)]
