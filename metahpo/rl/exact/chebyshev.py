"""Chebyshev: the rates of gradient descent on the worst of the quadratics."""

import math
from itertools import combinations_with_replacement
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice, Float

_MOST_ROUTES = 10**6
_SOLVED = 1e-12
"""What is left of the error along a curvature that a rate is made for: zero has no logarithm."""


def chebyshev(condition: float = 10.0, steps: int = 10, *, continuous: bool = False) -> Exact:
    """Gradient descent on quadratics with curvatures from 1 / condition to 1, a rate a step.

    The error that is judged is the largest among ``steps + 1`` curvatures, the points where the
    Chebyshev polynomial is extreme: no rates do better on them, nor on all curvatures in between
    (Young 1953).  A step's reward is the decrease of that error's logarithm, so a return is minus
    the logarithm of the worst ratio of errors: ``exp(-optimal())`` is ``1 / cosh(T acosh((k + 1) /
    (k - 1)))``, and ``exp(-static())`` is ``((k - 1) / (k + 1)) ** T``.

    Args:
        condition: the ratio of the largest to the smallest curvature, above 1.
        steps: of descent.
        continuous: whether an action is a number from -1 to 1, the place between the smallest and
            the largest curvature of the one that the rate solves in a step.  Such a process is
            differentiable wherever a single curvature is the worst.

    Returns:
        An ``Exact``; actions choose among the rates of Chebyshev and the best static one, where
        they are no numbers; observations and the tables of ``value`` (actions only) go over the
        time.  The random policy's value is a sum over all multisets of rates, refused if there are
        more than a million, or all numbers.

    Raises:
        ValueError: for zero steps, or a condition that is not above 1.

    Example:
        >>> benchmark = chebyshev(10.0, steps=10)
        >>> round(math.exp(-benchmark.optimal()), 5), round(math.exp(-benchmark.static()), 4)
        (0.00286, 0.1344)
    """
    steps = checks.whole("steps", steps)
    checks.positive(condition=condition)
    if condition <= 1:
        raise ValueError(f"condition must be above 1, got {condition}")
    middle, half = (1 + 1 / condition) / 2, (1 - 1 / condition) / 2
    places = np.cos((np.arange(steps) + 0.5) * math.pi / steps)
    if steps % 2 == 0:
        places = np.append(places, 0.0)  # else it is one of them
    curvature = middle + half * np.cos(np.arange(steps + 1) * math.pi / steps)

    def shrink(place: Any) -> Any:
        """The logarithm of what a rate leaves of each error, ``f[..., steps + 1]``."""
        xp = np if isinstance(place, np.ndarray) else jnp
        left = xp.abs(1 - curvature / (middle + half * place[..., None]))
        return xp.log(xp.maximum(left, _SOLVED))

    shrinks = shrink(places)

    def reset(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        del key, task
        return jnp.zeros(steps + 1), jnp.int32(0)

    def step(
        key: Key, state: tuple[chex.Array, chex.Array], action: chex.Array
    ) -> tuple[tuple[chex.Array, chex.Array], Transition]:
        del key
        errors, time = state
        if continuous:
            shrunk = shrink(jnp.clip(action, -1.0, 1.0)).astype(errors.dtype)
        else:
            shrunk = jnp.asarray(shrinks, errors.dtype)[action]
        new = errors + shrunk
        return (new, time + 1), Transition(
            errors.max() - new.max(), time + 1 >= steps, jnp.array(False)
        )

    def value(policy: np.ndarray) -> float:
        policy = np.asarray(policy)
        kinds, kind = ("f", "f") if continuous else ("iu", "i")
        if policy.shape != (steps,) or policy.dtype.kind not in kinds:
            raise ValueError(f"policy must be actions {kind}[{steps}], got shape {policy.shape}")
        shrunk = shrink(np.clip(policy, -1.0, 1.0)) if continuous else shrinks[policy]
        return -float(shrunk.sum(axis=0).max())

    best = places[:steps] if continuous else np.arange(steps)
    same = [0.0] if continuous else range(len(places))
    environment = Environment(
        reset,
        step,
        lambda state: jnp.minimum(state[1], steps),
        Float(-1.0, 1.0) if continuous else Choice(tuple((1 / (middle + half * places)).tolist())),
        Choice(range(steps + 1)),
    )
    return Exact(
        environment,
        optimal=lambda: value(best),
        static=lambda: max(value(np.full(steps, action)) for action in same),
        random=lambda: _random(shrinks, steps, continuous),
        value=value,
    )


def _random(shrinks: np.ndarray, steps: int, continuous: bool) -> float:
    """The mean over all sequences of rates, of which only the numbers of each matter."""
    if continuous:
        raise ValueError(
            "the random value of actions that are numbers is not known, got continuous"
        )
    rates = len(shrinks)
    routes = math.comb(rates + steps - 1, steps)
    if routes > _MOST_ROUTES:
        raise ValueError(
            f"the random value sums over at most {_MOST_ROUTES} multisets of rates, got {routes}"
        )
    chosen = np.array(list(combinations_with_replacement(range(rates), steps)), np.int8)
    counts = np.stack([(chosen == rate).sum(axis=1) for rate in range(rates)], axis=1)
    factorial = np.array([math.factorial(i) for i in range(steps + 1)], float)
    weight = factorial[steps] / factorial[counts].prod(axis=1) / float(rates) ** steps
    return -float(weight @ (counts @ shrinks).max(axis=1))
