"""Environments and agents of others: ``python reinforcement.py CASE F``.

``dacbench:NAME`` plays random actions, resets included; its result is the sum of the rewards.
``sb3:AGENT`` trains an agent of Stable-Baselines3 in our LeadingOnes through gymnasium; its result
is what it would do.  A run is 2,048 steps, a whole number of PPO's stretches.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import serve

STEPS = 2048
BENCHMARKS = {
    "luby": "LubyBenchmark",
    "sigmoid": "FunctionApproximationBenchmark",
    "theory": "TheoryBenchmark",
}


def dacbench(name: str, arrays: serve.Arrays) -> Callable[[], dict[str, Any]]:
    """The default environment of a benchmark."""
    # Of all environments this one alone needs torchvision, and it is imported with the others.
    sys.modules["dacbench.envs.sgd"] = MagicMock()
    from dacbench import benchmarks

    environment = getattr(benchmarks, BENCHMARKS[name])().get_environment()
    environment.reset()

    def run() -> dict[str, Any]:
        total = 0.0
        for _ in range(STEPS):
            _, reward, terminated, truncated, _ = environment.step(
                environment.action_space.sample()
            )
            total += float(np.asarray(reward).sum())
            if terminated or truncated:
                environment.reset()
        return {"reward": np.array(total)}

    return run


AGENTS = {  # as benchmarks/reinforcement.py sets up its own
    "PPO": {"n_steps": 128, "batch_size": 128, "n_epochs": 4},
    "DQN": {"train_freq": 4, "batch_size": 32, "buffer_size": 10_000, "learning_starts": 33},
}


def stable_baselines3(name: str, arrays: serve.Arrays) -> Callable[[], dict[str, Any]]:
    """One agent, which goes on learning from run to run."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import stable_baselines3
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    import metahpo as mh
    from metahpo.integrations.gymnasium import Env

    torch.set_num_threads(1)  # more are slower for networks of this size
    environment = mh.rl.leading_ones(50).environment
    lanes = make_vec_env(lambda: Env(environment), 4 if name == "PPO" else 1)
    make = getattr(stable_baselines3, name)
    model = make("MlpPolicy", lanes, policy_kwargs={"net_arch": [64, 64]}, **AGENTS[name])

    def run() -> dict[str, Any]:
        model.learn(STEPS, reset_num_timesteps=False)
        return {"actions": model.predict(np.arange(50), deterministic=True)[0]}

    return run


if __name__ == "__main__":
    cases = {f"dacbench:{name}": partial(dacbench, name) for name in BENCHMARKS}
    cases |= {f"sb3:{name}": partial(stable_baselines3, name) for name in AGENTS}
    serve.serve(cases, "cpu")
