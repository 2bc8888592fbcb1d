"""Chebyshev: the rates of gradient descent on the worst of the quadratics."""

import math
from itertools import combinations_with_replacement

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice

_MOST_ROUTES = 10**6


def chebyshev(condition: float = 10.0, steps: int = 10) -> Exact:
    """Gradient descent on quadratics with curvatures from 1 / condition to 1, a rate a step.

    The error that is judged is the largest among ``steps + 1`` curvatures, the points where the
    Chebyshev polynomial is extreme: no rates do better on them, nor on all curvatures in between
    (Young 1953).  A step's reward is the decrease of that error's logarithm, so a return is minus
    the logarithm of the worst ratio of errors: ``exp(-optimal())`` is ``1 / cosh(T acosh((k + 1) /
    (k - 1)))``, and ``exp(-static())`` is ``((k - 1) / (k + 1)) ** T``.

    Args:
        condition: the ratio of the largest to the smallest curvature, above 1.
        steps: of descent.

    Returns:
        An ``Exact``; actions choose among the rates of Chebyshev and the best static one,
        observations and the tables of ``value`` (actions only) go over the time.  The random
        policy's value is a sum over all multisets of rates, refused if there are more than a
        million.

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
    roots = middle + half * np.cos((np.arange(steps) + 0.5) * math.pi / steps)
    if steps % 2 == 0:
        roots = np.append(roots, middle)  # else it is one of them
    curvature = middle + half * np.cos(np.arange(steps + 1) * math.pi / steps)
    # A curvature that a rate is made for counts as nearly solved, since zero has no logarithm.
    shrinks = np.log(np.maximum(np.abs(1 - curvature / roots[:, None]), 1e-12))

    def reset(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        del key, task
        return jnp.zeros(steps + 1), jnp.int32(0)

    def step(
        key: Key, state: tuple[chex.Array, chex.Array], action: chex.Array
    ) -> tuple[tuple[chex.Array, chex.Array], Transition]:
        del key
        errors, time = state
        new = errors + jnp.asarray(shrinks, errors.dtype)[action]
        return (new, time + 1), Transition(
            errors.max() - new.max(), time + 1 >= steps, jnp.array(False)
        )

    def value(policy: np.ndarray) -> float:
        policy = np.asarray(policy)
        if policy.shape != (steps,) or policy.dtype.kind not in "iu":
            raise ValueError(f"policy must be actions i[{steps}], got shape {policy.shape}")
        return -float(shrinks[policy].sum(axis=0).max())

    environment = Environment(
        reset,
        step,
        lambda state: jnp.minimum(state[1], steps),
        Choice(tuple((1 / roots).tolist())),
        Choice(range(steps + 1)),
    )
    return Exact(
        environment,
        optimal=lambda: value(np.arange(steps)),
        static=lambda: max(value(np.full(steps, a)) for a in range(len(roots))),
        random=lambda: _random(shrinks, steps),
        value=value,
    )


def _random(shrinks: np.ndarray, steps: int) -> float:
    """The mean over all sequences of rates, of which only the numbers of each matter."""
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
