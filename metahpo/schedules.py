"""optax's schedules for lengths, rates and boundaries that are themselves hyperparameters.

optax compares lengths with zero when a schedule is made, which a traced number does not allow, so
its schedules cannot be tuned inside a program.  Those of the same names here give the same values
for the same arguments, take traced numbers everywhere, and can be differentiated with respect to
all of them, lengths included (as floats).  Refused arguments of a schedule of optax's, such as
``decay_steps`` of 0, are the constant that the schedule ends with, since a traced number cannot be
refused.

A schedule is a function of the number of updates, so optax takes it for a learning rate.
"""

from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp

from metahpo import checks

Schedule = Callable[[chex.Numeric], chex.Array]


def constant_schedule(value: chex.Numeric) -> Schedule:
    """``value``, whatever the number of updates.

    Example:
        >>> float(constant_schedule(0.5)(7))
        0.5
    """
    return lambda count: jnp.asarray(value)


def polynomial_schedule(
    init_value: chex.Numeric,
    end_value: chex.Numeric,
    power: chex.Numeric,
    transition_steps: chex.Numeric,
    transition_begin: chex.Numeric = 0,
) -> Schedule:
    """From ``init_value`` to ``end_value`` as ``(1 - share passed) ** power``.

    Args:
        init_value: before ``transition_begin``.
        end_value: ``transition_steps`` later.
        power: of the polynomial, above 0.
        transition_steps: the length; without one the value stays ``init_value``.
        transition_begin: when the change begins; 0 if negative.

    Example:
        >>> float(polynomial_schedule(1.0, 0.0, 2, 10)(5))
        0.25
    """

    def schedule(count: chex.Numeric) -> chex.Array:
        left = 1 - _passed(count - jnp.maximum(transition_begin, 0), transition_steps)
        value = (init_value - end_value) * _power(left, power) + end_value
        return jnp.where(jnp.asarray(transition_steps) > 0, value, init_value)

    return schedule


