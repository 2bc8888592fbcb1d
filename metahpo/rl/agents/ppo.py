"""PPO: several updates with the same steps, none of which goes too far."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, lanes
from metahpo.base import Estimate, Estimator, HParams, Key, PyTree, State, Task
from metahpo.diagnostics import gradient_info
from metahpo.rl.agents.actor_critic import (
    Batch,
    Rates,
    checked,
    collect,
    critic_error,
    mean_entropy,
)
from metahpo.rl.agents.score import Score, no_score, scored
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Policy


class PPOMemory(NamedTuple):
    """What a PPO agent keeps.

    Attributes:
        state: of the environment.
        batch: the stretch that is learned from, ``[steps]``.
        updates: ``i32[]``, estimates so far, of which ``epochs * minibatches`` share a stretch.
        shuffle: the key of the orders in which the stretch is gone through.
        score: what was earned.
    """

    state: State
    batch: Batch
    updates: chex.Array
    shuffle: Key
    score: Score


def ppo(
    environment: Environment,
    policy: Policy,
    steps: int,
    *,
    epochs: int = 4,
    minibatches: int = 4,
    clip: chex.Numeric = 0.2,
    discount: chex.Numeric = 0.99,
    decay: chex.Numeric = 0.95,
    entropy: chex.Numeric = 0.0,
    critic: chex.Numeric = 0.5,
    critic_decay: chex.Numeric | None = None,
) -> Estimator:
    """Proximal policy optimisation (Schulman et al. 2017, eq. 7), with generalised advantages.

    An estimate is the gradient of one minibatch: a stretch of steps serves ``epochs *
    minibatches`` rounds of ``meta_train``, and a new one is played when it has.  The tasks of
    ``meta_train`` are so many environments side by side, of each of which a minibatch has a part.
    Advantages are taken as they are: an optimiser like Adam does not see their scale.

    Args:
        environment: the process; its actions are those of the policy.
        policy: one with a critic, of ``with_value``.
        steps: in a stretch; a multiple of ``minibatches``.
        epochs: how often a stretch is gone through.
        minibatches: its parts.
        clip: how far the ratio of probabilities may be from 1 to gain anything by it, above 0.
        discount: in [0, 1].
        decay: lambda of the advantages, in [0, 1].
        entropy: weight of the policy's entropy, at least 0.
        critic: weight of half the critic's mean squared error, at least 0.
        critic_decay: lambda of what the critic learns, that of the advantages by default; a larger
            one teaches a critic fast, while a small ``decay`` keeps the noise of later steps out of
            the advantages.

    Returns:
        An Estimator whose hyperparameters are the policy's weights and whose memory is a
        ``PPOMemory``.  Its loss is minus the return of the last episode that ended; ``info`` has
        ``entropy``, ``critic`` (its error) and ``clipped``, the share of ratios that were.  A
        reward that is not finite spoils the updates of its stretch, which ``meta_train`` skips.

    Raises:
        ValueError: for a policy without a critic, zero steps or steps that the minibatches do not
            divide, a discount or decay outside [0, 1], a clip that is not positive, negative
            weights, and a bonus for an entropy that the policy does not tell.

    Example:
        >>> import optax, metahpo as mh
        >>> lake = mh.rl.frozen_lake().environment
        >>> policy = mh.rl.with_value(mh.rl.softmax_policy(lake, ()), lake, ())
        >>> agent = ppo(lake, policy, steps=8, epochs=2, minibatches=2)
        >>> problem = mh.problems.function(lambda weights: 0.0)
        >>> result = mh.meta_train(
        ...     jax.random.key(0), problem, agent, policy.init(jax.random.key(1)),
        ...     optax.adam(1e-3), rounds=8, tasks=3,
        ... )
        >>> result.state.memory.score.steps.tolist()  # two stretches of each environment
        [16, 16, 16]
    """
    steps, epochs, minibatches = checks.counts(steps=steps, epochs=epochs, minibatches=minibatches)
    if steps % minibatches:
        raise ValueError(f"steps must be a multiple of {minibatches=}, got {steps}")
    rates = checked("ppo", policy, entropy, critic, discount, decay, critic_decay)
    checks.positive(clip=clip)

    def init(key: Key, weights: HParams, task: Task) -> PPOMemory:
        reset_key, shuffle_key = jax.random.split(key)
        state = jax.tree.map(jnp.asarray, environment.reset(reset_key, task))

        def example(key: Key) -> Batch:
            return collect(key, environment, policy, weights, steps, state, task, rates)[2]

        shapes = jax.eval_shape(example, key)
        batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return PPOMemory(state, batch, jnp.zeros((), jnp.int32), shuffle_key, no_score())

    def play(memory: PPOMemory, key: Key, weights: PyTree, task: Task, rates: Rates) -> PPOMemory:
        play_key, shuffle_key = jax.random.split(key)
        state, stretch, batch = collect(
            play_key, environment, policy, weights, steps, memory.state, task, rates
        )
        score = scored(memory.score, stretch)
        return PPOMemory(state, batch, memory.updates, shuffle_key, score)

    def estimate(
        key: Key, weights: HParams, task: Task, memory: PPOMemory
    ) -> tuple[Estimate, PPOMemory]:
        due = memory.updates % (epochs * minibatches) == 0
        # What is traced is an argument, as ``when`` asks for.
        memory = lanes.when(due, play, memory, key, weights, task, jax.tree.map(jnp.asarray, rates))
        epoch, part = jnp.divmod(memory.updates, minibatches)
        order = jax.random.permutation(jax.random.fold_in(memory.shuffle, epoch), steps)
        rows = order.reshape(minibatches, -1)[part]
        some = jax.tree.map(lambda x: x[rows], memory.batch)

        def total(
            weights: PyTree,
        ) -> tuple[chex.Array, tuple[chex.Array, chex.Array, chex.Array]]:
            error = critic_error(policy, weights, some)
            spread = mean_entropy(policy, weights, some.observation)
            gain, clipped = clipped_gain(policy, weights, some, clip)
            return critic * error - gain - entropy * spread, (error, spread, clipped)

        grad, (error, spread, clipped) = jax.grad(total, has_aux=True)(weights)
        loss = -memory.score.last
        info = {"critic": error, "entropy": spread, "clipped": clipped}
        info |= gradient_info(loss, grad)
        return Estimate(loss, grad, info), memory._replace(updates=memory.updates + 1)

    return Estimator(init, estimate)


def clipped_gain(
    policy: Policy, weights: PyTree, batch: Batch, clip: chex.Numeric
) -> tuple[chex.Array, chex.Array]:
    """The mean of what the ratios of probabilities gain, and the share that is cut off."""
    logs = jax.vmap(policy.log_prob, (None, 0, 0))(weights, batch.observation, batch.action)
    ratio = jnp.exp(logs - batch.log_prob)
    near = jnp.clip(ratio, 1 - clip, 1 + clip)
    gain = jnp.minimum(ratio * batch.advantage, near * batch.advantage)
    return gain.mean(), (ratio != near).mean()
