"""The second rung: the numbers of any optax optimiser as functions of the updates made."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Params, PyTree
from metahpo.learned_optimizers.curves import Curve
from metahpo.learned_optimizers.learnable import Number, learnable, links_of
from metahpo.learned_optimizers.update_rule import UpdateRule, update_rule
from metahpo.links import Link


class ScheduledState(NamedTuple):
    """The optax state: ``count`` i32[], updates made, and the optimiser's own."""

    count: chex.Array
    inner: optax.OptState


def scheduled(
    make: Callable[..., optax.GradientTransformation],
    numbers: Mapping[str, Number],
    curves: Mapping[str, Curve],
    *,
    links: Mapping[str, Link] | None = None,
) -> UpdateRule:
    """Any optax optimiser, with some of its numbers learned as functions of the updates made.

    Momenta may change as well as rates: the optimiser is made anew in every update, with the
    numbers of that update and the state that it had.

    Args:
        make: ``(**numbers) -> optax.GradientTransformation``, such as ``optax.adam``, whose state
            does not hold the numbers.
        numbers: where learning starts, by argument name.
        curves: a ``Curve`` by argument name; numbers without one stay the same along training.
        links: as for ``learnable``.

    Returns:
        An UpdateRule with weights ``{name: f[K]}``, of a number without a curve ``f[]``; what they
        stand for is ``learned_schedules``.

    Raises:
        ValueError: as ``learnable``, and for a curve of what is not learned.

    Example:
        >>> import jax, metahpo as mh
        >>> curves = {"learning_rate": mh.learned_optimizers.per_step(100)}
        >>> rule = scheduled(optax.adam, {"learning_rate": 0.1, "b1": 0.9}, curves)
        >>> weights = rule.init(jax.random.key(0))
        >>> weights["learning_rate"].shape, weights["b1"].shape
        ((100,), ())
    """
    constant = learnable(make, numbers, links=links)
    for name in curves:
        checks.one_of("the name of a curve", name, sorted(numbers))

    def init(key: Key) -> dict[str, PyTree]:
        starts = constant.init(key)
        return {
            name: curves[name].init(start) if name in curves else start
            for name, start in starts.items()
        }

    def transform(weights: dict[str, PyTree]) -> optax.GradientTransformation:
        schedules = learned_schedules(weights, curves, links)

        def at(count: chex.Array) -> optax.GradientTransformationExtraArgs:
            values = {name: schedule(count) for name, schedule in schedules.items()}
            return optax.with_extra_args_support(make(**values))

        def start(params: Params) -> ScheduledState:
            count = jnp.zeros((), jnp.int32)
            return ScheduledState(count, at(count).init(params))

        def update(
            grads: Params, state: ScheduledState, params: Params | None = None, **extra: Any
        ) -> tuple[Params, ScheduledState]:
            updates, inner = at(state.count).update(grads, state.inner, params, **extra)
            return updates, ScheduledState(optax.safe_increment(state.count), inner)

        return optax.GradientTransformationExtraArgs(start, update)

    return update_rule("a learned schedule", init, transform)


def learned_schedules(
    weights: Mapping[str, chex.Array],
    curves: Mapping[str, Curve],
    links: Mapping[str, Link] | None = None,
) -> dict[str, optax.Schedule]:
    """What the weights of ``scheduled`` stand for: a schedule for each number, as optax takes it.

    Args:
        weights: by argument name.
        curves: those of the rule.
        links: those of the rule.

    Example:
        >>> from metahpo.learned_optimizers.curves import per_step
        >>> weights = {"learning_rate": jnp.log(jnp.array([0.5, 0.25]))}
        >>> rate = learned_schedules(weights, {"learning_rate": per_step(2)})["learning_rate"]
        >>> float(rate(1))
        0.25
    """
    own = links_of(weights, links)

    def schedule(name: str) -> optax.Schedule:
        def value(count: chex.Numeric) -> chex.Array:
            free = weights[name]
            if name in curves:
                free = curves[name].value(free, jnp.asarray(count))
            return own[name].constrain(free)

        return value

    return {name: schedule(name) for name in own}