def linear_schedule(
    init_value: chex.Numeric,
    end_value: chex.Numeric,
    transition_steps: chex.Numeric,
    transition_begin: chex.Numeric = 0,
) -> Schedule:
    """``polynomial_schedule`` of power 1.

    Example:
        >>> float(linear_schedule(0.0, 1.0, 4)(1))
        0.25
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def exponential_decay(
    init_value: chex.Numeric,
    transition_steps: chex.Numeric,
    decay_rate: chex.Numeric,
    transition_begin: chex.Numeric = 0,
    staircase: bool = False,
    end_value: chex.Numeric | None = None,
) -> Schedule:
    """``init_value * decay_rate ** (updates / transition_steps)``.

    Args:
        init_value: before ``transition_begin``.
        transition_steps: updates for one factor of ``decay_rate``.
        decay_rate: the factor; with 0 the value stays ``init_value``, as it does without a length.
        transition_begin: when the decay begins; 0 if negative.
        staircase: whether only whole factors count (static).
        end_value: where the decay ends: a lower bound below a ``decay_rate`` of 1, else an upper.

    Example:
        >>> float(exponential_decay(1.0, 10, 0.25)(5))
        0.5
    """

    def schedule(count: chex.Numeric) -> chex.Array:
        since = jnp.maximum(count - jnp.maximum(transition_begin, 0), 0)
        moves = (jnp.asarray(transition_steps) > 0) & (jnp.asarray(decay_rate) != 0)
        share = since / jnp.where(moves, transition_steps, 1)
        factor = _power(jnp.where(moves, decay_rate, 1), jnp.floor(share) if staircase else share)
        value = init_value * factor
        if end_value is not None:
            falls = jnp.asarray(decay_rate) < 1
            bounded = jnp.where(falls, jnp.maximum(value, end_value), jnp.minimum(value, end_value))
            value = jnp.where(moves, bounded, value)
        return value

    return schedule


def cosine_decay_schedule(
    init_value: chex.Numeric,
    decay_steps: chex.Numeric,
    alpha: chex.Numeric = 0.0,
    exponent: chex.Numeric = 1.0,
) -> Schedule:
    """Half a cosine from ``init_value`` to ``alpha * init_value`` (Loshchilov & Hutter, 2017).

    Args:
        init_value: at first.
        decay_steps: the length.
        alpha: what is left at the end, as a share.
        exponent: of the cosine's share.

    Example:
        >>> round(float(cosine_decay_schedule(1.0, 10)(5)), 6)
        0.5
    """
    checks.at_least("decay_steps", decay_steps, 0)

    def schedule(count: chex.Numeric) -> chex.Array:
        share = jnp.where(jnp.asarray(decay_steps) > 0, _passed(count, decay_steps), 1.0)
        left = _power(0.5 * (1 + jnp.cos(jnp.pi * share)), exponent)
        return init_value * ((1 - alpha) * left + alpha)

    return schedule


def warmup_constant_schedule(
    init_value: chex.Numeric, peak_value: chex.Numeric, warmup_steps: chex.Numeric
) -> Schedule:
    """A linear rise to ``peak_value``, which then stays.

    Example:
        >>> float(warmup_constant_schedule(0.0, 1.0, 4)(9))
        1.0
    """
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: chex.Numeric,
    peak_value: chex.Numeric,
    warmup_steps: chex.Numeric,
    decay_steps: chex.Numeric,
    end_value: chex.Numeric = 0.0,
    exponent: chex.Numeric = 1.0,
) -> Schedule:
    """A linear rise, then half a cosine.

    Args:
        init_value: at first.
        peak_value: after ``warmup_steps``.
        warmup_steps: length of the rise.
        decay_steps: length of rise and fall together.
        end_value: after ``decay_steps``.
        exponent: of the cosine's share.

    Example:
        >>> schedule = warmup_cosine_decay_schedule(0.0, 1.0, 10, 30)
        >>> [round(float(schedule(count)), 6) for count in (5, 10, 20)]
        [0.5, 1.0, 0.5]
    """
    none = jnp.asarray(peak_value) == 0
    alpha = jnp.where(none, 0.0, end_value / jnp.where(none, 1.0, peak_value))
    rise = linear_schedule(init_value, peak_value, warmup_steps)
    fall = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return join_schedules([rise, fall], [warmup_steps])


def warmup_exponential_decay_schedule(
    init_value: chex.Numeric,
    peak_value: chex.Numeric,
    warmup_steps: chex.Numeric,
    transition_steps: chex.Numeric,
    decay_rate: chex.Numeric,
    transition_begin: chex.Numeric = 0,
    staircase: bool = False,
    end_value: chex.Numeric | None = None,
) -> Schedule:
    """A linear rise of ``warmup_steps``, then ``exponential_decay``, of which see the arguments.

    Example:
        >>> float(warmup_exponential_decay_schedule(0.0, 1.0, 10, 10, 0.25)(15))
        0.5
    """
    rise = linear_schedule(init_value, peak_value, warmup_steps)
    fall = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join_schedules([rise, fall], [warmup_steps])


def piecewise_constant_schedule(
    init_value: chex.Numeric,
    boundaries_and_scales: (
        Mapping[int, chex.Numeric] | Sequence[tuple[chex.Numeric, chex.Numeric]]
    ) = (),
) -> Schedule:
    """``init_value`` times the scales of all boundaries that were reached.

    Args:
        init_value: at first.
        boundaries_and_scales: as a dictionary, or as pairs, which may be traced.

    Example:
        >>> float(piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.5})(20))
        0.25
    """
    mapping = isinstance(boundaries_and_scales, Mapping)
    pairs = list(boundaries_and_scales.items() if mapping else boundaries_and_scales)  # type: ignore[union-attr]

    def schedule(count: chex.Numeric) -> chex.Array:
        value = jnp.asarray(init_value)
        for boundary, scale in pairs:
            value = value * jnp.where(count >= jnp.asarray(boundary), scale, 1.0)
        return value

    return schedule


def sgdr_schedule(cosine_kwargs: Sequence[Mapping[str, chex.Numeric]]) -> Schedule:
    """``warmup_cosine_decay_schedule`` again and again (Loshchilov & Hutter, 2017).

    Args:
        cosine_kwargs: the arguments of each cycle; ``decay_steps`` is its whole length.

    Example:
        >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 10}
        >>> float(sgdr_schedule([cycle, cycle])(15))
        1.0
    """
    boundaries: list[chex.Numeric] = []
    for cycle in cosine_kwargs:
        boundaries.append(cycle["decay_steps"] + (boundaries[-1] if boundaries else 0))
    cycles = [warmup_cosine_decay_schedule(**cycle) for cycle in cosine_kwargs]
    return join_schedules(cycles, boundaries[:-1])


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[chex.Numeric]) -> Schedule:
    """Schedules one after another; each counts from the boundary where it begins.

    Args:
        schedules: at least one.
        boundaries: one less than schedules, in order.

    Raises:
        ValueError: for another number of boundaries.

    Example:
        >>> schedule = join_schedules([constant_schedule(1.0), constant_schedule(2.0)], [3])
        >>> float(schedule(2)), float(schedule(3))
        (1.0, 2.0)
    """
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules needs a boundary between any two schedules, got {len(schedules)} "
            f"schedules and {len(boundaries)} boundaries"
        )

    def schedule(count: chex.Numeric) -> chex.Array:
        value = schedules[0](count)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            value = jnp.where(count < jnp.asarray(boundary), value, following(count - boundary))
        return value

    return schedule


def _passed(count: chex.Numeric, steps: chex.Numeric) -> chex.Array:
    """The share of ``steps`` that is over, in [0, 1]; 0 where there are no steps."""
    steps = jnp.asarray(steps)
    some = steps > 0
    share = jnp.clip(count, 0, jnp.where(some, steps, 1)) / jnp.where(some, steps, 1)
    return jnp.where(some, share, 0.0)


def _power(base: chex.Array, exponent: chex.Numeric) -> chex.Array:
    """``base ** exponent`` of a base of at least 0, whose slope at 0 is 0 and never infinite."""
    base = jnp.asarray(base)
    some = base > 0
    zeroth = jnp.where(jnp.asarray(exponent) == 0, 1.0, 0.0)
    return jnp.where(some, jax.lax.pow(*_floats(jnp.where(some, base, 1), exponent)), zeroth)


def _floats(base: chex.Array, exponent: chex.Numeric) -> tuple[chex.Array, chex.Array]:
    dtype = jnp.promote_types(jnp.result_type(base, exponent), jnp.float32)
    return base.astype(dtype), jnp.asarray(exponent, dtype)
