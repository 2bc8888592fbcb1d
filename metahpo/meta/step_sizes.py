"""MAML++'s learned rates, one a parameter tensor and step, and its weights of the steps' losses."""

import chex
import jax.numpy as jnp

from metahpo import checks
from metahpo.meta.leaves import Leaves


def unbounded_rate(rate: chex.Numeric, largest: chex.Numeric) -> chex.Array:
    """The number whose ``bounded_rate`` is ``rate``.

    Raises:
        ValueError: if both are known and ``rate`` is not within ``largest``.
    """
    known = checks.known(rate) and checks.known(largest)
    if known and not abs(rate) < largest:
        raise ValueError(f"a rate must be smaller than the largest one, {largest}, got {rate}")
    return largest * jnp.arctanh(rate / largest)


def bounded_rate(raw: chex.Array, largest: chex.Numeric) -> chex.Array:
    """``largest * tanh(raw / largest)``: ``raw`` where that is small, of either sign.

    Example:
        >>> bounded_rate(jnp.array([0.0, 1e9, -1e9]), 0.5).tolist()
        [0.0, 0.5, -0.5]
    """
    return largest * jnp.tanh(raw / largest)


def rates_at(rates: Leaves, step: chex.Array, largest: chex.Numeric) -> Leaves:
    """The bounded rate f[] of every tensor at a step, from the learned ``{path: f[steps]}``."""
    # As one array: a handful of scalar kernels a tensor would cost a small model's whole step.
    row = bounded_rate(jnp.stack(list(rates.values()), axis=1), largest)[step]
    return dict(zip(rates, row, strict=True))


def step_weights(progress: chex.Numeric, steps: int, *, until: chex.Numeric = 0.1) -> chex.Array:
    """Weights ``f[steps]`` of the losses after every step, equal at first and then the last alone.

    Linear in between (Antoniou et al. 2019, section 4, "multi-step loss"); they sum to 1.

    Args:
        progress: the share of meta-training that is done, from 0 to 1; may be traced.
        steps: number of inner updates, at least 1.
        until: the progress from which the last step alone counts.

    Raises:
        ValueError: if ``steps`` is below 1.

    Example:
        >>> step_weights(0.0, 4).tolist(), step_weights(0.1, 4).tolist()
        ([0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0])
    """
    steps = checks.whole("steps", steps)
    left = 1 - jnp.clip(progress / jnp.asarray(until, jnp.result_type(float)), 0, 1)
    early = jnp.full(steps - 1, 1, left.dtype) * left / steps
    return jnp.append(early, 1 - left * (steps - 1) / steps)
