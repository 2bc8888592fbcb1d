"""What every environment must be able to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Key, PyTree
from metahpo.rl.environment import Environment
from metahpo.rl.rollout import Trajectory, rollout
from metahpo.testing.rules import require, same


def check_environment(environment: Environment, *, steps: int = 100) -> None:
    """Checks an environment of your own as our own ones are checked.

    Plays uniformly random actions: that observations and actions are of their spaces, in shapes and
    types while it is traced and within the bounds when it has run; that a step keeps the shapes and
    types of the state and gives a scalar reward, finite, with flags of which one at most is up;
    that the same key gives the same rollout, in parts as a whole, and a lane of many as alone.

    Args:
        environment: the process.
        steps: of the rollout, at least 2; enough for some episodes to end.

    Raises:
        AssertionError: names the rule that is broken.
        ValueError: as ``rl.rollout`` would, for shapes and types.

    Example:
        >>> import metahpo as mh
        >>> check_environment(mh.rl.luby(8).environment, steps=40)
    """
    require(isinstance(environment, Environment), f"it is an mh.rl.Environment, got {environment}")

    def policy(key: Key, observation: PyTree) -> PyTree:
        del observation
        return spaces.sample(key, environment.action_space)

    def play(key: Key) -> tuple[Any, Trajectory]:
        return rollout(key, environment, policy, steps)

    def parts(key: Key) -> tuple[Any, Trajectory]:
        half = steps // 2
        state, first = rollout(key, environment, policy, half)
        state, second = rollout(key, environment, policy, steps - half, state=state, start=half)
        return state, jax.tree.map(lambda *both: jnp.concatenate(both), first, second)

    keys = jax.random.split(jax.random.key(0), 2)
    run = jax.jit(lambda keys: (play(keys[0]), parts(keys[0]), jax.vmap(play)(keys)))
    played, cut, lanes = run(keys)
    same(run(keys)[0], played, "the same key gives the same rollout")
    _check_steps(environment, jax.device_get(played[1]))
    _close(cut, played, "a rollout in parts is the rollout as a whole")
    lane = jax.tree.map(lambda leaf: leaf[0], lanes)
    _close(lane, played, "a lane of many is the rollout alone")


def _check_steps(environment: Environment, played: Trajectory) -> None:
    both = played.terminated & played.truncated
    require(not both.any(), f"a step is not both terminated and truncated, got so at {_at(both)}")
    wrong = ~np.isfinite(played.reward)
    require(not wrong.any(), f"rewards are finite, got {played.reward[wrong]} at {_at(wrong)}")
    for name, seen in {
        "observation": played.observation,
        "next_observation": played.next_observation,
    }.items():
        for t in range(len(played.reward)):
            try:
                spaces.check(
                    environment.observation_space, jax.tree.map(lambda leaf, t=t: leaf[t], seen)
                )
            except ValueError as error:
                raise AssertionError(f"an observation is of its space: {name}[{t}]: {error}") from (
                    error
                )


def _at(flags: np.ndarray) -> list[int]:
    return np.flatnonzero(flags).tolist()


def _close(new: Any, old: Any, rule: str) -> None:
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        require(bool(np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)), rule)
