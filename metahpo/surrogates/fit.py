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
    rate: float = 0.8,
) -> chex.Array:
    """``f[F]``, the most probable of what is reached from every start in so many steps.

    By resilient propagation (Riedmiller & Braun 1993), which looks at the gradient's signs alone:
    of 24 evaluations it makes more than Adam, which remembers the steep beginning for too long.

    Args:
        kernel: the covariance function.
        numbers: ``(free f[F]) -> Numbers``, from unconstrained numbers.
        log_prior: ``(free f[F]) -> f[]``.
        starts: ``f[S, F]``.
        data: what was observed.
        steps: from each start; their number is fixed, so that no lane waits for another.
        rate: the first step of every number.
    """
    apart = kernel.apart(data.x, data.x)

    def loss(free: chex.Array) -> chex.Array:
        return -log_evidence(kernel, numbers(free), data, apart) - log_prior(free)

    # The most even of the settings tried on eight sets of data (15 to 60 points, 2 to 5 columns).
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
