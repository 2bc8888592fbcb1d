"""Policies that know what is to come: with a critic, or greedy with the values of all actions."""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key, PyTree
from metahpo.rl.enumeration import enumeration
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import draw, greedy_chances
from metahpo.rl.policy import Features, Policy, observer


def with_value(
    policy: Policy,
    environment: Environment,
    hidden: Sequence[int] = (16,),
    *,
    features: Features | None = None,
) -> Policy:
    """The policy with a critic beside it, a dense network of its own, as A2C and PPO need it.

    Args:
        policy: what to do.
        environment: gives the space of observations.
        hidden: widths of the critic's hidden layers.
        features: ``(observation) -> f[F]``, what it sees; ``flatten`` by default.

    Returns:
        A Policy with weights ``{"policy", "value"}`` that acts as before.

    Example:
        >>> import metahpo as mh
        >>> lake = mh.rl.frozen_lake().environment
        >>> actor = with_value(mh.rl.softmax_policy(lake, ()), lake, ())
        >>> weights = jax.jit(actor.init)(jax.random.key(0))
        >>> actor.value(weights, jnp.int32(3)).shape
        ()
    """
    start, apply = observer(environment, hidden, (0.0,), features)

    def init(key: Key) -> PyTree:
        policy_key, value_key = jax.random.split(key)
        return {"policy": policy.init(policy_key), "value": start(value_key)}

    entropy = policy.entropy
    return Policy(
        init,
        lambda key, weights, observation: policy.sample(key, weights["policy"], observation),
        lambda weights, *what: policy.log_prob(weights["policy"], *what),
        lambda weights, observation: policy.mode(weights["policy"], observation),
        None if entropy is None else lambda weights, seen: entropy(weights["policy"], seen),
        lambda weights, observation: apply(weights["value"], observation)[0],
    )


def greedy_policy(
    environment: Environment,
    init: Callable[[Key], PyTree],
    action_values: Callable[[PyTree, PyTree], chex.Array],
) -> Policy:
    """Chooses what is valued most; actions that are equally good share their probability.

    Args:
        environment: gives the space of actions, which must be finite.
        init: ``(key) -> weights``.
        action_values: ``(weights, observation) -> f[A]``, in the order of ``enumeration``.

    Raises:
        ValueError: for actions that are no choices.
    """
    actions = enumeration(environment.action_space, "the space of actions")

    def chances(weights: PyTree, observation: PyTree) -> chex.Array:
        return greedy_chances(action_values(weights, observation))

    def sample(key: Key, weights: PyTree, observation: PyTree) -> PyTree:
        return actions.value(draw(key, chances(weights, observation)))

    def log_prob(weights: PyTree, observation: PyTree, action: PyTree) -> chex.Array:
        return jnp.log(chances(weights, observation)[actions.number(action)])

    def mode(weights: PyTree, observation: PyTree) -> PyTree:
        return actions.value(jnp.argmax(action_values(weights, observation)))

    return Policy(init, sample, log_prob, mode, action_values=action_values)


def table_policy(environment: Environment, initial: float = 0.0) -> Policy:
    """Greedy with a table ``f[S, A]`` of action values, over finite observations and actions.

    Args:
        environment: gives both spaces.
        initial: of all values; more than there is to gain makes an agent try everything.

    Raises:
        ValueError: for spaces that are not of choices and whole numbers.

    Example:
        >>> import metahpo as mh
        >>> policy = table_policy(mh.rl.frozen_lake().environment)
        >>> table = policy.init(jax.random.key(0)).at[3, 2].set(1.0)
        >>> table.shape, int(policy.mode(table, jnp.int32(3)))
        ((16, 4), 2)
    """
    seen = enumeration(environment.observation_space, "the space of observations")
    actions = enumeration(environment.action_space, "the space of actions")
    return greedy_policy(
        environment,
        lambda key: jnp.full((seen.size, actions.size), float(initial)),
        lambda table, observation: table[seen.number(observation)],
    )


def value_policy(
    environment: Environment,
    hidden: Sequence[int] = (16,),
    *,
    duelling: bool = False,
    features: Features | None = None,
) -> Policy:
    """Greedy with a dense network that values every action.

    Args:
        environment: gives the spaces; actions that are several choices are valued together.
        hidden: widths of the hidden layers; with ``()`` and observations that are choices it is a
            table.
        duelling: whether the network says the value of the state, and what each action adds to it
            beyond the mean of all (Wang et al. 2016, eq. 9).
        features: ``(observation) -> f[F]``, what the network sees; ``flatten`` by default.

    Raises:
        ValueError: for actions that are no choices.

    Example:
        >>> import metahpo as mh
        >>> lake = mh.rl.frozen_lake().environment
        >>> policy = value_policy(lake, (8,), duelling=True)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> policy.action_values(weights, jnp.int32(3)).shape
        (4,)
    """
    actions = enumeration(environment.action_space, "the space of actions")
    init, apply = observer(environment, hidden, (0.0,) * (actions.size + duelling), features)

    def action_values(weights: PyTree, observation: PyTree) -> chex.Array:
        out = apply(weights, observation)
        return out[0] + out[1:] - out[1:].mean() if duelling else out

    return greedy_policy(environment, init, action_values)
