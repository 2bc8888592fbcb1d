"""Agents of rejax, in the JAX of its time: ``python old_agents.py rejax:AGENT F``.

They learn in LeadingOnes of 50 bits, as ``metahpo.rl.leading_ones`` has it; F says how many.  A run
is 2,048 steps of each, from its weights' beginning, and none of the evaluations that rejax adds.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rejax
import serve
from flax import struct
from gymnax.environments import environment, spaces

STEPS, BITS, PORTFOLIO = 2048, 50, (1, 2, 4, 8, 16)


@struct.dataclass
class State:
    """The string, and the steps made."""

    string: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    """What rejax asks for."""

    max_steps_in_episode: int = 1_000_000


class LeadingOnes(environment.Environment):
    """Flips so many bits; the new string is kept unless it has fewer leading ones."""

    @property
    def default_params(self) -> Params:
        return Params()

    def step_env(self, key: Any, state: State, action: Any, params: Params) -> tuple:
        new = state.string ^ flips(key, jnp.array(PORTFOLIO)[action])
        before, after = leading(state.string), leading(new)
        string = jnp.where(after >= before, new, state.string)
        state = State(string, state.time + 1)
        return self.get_obs(state), state, -1.0, leading(string) == BITS, {}

    def reset_env(self, key: Any, params: Params) -> tuple:
        state = State(jax.random.bernoulli(key, 0.5, (BITS,)), jnp.int32(0))
        return self.get_obs(state), state

    def get_obs(self, state: State, params: Any = None, key: Any = None) -> jax.Array:
        return jax.nn.one_hot(leading(state.string), BITS + 1)

    def action_space(self, params: Any = None) -> spaces.Discrete:
        return spaces.Discrete(len(PORTFOLIO))

    def observation_space(self, params: Any) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (BITS + 1,))


def flips(key: Any, count: jax.Array) -> jax.Array:
    """So many bits, without sorting, as ours."""

    def bit(needed: jax.Array, drawn: tuple) -> tuple:
        taken = drawn[0] * drawn[1] < needed
        return needed - taken, taken

    left = jnp.arange(BITS, 0, -1).astype(float)
    return jax.lax.scan(bit, count, (jax.random.uniform(key, (BITS,)), left))[1]


def leading(string: jax.Array) -> jax.Array:
    return jnp.where(string, BITS, jnp.arange(BITS)).min()


AGENTS = {  # as benchmarks/reinforcement.py sets up its own
    "PPO": {"num_envs": 4, "num_steps": 128, "num_epochs": 4, "num_minibatches": 4},
    "DQN": {"num_envs": 4, "buffer_size": 10_000, "fill_buffer": 32, "batch_size": 32},
}


def agents(name: str, arrays: serve.Arrays) -> Callable[[], dict[str, Any]]:
    """So many agents, trained side by side."""
    agent = getattr(rejax, name).create(
        env=LeadingOnes(),
        total_timesteps=STEPS,
        eval_freq=STEPS,
        skip_initial_evaluation=True,
        **AGENTS[name],
    )
    agent = agent.replace(eval_callback=lambda agent, state, key: ())
    train = jax.jit(jax.vmap(lambda key: agent.train(key)[0]))
    keys = jax.random.split(jax.random.PRNGKey(0), int(arrays["lanes"]))

    def run() -> dict[str, Any]:
        state = jax.block_until_ready(train(keys))
        return {"steps": np.asarray(state.global_step)}

    return run


if __name__ == "__main__":
    serve.serve({f"rejax:{name}": partial(agents, name) for name in AGENTS}, "cpu")
