"""A few configurations that together suit weighted tasks."""

import chex
import jax
import jax.numpy as jnp


def greedy(regret: chex.Array, weights: chex.Array, k: int) -> chex.Array:
    """``i32[k]``: each configuration the one that lowers the mean of the best so far the most.

    Args:
        regret: ``f[T, C]``.
        weights: ``f[T]``, of the tasks, not negative.
        k: how many; a configuration stands once, as long as there are others.

    Example:
        >>> regret = jnp.array([[0.0, 1.0, 0.4], [1.0, 0.0, 0.4]])
        >>> greedy(regret, jnp.ones(2), 3).tolist()
        [2, 0, 1]
    """

    def pick(carry: tuple, _: None) -> tuple[tuple, chex.Array]:
        lowest, used = carry
        mean = weights @ jnp.minimum(lowest[:, None], regret)
        best = jnp.argmin(jnp.where(used, jnp.inf, mean)).astype(jnp.int32)
        # When all are used, the first again.
        best = jnp.where(used.all(), 0, best)
        return (jnp.minimum(lowest, regret[:, best]), used.at[best].set(True)), best

    start = jnp.full(len(regret), jnp.inf, regret.dtype), jnp.zeros(regret.shape[1], bool)
    return jax.lax.scan(pick, start, None, k)[1]


def so_far(regret: chex.Array, chosen: chex.Array) -> chex.Array:
    """``f[k]``: the lowest regret of a task ``f[C]`` among the first of the chosen ``i32[k]``."""
    return jax.lax.cummin(regret[chosen])
