"""An environment and a policy as a training process, which every method of the library can tune."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Problem, PyTree, State, Task
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy
from metahpo.rl.rollout import act

Act = Callable[[Key, HParams, PyTree], PyTree]
"""How to act with weights: ``(key, weights, observation) -> action``, as ``Policy.sample``."""


class Played(NamedTuple):
    """The state of a ``problem``.

    Attributes:
        state: the environment's.
        returned: ``f[]``, the (discounted) rewards until now.
        discount: ``f[]``, what the next reward counts.
        ended: ``bool[]``, whether the episode has ended: from then on nothing changes.
    """

    state: State
    returned: chex.Array
    discount: chex.Array
    ended: chex.Array


def problem(
    environment: Environment,
    policy: Policy | Act,
    *,
    greedy: bool = False,
    discount: float = 1.0,
    loss: Callable[[State], chex.Array] | None = None,
    predict: Callable[[State, chex.Array], PyTree] | None = None,
) -> Problem:
    """An environment as a Problem: a policy's weights are the hyperparameters, a step is an update.

    So whatever tunes hyperparameters learns policies: hypergradients, evolution strategies and
    ``meta_train``; random search, CMA-ES or Bayesian optimisation and ``search``, with a space of
    the weights.  Hypergradients go through actions and transitions, so they are those of the return
    where both are differentiable: for actions that are numbers.  A choice has no derivative, and
    what depends on it is left out; evolution strategies and ``rl.reinforce`` do without one.

    Args:
        environment: the process; gives the tasks.
        policy: a ``Policy``, or how to act, ``(key, weights, observation) -> action``.
        greedy: whether a ``Policy`` takes its most probable action instead of sampling one.
        discount: what a reward counts relative to the one before it.
        loss: of the environment's last state, ``(state) -> f[]``, where an episode is not to be
            judged by its return, such as ``lambda state: state.loss`` of a ``tuning_environment``.
        predict: of the environment's last state, where that holds a model.

    Returns:
        A Problem whose state is a ``Played`` and whose outer loss is minus the return of an
        episode, as far as it went: give as many steps as the longest has.  It does not change after
        the end.

    Raises:
        ValueError: for what is no environment or no policy, a ``greedy`` one that is only a
            function, a discount outside [0, 1], and all that ``rl.rollout`` refuses.

    Example:
        >>> import metahpo as mh
        >>> rates = mh.rl.chebyshev(10.0, steps=5, continuous=True)
        >>> table = lambda key, weights, time: weights["rates"][time]
        >>> process = problem(rates.environment, table)
        >>> space = {"rates": mh.Float(-1.0, 1.0, shape=(5,))}
        >>> found = mh.search(
        ...     jax.random.key(0), process, space, mh.strategies.cma_es(space, 8),
        ...     rounds=300, steps=5,
        ... )
        >>> bool(rates.optimal() + found.best_loss < 1e-4)
        True
    """
    checks.record("environment", environment, Environment, "mh.rl.tuning_environment")
    checks.probability("discount", discount)
    chosen = _acting(policy, greedy)

    def init(key: Key, hparams: HParams, task: Task) -> Played:
        del hparams
        state = jax.tree.map(jnp.asarray, environment.reset(key, task))
        return Played(state, jnp.zeros(()), jnp.ones(()), jnp.array(False))

    def step(key: Key, hparams: HParams, task: Task, played: Played) -> Played:
        del task  # the state keeps its own

        def now(key: Key, observation: PyTree) -> PyTree:
            return chosen(key, hparams, observation)

        observation = jax.tree.map(jnp.asarray, environment.observe(played.state))
        state, seen = act(environment, now, key, played.state, observation)
        new = Played(
            state,
            played.returned + played.discount * seen.reward,
            played.discount * discount,
            seen.terminated | seen.truncated,
        )
        return jax.tree.map(lambda old, new: jnp.where(played.ended, old, new), played, new)

    def judged(key: Key, hparams: HParams, task: Task, played: Played) -> chex.Array:
        del key, hparams, task
        return -played.returned if loss is None else loss(played.state)

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        raise ValueError(
            "an inner loss has no use here: a policy acts on a process that need not minimise "
            "anything; use rl.reinforce or hypergrad.es"
        )

    return Problem(
        environment.sample,
        init,
        step,
        judged,
        predict=None if predict is None else lambda played, x: predict(played.state, x),
        initial=policy.init if isinstance(policy, Policy) else None,
        lift=lift,
    )


def _acting(policy: Any, greedy: bool) -> Act:
    if isinstance(policy, Policy):
        return (lambda key, weights, seen: policy.mode(weights, seen)) if greedy else policy.sample
    checks.function("policy", policy, "(key, weights, observation) -> action", None, None, None)
    if greedy:
        raise ValueError("greedy is for a Policy, which has a mode; a function acts as it does")
    return policy
