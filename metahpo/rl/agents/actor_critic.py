"""What agents with a critic share: stretches with advantages, and their losses."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, PyTree, State, Task
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy
from metahpo.rl.returns import gae
from metahpo.rl.rollout import Trajectory, rollout


class Batch(NamedTuple):
    """What was done and how it went; all ``[T]``.

    Attributes:
        observation: before each action.
        action: what was done.
        log_prob: ``f[T]``, of the actions, with the weights that chose them.
        advantage: ``f[T]``, how much better it went than the critic expected.
        value: ``f[T]``, what the critic should have said: lambda-returns.
    """

    observation: PyTree
    action: PyTree
    log_prob: chex.Array
    advantage: chex.Array
    value: chex.Array


class Rates(NamedTuple):
    """How far an agent and its critic look ahead; all in [0, 1].

    Attributes:
        discount: of rewards.
        decay: lambda of the advantages.
        critic_decay: lambda of what the critic learns.
    """

    discount: chex.Numeric
    decay: chex.Numeric
    critic_decay: chex.Numeric


def checked(
    agent: str,
    policy: Policy,
    entropy: chex.Numeric,
    critic: chex.Numeric,
    discount: chex.Numeric,
    decay: chex.Numeric,
    critic_decay: chex.Numeric | None,
) -> Rates:
    """The rates of an agent, whose critic's is that of its advantages by default.

    Raises:
        ValueError: unless the policy has a critic, and an entropy if it is wanted, weights are at
            least 0 and rates in [0, 1].
    """
    if policy.value is None:
        raise ValueError(f"{agent} needs a policy with a value, as with_value makes it")
    checks.at_least("entropy", entropy, 0)
    check_entropy(policy, entropy)
    checks.at_least("critic", critic, 0)
    rates = Rates(discount, decay, decay if critic_decay is None else critic_decay)
    for name, rate in rates._asdict().items():
        checks.probability(name, rate)
    return rates


def check_entropy(policy: Policy, bonus: chex.Numeric) -> None:
    """Raises ``ValueError`` if there is a bonus for an entropy that the policy does not tell."""
    if policy.entropy is None and not (checks.known(bonus) and bonus == 0):
        raise ValueError(f"an entropy bonus needs a policy with an entropy, got {bonus}")


def collect(
    key: Key,
    environment: Environment,
    policy: Policy,
    weights: PyTree,
    steps: int,
    state: State,
    task: Task,
    rates: Rates,
) -> tuple[State, Trajectory, Batch]:
    """Acts for so many steps and says how well it went."""

    def act(key: Key, observation: PyTree) -> PyTree:
        return policy.sample(key, weights, observation)

    state, stretch = rollout(key, environment, act, steps, state=state, task=task)
    assert policy.value is not None
    values = jax.vmap(policy.value, (None, 0))
    value = values(weights, stretch.observation)
    if value.shape != (steps,):
        raise ValueError(f"a policy's value must be a scalar, got shape {value.shape[1:]}")
    after = values(weights, stretch.next_observation)
    advantage = gae(stretch, value, after, rates.discount, rates.decay)
    logs = jax.vmap(policy.log_prob, (None, 0, 0))(weights, stretch.observation, stretch.action)
    goal = value + gae(stretch, value, after, rates.discount, rates.critic_decay)
    return state, stretch, Batch(stretch.observation, stretch.action, logs, advantage, goal)


def critic_error(policy: Policy, weights: PyTree, batch: Batch) -> chex.Array:
    """Half the mean squared error of the critic."""
    assert policy.value is not None
    said = jax.vmap(policy.value, (None, 0))(weights, batch.observation)
    return 0.5 * ((said - batch.value) ** 2).mean()


def mean_entropy(policy: Policy, weights: PyTree, observation: PyTree) -> chex.Array:
    """Over observations with a leading axis; 0 where the policy does not tell."""
    if policy.entropy is None:
        return jnp.zeros(())
    return jax.vmap(policy.entropy, (None, 0))(weights, observation).mean()
