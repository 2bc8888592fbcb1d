"""One environment as a ``gymnasium.Env``."""

from typing import Any

import gymnasium
import jax
import numpy as np

from metahpo import checks
from metahpo.base import Task
from metahpo.integrations.gymnasium import play as plays
from metahpo.integrations.gymnasium.spaces import table
from metahpo.rl.environment import Environment


class Env(gymnasium.Env):
    """An environment as gymnasium has them: numpy in, numpy out, a compiled step in between.

    After ``reset(seed=s)`` it is ``rl.rollout`` with ``jax.random.key(s)``, step by step and to the
    bit: where an episode ends, ``reset()`` begins the one that comes next there.

    Args:
        environment: of the library.
        task: of all episodes; each draws its own by default.

    Attributes:
        environment: the same.
        play: the rollout under way, with the ``state``; ``None`` before the first ``reset``.

    Raises:
        ValueError: for what is no environment, or a space that gymnasium has not.

    Example:
        >>> import metahpo as mh
        >>> env = Env(mh.rl.luby(8).environment)
        >>> observation, info = env.reset(seed=0)
        >>> {name: number.tolist() for name, number in observation.items()}
        {'remaining': [8], 'time': [0]}
        >>> env.step(0)[1:]
        (-0.0, False, False, {})
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, environment: Environment, task: Task | None = None) -> None:
        checks.record("environment", environment, Environment, "mh.rl.tuning_environment")
        self.environment = environment
        self.play: plays.Play | None = None
        self._actions, self._observations = map(
            table, (environment.action_space, environment.observation_space)
        )
        self.action_space = self._actions.space
        self.observation_space = self._observations.space
        self._start = jax.jit(lambda seed: plays.started(environment, seed, task))
        self._step = jax.jit(lambda play, action: plays.stepped(environment, play, action))
        self._again = jax.jit(lambda play: plays.again(environment, play, task))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new episode; of a new rollout if there is a seed, or none was begun.

        Args:
            seed: of the rollout; at the first time one is drawn by default.
            options: nothing is read of them.
        """
        super().reset(seed=seed)
        if seed is not None or self.play is None:
            seed = int(self.np_random.integers(2**32)) if seed is None else seed
            self.play = self._start(np.uint32(seed % 2**32))
        else:
            self.play = self._again(self.play)
        return self._observations.encode(jax.device_get(self.play.observation), ()), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, which does not reset.

        Args:
            action: of ``action_space``.

        Raises:
            ValueError: for an action that does not fit.
            gymnasium.error.ResetNeeded: before the first ``reset``.
        """
        if self.play is None:
            raise gymnasium.error.ResetNeeded("reset() comes before step()")
        self.play, step = self._step(self.play, self._actions.decode(action, ()))
        step = jax.device_get(step)
        seen = self._observations.encode(step.next_observation, ())
        return seen, float(step.reward), bool(step.terminated), bool(step.truncated), {}
