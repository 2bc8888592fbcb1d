"""Learning by temporal differences with a table of action values: what its agents share."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree, State, Task
from metahpo.diagnostics import gradient_info
from metahpo.rl.agents.score import Score, no_score, scored
from metahpo.rl.enumeration import enumeration
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import Explore, Rate, draw, rate_at
from metahpo.rl.rollout import rollout

Worth: TypeAlias = Callable[[chex.Array, chex.Array, chex.Array], chex.Array]
"""``(values f[A], chances f[A], action i32[]) -> f[]``: what is expected of the next state."""

Agent = TypeVar("Agent", bound=Callable[..., Estimator])

_SHARED = """

    The gradient is minus the error of the value of each action taken, times ``rate``: with
    ``optax.sgd(0.1)`` and ``steps=1`` that is the textbook's update with a step size of 0.1, and
    with ``optax.sgd(1.0)`` and ``rate=lambda visits: 1 / visits`` it takes means.

    Args:
        environment: the process, with finite observations and actions.
        explore: how the agent acts, of ``epsilon_greedy``, ``softmax``, ``upper_confidence``.
        discount: in [0, 1].
        rate: factor of the errors; a schedule is one of how often the action was chosen in this
            state, this time included.
        steps: made before an update; their gradients are added up.

    Returns:
        An Estimator whose hyperparameters are a table ``f[S, A]``, as of ``table_policy``, and
        whose memory is a ``TabularMemory``.  Its loss is minus the return of the last episode that
        ended.  A reward that is not finite spoils the update, which ``meta_train`` skips.

    Raises:
        ValueError: for spaces that are not finite, zero steps, a discount outside [0, 1], or a
            table of another shape.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> lake = mh.rl.frozen_lake(slippery=False)
        >>> policy = mh.rl.table_policy(lake.environment, initial=1.0)  # tries everything
        >>> problem = mh.problems.function(lambda table: 0.0)
        >>> agent = mh.rl.NAME(lake.environment, mh.rl.epsilon_greedy(0.1))
        >>> learned = mh.meta_train(
        ...     jax.random.key(0), problem, agent, policy.init(jax.random.key(1)),
        ...     optax.sgd(0.5), rounds=5_000, tasks=1,
        ... )
        >>> lake.value(learned.hparams.argmax(axis=1)) == lake.optimal()
        True
"""


def described(agent: Agent) -> Agent:
    """The agent with the part of the docstring that all agents with a table share."""
    agent.__doc__ = (agent.__doc__ or "") + _SHARED.replace("NAME", agent.__name__)
    return agent


class TabularMemory(NamedTuple):
    """What an agent with a table keeps.

    Attributes:
        state: of the environment.
        action: ``i32[]``, the number of the action that comes next.
        visits: ``f[S, A]``, how often an action was chosen in a state.
        score: what was earned.
    """

    state: State
    action: chex.Array
    visits: chex.Array
    score: Score


def temporal_differences(
    environment: Environment,
    worth: Worth,
    explore: Explore,
    discount: chex.Numeric,
    rate: Rate,
    steps: int,
    *,
    ahead: bool,
) -> Estimator:
    """The agent with a table whose target is the reward and the worth of the next state.

    Args:
        environment: the process, with finite observations and actions.
        worth: of the next state; after a termination it is nothing, at a truncation it counts.
        explore: how it acts.
        discount: in [0, 1].
        rate: factor of the errors; a schedule is one of the visits, this one included.
        steps: made in an estimate.
        ahead: whether the next action is chosen before this one is learned from, and then taken.
    """
    steps = checks.whole("steps", steps)
    checks.probability("discount", discount)
    seen = enumeration(environment.observation_space, "the space of observations")
    actions = enumeration(environment.action_space, "the space of actions")

    def choose(
        key: Key, table: chex.Array, state: State, visits: chex.Array, time: chex.Array
    ) -> chex.Array:
        at = seen.number(environment.observe(state))
        return draw(key, explore(table[at], visits[at], time))

    def init(key: Key, table: HParams, task: Task) -> TabularMemory:
        if jnp.shape(table) != (seen.size, actions.size):
            raise ValueError(
                f"the table must have shape {(seen.size, actions.size)}, got {jnp.shape(table)}"
            )
        reset_key, action_key = jax.random.split(key)
        state = jax.tree.map(jnp.asarray, environment.reset(reset_key, task))
        visits, score = jnp.zeros_like(table), no_score()
        action = choose(action_key, table, state, visits, score.steps)
        return TabularMemory(state, action, visits, score)

    def estimate(
        key: Key, table: HParams, task: Task, memory: TabularMemory
    ) -> tuple[Estimate, PyTree]:
        def step(
            carry: tuple[TabularMemory, chex.Array], key: Key
        ) -> tuple[tuple[TabularMemory, chex.Array], None]:
            memory, grad = carry
            before_key, step_key, after_key, again_key = jax.random.split(key, 4)
            time = memory.score.steps
            action = memory.action
            if not ahead:
                action = choose(before_key, table, memory.state, memory.visits, time)
            state, stretch = rollout(
                step_key,
                environment,
                lambda key, observation: actions.value(action),
                1,
                state=memory.state,
                task=task,
            )
            one = jax.tree.map(lambda x: x[0], stretch)
            at, to = seen.number(one.observation), seen.number(one.next_observation)
            visits = memory.visits.at[at, action].add(1)
            chances = explore(table[to], visits[to], time + 1)
            then = draw(after_key, chances)
            if ahead:  # a new episode begins elsewhere
                ended = one.terminated | one.truncated
                fresh = choose(again_key, table, state, visits, time + 1)
                memory = memory._replace(action=jnp.where(ended, fresh, then))
            to_come = jnp.where(one.terminated, 0, worth(table[to], chances, then))
            error = (one.reward + discount * to_come - table[at, action]).astype(table.dtype)
            share = jnp.asarray(rate_at(rate, visits[at, action]), table.dtype)
            score = scored(memory.score, stretch)
            memory = memory._replace(state=state, visits=visits, score=score)
            return (memory, grad.at[at, action].add(-share * error)), None

        keys = jax.random.split(key, steps)
        (memory, grad), _ = jax.lax.scan(step, (memory, jnp.zeros_like(table)), keys)
        loss = -memory.score.last
        return Estimate(loss, grad, gradient_info(loss, grad)), memory

    return Estimator(init, estimate)
