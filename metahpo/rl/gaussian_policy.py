"""A policy for continuous actions: a normal distribution, cut off where the actions end."""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Key, PyTree
from metahpo.rl.environment import Environment
from metahpo.rl.policy import Features, Policy, observer
from metahpo.space import Float


def gaussian_policy(
    environment: Environment,
    hidden: Sequence[int] = (16,),
    *,
    features: Features | None = None,
    scale: float = 0.2,
) -> Policy:
    """A truncated normal distribution on the unit cube, around what a dense network says.

    The space of actions maps the cube to actions, logarithms included, so a policy decides on the
    same scale as every strategy, and no action is out of bounds.  Each coordinate has a standard
    deviation of its own, which is learned and is the same for all observations.

    Args:
        environment: gives the spaces of observations and actions.
        hidden: widths of the hidden layers; ``()`` makes the means depend on a linear function.
        features: ``(observation) -> f[F]``, what the network sees; ``flatten`` by default.
        scale: the standard deviations at the start, in units of the cube.

    Returns:
        A Policy with weights ``{"mean", "log_scale" f[D]}``.  ``log_prob`` and ``entropy`` are
        those of the point of the cube.  Untrained, the mode is near the middle of the space.

    Raises:
        ValueError: if an action is more than plain ``Float``s, or ``scale`` is not positive.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> space, moves = {"x": mh.Float(0.0, 1.0)}, mh.Float(-0.1, 0.1)
        >>> environment = mh.rl.tuning_environment(problem, space, 1, segments=2, moves=moves)
        >>> policy = mh.rl.gaussian_policy(environment)
        >>> weights = jax.jit(policy.init)(jax.random.key(0))
        >>> action = jax.jit(policy.mode)(weights, jnp.zeros(5))
        >>> action.shape, bool(jnp.abs(action) < 0.05)
        ((1,), True)
    """
    actions = environment.action_space
    for dim in jax.tree.leaves(actions):
        if not isinstance(dim, Float) or dim.step is not None:
            raise ValueError(f"gaussian_policy decides on plain Floats, got an action of {dim}")
    checks.positive(scale=scale)
    size = spaces.size(actions)
    start, apply = observer(environment, hidden, (0.0,) * size, features)

    def init(key: Key) -> PyTree:
        return {"mean": start(key), "log_scale": jnp.full(size, math.log(scale))}

    def parts(weights: PyTree, observation: PyTree) -> tuple[chex.Array, chex.Array]:
        mean = jax.nn.sigmoid(apply(weights["mean"], observation))
        return mean, jnp.exp(weights["log_scale"])

    def sample(key: Key, weights: PyTree, observation: PyTree) -> PyTree:
        mean, width = parts(weights, observation)
        low, high = -mean / width, (1 - mean) / width
        drawn = jax.random.truncated_normal(key, low, high, dtype=mean.dtype)
        return spaces.decode(actions, jnp.clip(mean + width * drawn, 0, 1))

    def log_prob(weights: PyTree, observation: PyTree, action: PyTree) -> chex.Array:
        mean, width = parts(weights, observation)
        low, high = -mean / width, (1 - mean) / width
        z = (spaces.encode(actions, action) - mean) / width
        return (norm.logpdf(z) - jnp.log(width) - jnp.log(norm.cdf(high) - norm.cdf(low))).sum()

    def mode(weights: PyTree, observation: PyTree) -> PyTree:
        return spaces.decode(actions, parts(weights, observation)[0])

    def entropy(weights: PyTree, observation: PyTree) -> chex.Array:
        mean, width = parts(weights, observation)
        low, high = -mean / width, (1 - mean) / width
        mass = norm.cdf(high) - norm.cdf(low)
        ends = (low * norm.pdf(low) - high * norm.pdf(high)) / (2 * mass)
        return (0.5 * math.log(2 * math.pi * math.e) + jnp.log(width * mass) + ends).sum()

    return Policy(init, sample, log_prob, mode, entropy)
