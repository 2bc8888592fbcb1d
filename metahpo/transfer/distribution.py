"""How well configurations may do on a task."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

LEAST_WIDTH = 0.02  # of a kernel, in regret


class Distribution(NamedTuple):
    """The regret of ``M`` configurations on one task, as ``S`` values that are equally likely.

    Attributes:
        values: ``f[M, S]``, of the normalised regret: 0 is the best of the configurations known, 1
            the worst.
        there: ``bool[S]``, which of them count.
    """

    values: chex.Array
    there: chex.Array

    @property
    def mean(self) -> chex.Array:
        """``f[M]``."""
        return jnp.where(self.there, self.values, 0.0).sum(-1) / self.there.sum()

    @property
    def std(self) -> chex.Array:
        """``f[M]``."""
        apart = jnp.where(self.there, self.values - self.mean[..., None], 0.0)
        return jnp.sqrt((apart**2).sum(-1) / self.there.sum())

    def quantile(self, level: chex.Numeric) -> chex.Array:
        """``f[M]``: at the place ``level (S + 1)`` among the values in order.

        So, if another task is like those that the values come from, its regret is below with just
        this probability, as long as there are so many values that the place is among them.
        """
        ordered = jnp.sort(jnp.where(self.there, self.values, jnp.inf), axis=-1)
        count = self.there.sum()
        place = jnp.clip(level * (count + 1) - 1, 0, count - 1)
        low = jnp.floor(place).astype(jnp.int32)
        high = jnp.minimum(low + 1, count - 1)
        share = place - low
        return ordered[..., low] * (1 - share) + ordered[..., high] * share

    def interval(self, coverage: float = 0.9) -> tuple[chex.Array, chex.Array]:
        """``(low f[M], high f[M])``, with equal probability beyond both.

        Where one of the ends is that of all regrets, 0 or 1, nothing lies beyond it, and all the
        probability of a miss is beyond the other.
        """
        rest = 1 - coverage
        low, high = self.quantile(rest / 2), self.quantile(1 - rest / 2)
        least, most = low <= 0, high >= 1
        return (
            jnp.where(most & ~least, self.quantile(rest), low),
            jnp.where(least & ~most, self.quantile(1 - rest), high),
        )

    def log_density(self, regret: chex.Numeric) -> chex.Array:
        """``f[M]``, smoothed by normal kernels as wide as Silverman's rule says."""
        count = self.there.sum()
        width = jnp.maximum(1.06 * self.std * count**-0.2, LEAST_WIDTH)[..., None]
        z = (jnp.asarray(regret)[..., None] - self.values) / width
        log = jnp.where(self.there, -(z**2) / 2, -jnp.inf) - jnp.log(width * jnp.sqrt(2 * jnp.pi))
        return jax.nn.logsumexp(log, axis=-1) - jnp.log(count)
