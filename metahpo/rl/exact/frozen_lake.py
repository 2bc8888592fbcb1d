"""FrozenLake: across a lake with holes, on ice that may be slippery."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.finite import evaluate, optimise
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice

_MAPS = {
    4: "SFFF FHFH FFFH HFFG",
    8: "SFFFFFFF FFFFFFFF FFFHFFFF FFFFFHFF FFFHFFFF FHHFFFHF FHFFHFHF FFFHFFFG",
}
_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
_MOST_STEPS = {4: 100, 8: 200}


def frozen_lake(size: Literal[4, 8] = 4, slippery: bool = True, discount: float = 0.99) -> Exact:
    """Walks over a frozen lake: 1 for who reaches the goal, 0 for who falls into a hole.

    On slippery ice a step goes where it should, or to either side of that, with probability 1/3
    each.  The maps and the limit of 100 or 200 steps are gymnasium's.  The limit truncates, as the
    time is not observed, and values do without it: they are discounted instead.

    Args:
        size: of the map, 4 x 4 or 8 x 8.
        slippery: whether the ice is.
        discount: of the values.

    Returns:
        An ``Exact`` whose ``optimal(discount=..., steps=None)`` and ``value(policy, discount=...,
        steps=None)`` are those of the first so many steps, of all by default; with a discount of 1
        that is the chance to arrive in time, the best one for who knows the time.  Observations
        are the field's number, row by row, and actions left, down, right and up.

    Raises:
        ValueError: for another size, or a discount outside [0, 1].

    Example:
        >>> lake = frozen_lake()
        >>> round(lake.optimal(), 4), round(frozen_lake(slippery=False).optimal(), 4)
        (0.542, 0.951)
    """
    checks.one_of("size", size, _MAPS)
    checks.probability("discount", discount)
    fields = "".join(_MAPS[size].split())
    after = _next_fields(size)
    slips = np.array([[(a - 1) % 4, a, (a + 1) % 4] if slippery else [a] * 3 for a in range(4)])
    goal, over = (np.array([field in kind for field in fields]) for kind in ("G", "GH"))

    def reset(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        del key, task
        return jnp.int32(0), jnp.int32(0)

    def step(
        key: Key, state: tuple[chex.Array, chex.Array], action: chex.Array
    ) -> tuple[tuple[chex.Array, chex.Array], Transition]:
        field, time = state
        goes = jnp.asarray(slips)[action, jax.random.randint(key, (), 0, 3)]
        new = jnp.where(jnp.asarray(over)[field], field, jnp.asarray(after)[field, goes])
        reward = (jnp.asarray(goal)[new] & (new != field)).astype(float)
        ended = jnp.asarray(over)[new]
        limit = (time + 1 >= _MOST_STEPS[size]) & ~ended
        return (new, time + 1), Transition(reward, ended, limit)

    def value(policy: np.ndarray, discount: float = discount, steps: int | None = None) -> float:
        return float(evaluate(probability, gain, policy, discount, steps)[0])

    def optimal(discount: float = discount, steps: int | None = None) -> float:
        return float(optimise(probability, gain, discount, steps)[0])

    states = size * size
    probability = np.zeros((states, 4, states))
    for field, action, goes in np.ndindex(states, 4, 3):
        probability[field, action, after[field, slips[action, goes]]] += 1 / 3
    probability[over] = 0
    gain = probability @ goal.astype(float)
    environment = Environment(
        reset,
        step,
        lambda state: state[0],
        Choice(("left", "down", "right", "up")),
        Choice(range(states)),
    )
    return Exact(
        environment,
        optimal=optimal,
        static=lambda: max(value(np.full(states, action)) for action in range(4)),
        random=lambda: value(np.full((states, 4), 0.25)),
        value=value,
    )


def _next_fields(size: int) -> np.ndarray:
    """``i32[states, 4]``: where each move leads on firm ground."""
    after = np.zeros((size * size, 4), np.int32)
    for row, column, action in np.ndindex(size, size, 4):
        to = np.clip((row + _MOVES[action][0], column + _MOVES[action][1]), 0, size - 1)
        after[row * size + column, action] = to[0] * size + to[1]
    return after
