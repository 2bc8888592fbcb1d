"""The ten-armed testbed: which of several noisy levers pays most?"""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice


def testbed(arms: int = 10, steps: int = 1000) -> Exact:
    """A bandit whose arms pay a mean from N(0, 1) plus noise from N(0, 1) (Sutton & Barto 2018).

    There is nothing to see: the one observation is always the same.  After ``steps`` pulls an
    episode, that is a task, is truncated, as the time is not observed.

    Args:
        arms: at least 2.
        steps: pulls in an episode, at least 1.

    Returns:
        An ``Exact``; the best policy knows the means.

    Raises:
        ValueError: for fewer arms or steps.

    Example:
        >>> round(testbed(arms=10, steps=1).optimal(), 4)  # the largest of ten normal numbers
        1.5388
    """
    arms, steps = checks.whole("arms", arms, at_least=2), checks.whole("steps", steps)

    def sample(key: Key) -> chex.Array:
        return jax.random.normal(key, (arms,))

    def reset(key: Key, task: chex.Array) -> tuple[chex.Array, chex.Array]:
        del key
        return task, jnp.int32(0)

    def step(
        key: Key, state: tuple[chex.Array, chex.Array], action: chex.Array
    ) -> tuple[tuple[chex.Array, chex.Array], Transition]:
        means, time = state
        reward = means[action] + jax.random.normal(key)
        return (means, time + 1), Transition(reward, jnp.array(False), time + 1 >= steps)

    environment = Environment(
        reset,
        step,
        lambda state: jnp.int32(0),
        Choice(range(arms)),
        Choice(("bandit",)),
        sample,
    )
    return Exact(
        environment,
        optimal=lambda: steps * _largest(arms),
        static=lambda: 0.0,
        random=lambda: 0.0,
    )


def _largest(count: int) -> float:
    """The mean of the largest of so many normal numbers, by quadrature."""
    x = np.linspace(-10, 10, 4001)
    below = np.array([0.5 * (1 + math.erf(one / math.sqrt(2))) for one in x])
    density = count * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) * below ** (count - 1)
    return float((x * density).sum() * (x[1] - x[0]))
