"""Many episodes at once as a ``gymnasium.vector.VectorEnv``."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from metahpo import checks, lanes
from metahpo.base import PyTree, Task
from metahpo.integrations.gymnasium import play as plays
from metahpo.integrations.gymnasium.play import Play
from metahpo.integrations.gymnasium.spaces import table
from metahpo.rl.environment import Environment
from metahpo.rl.rollout import Trajectory


class VectorEnv(gymnasium.vector.VectorEnv):
    """Many lanes of one environment, whose step is one compiled program.

    Lane ``i`` after ``reset(seed=s)`` is ``Env`` after ``reset(seed=s + i)``, and so
    ``rl.rollout``, up to the rounding of a batch.  A lane whose episode ends begins the next one in
    the same step (``AutoresetMode.SAME_STEP``); the last observation is then in
    ``infos["final_obs"]``.

    Args:
        environment: of the library.
        num_envs: lanes, at least 1.
        task: of all episodes; each draws its own by default.

    Attributes:
        environment: the same.
        play: the rollouts under way, leading axis ``[num_envs]``; ``None`` before the first
            ``reset``.

    Raises:
        ValueError: for what is no environment, a space that gymnasium has not, or zero lanes.

    Example:
        >>> import metahpo as mh
        >>> env = VectorEnv(mh.rl.leading_ones(8, (1, 2)).environment, num_envs=3)
        >>> env.reset(seed=0)[0].shape
        (3,)
        >>> observations, rewards, *_ = env.step(np.array([0, 1, 0]))
        >>> rewards
        array([-1., -1., -1.])
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self, environment: Environment, num_envs: int = 1, task: Task | None = None
    ) -> None:
        checks.record("environment", environment, Environment, "mh.rl.tuning_environment")
        self.environment = environment
        self.num_envs = checks.whole("num_envs", num_envs)
        self.play: Play | None = None
        self._actions, self._observations = map(
            table, (environment.action_space, environment.observation_space)
        )
        self.single_action_space = self._actions.space
        self.single_observation_space = self._observations.space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

        def again(play: Play, task: Task | None) -> Play:
            return plays.again(environment, play, task)

        def step(play: Play, action: PyTree) -> tuple[Play, Trajectory]:
            play, step = plays.stepped(environment, play, action)
            return lanes.when(step.terminated | step.truncated, again, play, task), step

        def reset(play: Play, mask: jax.Array) -> Play:
            return lanes.when(mask, again, play, task)

        self._start = jax.jit(jax.vmap(lambda seed: plays.started(environment, seed, task)))
        self._step = jax.jit(jax.vmap(step))
        self._reset = jax.jit(jax.vmap(reset))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """New episodes in all lanes, or in those of a mask.

        Args:
            seed: of lane 0, one more for each lane after it, or one for each; at the first time,
                and where it is ``None`` in a list, a seed is drawn.
            options: ``{"reset_mask": bool[num_envs]}`` leaves the other lanes alone, and takes no
                seed; nothing else is read.

        Raises:
            ValueError: for another number of seeds, a mask of another shape or type, or one beside
                a seed or before the first ``reset``.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape != (self.num_envs,) or mask.dtype != bool:
                raise ValueError(
                    f"reset_mask must be bool[{self.num_envs}], got {mask.dtype}{list(mask.shape)}"
                )
            if self.play is None or seed is not None:
                raise ValueError("reset_mask is for lanes under way, without a seed")
            self.play = self._reset(self.play, mask)
        elif seed is None and self.play is not None:
            self.play = self._reset(self.play, np.ones(self.num_envs, bool))
        else:
            self.play = self._start(self._seeds(seed))
        seen = jax.device_get(self.play.observation)
        return self._observations.encode(seen, (self.num_envs,)), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step in all lanes.

        Args:
            actions: of ``action_space``, one for each lane.

        Raises:
            ValueError: for actions that do not fit.
            gymnasium.error.ResetNeeded: before the first ``reset``.
        """
        if self.play is None:
            raise gymnasium.error.ResetNeeded("reset() comes before step()")
        lead = (self.num_envs,)
        self.play, steps = self._step(self.play, self._actions.decode(actions, lead))
        seen, steps = jax.device_get((self.play.observation, steps))
        infos: dict[str, Any] = {}
        for lane in np.flatnonzero(steps.terminated | steps.truncated):
            last = jax.tree.map(lambda leaf, lane=lane: leaf[lane], steps.next_observation)
            final = {"final_obs": self._observations.encode(last, ()), "final_info": {}}
            infos = self._add_info(infos, final, int(lane))
        return (
            self._observations.encode(seen, lead),
            np.array(steps.reward, np.float64),
            np.array(steps.terminated),
            np.array(steps.truncated),
            infos,
        )

    def _seeds(self, seed: int | Sequence[int | None] | None) -> np.ndarray:
        """``u32[num_envs]``."""
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            each: list[int | None] = [
                None if seed is None else int(seed) + i for i in range(self.num_envs)
            ]
        else:
            each = list(seed)
            if len(each) != self.num_envs:
                raise ValueError(f"there must be {self.num_envs} seeds, got {len(each)}")
            super().reset(seed=each[0])
        drawn = self.np_random.integers(2**32, size=self.num_envs)
        return np.array(
            [new if one is None else one % 2**32 for one, new in zip(each, drawn, strict=True)],
            np.uint32,
        )
