"""The exact environments under ids of gymnasium."""

from collections.abc import Callable
from typing import Any

import gymnasium

from metahpo import rl
from metahpo.integrations.gymnasium.env import Env
from metahpo.integrations.gymnasium.vector_env import VectorEnv
from metahpo.rl.exact import Exact

IDS: dict[str, Callable[..., Exact]] = {
    "Chebyshev": rl.chebyshev,
    "FrozenLake": rl.frozen_lake,
    "LeadingOnes": rl.leading_ones,
    "Luby": rl.luby,
    "OneMax": rl.one_max,
    "Sigmoid": rl.sigmoid,
    "Testbed": rl.testbed,
}
"""By name: what makes the environment, with the arguments of ``gymnasium.make``."""


def register() -> None:
    """Makes ``gymnasium.make("metahpo/LeadingOnes-v0")`` and all the others known."""
    for name in IDS:
        gymnasium.register(
            f"metahpo/{name}-v0",
            entry_point=f"{__name__}:make_env",
            vector_entry_point=f"{__name__}:make_vector_env",
            kwargs={"benchmark": name},
        )


def make_env(benchmark: str, **arguments: Any) -> Env:
    """The entry point of ``gymnasium.make``."""
    return Env(IDS[benchmark](**arguments).environment)


def make_vector_env(benchmark: str, num_envs: int, **arguments: Any) -> VectorEnv:
    """The entry point of ``gymnasium.make_vec``."""
    return VectorEnv(IDS[benchmark](**arguments).environment, num_envs)
