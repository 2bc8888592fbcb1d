"""The numbers of a Gaussian process by their posterior mode: evidence and prior."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo.surrogates.gaussian_process import Numbers, Observations, log_evidence
from metahpo.surrogates.kernels import Kernel


def mode(
    kernel: Kernel,
    numbers: Callable[[chex.Array], Numbers],
    log_prior: Callable[[chex.Array], chex.Array],
    starts: chex.Array,
    data: Observations,
    steps: int,
    rate: float = 0.1,
) -> chex.Array:
    """``f[F]``, the most probable of what Adam reaches from every start in so many steps.

    Args:
        kernel: the covariance function.
        numbers: ``(free f[F]) -> Numbers``, from unconstrained numbers.
        log_prior: ``(free f[F]) -> f[]``.
        starts: ``f[S, F]``.
        data: what was observed.
        steps: of Adam from each start; their number is fixed, so that no lane waits for another.
        rate: of its first step; it falls to zero along half a cosine.
    """

    apart = kernel.apart(data.x, data.x)

    def loss(free: chex.Array) -> chex.Array:
        return -log_evidence(kernel, numbers(free), data, apart) - log_prior(free)

    optimizer = optax.rprop(rate, eta_minus=0.4, eta_plus=1.5, max_step_size=2.0)

    def climb(start: chex.Array) -> tuple[chex.Array, chex.Array]:
        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            free, state, best, lowest = carry
            value, grad = jax.value_and_grad(loss)(free)
            better = value < lowest
            best = jnp.where(better, free, best)
            grad = jnp.where(jnp.isfinite(grad), grad, 0.0)
            updates, state = optimizer.update(grad, state)
            return (free + updates, state, best, jnp.where(better, value, lowest)), None

        infinite = jnp.full((), jnp.inf, start.dtype)
        first = (start, optimizer.init(start), start, infinite)
        (*_, best, lowest), _ = jax.lax.scan(step, first, None, steps)
        return best, lowest

    found, lowest = jax.vmap(climb)(starts)
    return found[jnp.argmin(lowest)]
