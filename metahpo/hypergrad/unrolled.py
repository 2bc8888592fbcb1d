"""What the estimators that differentiate an unrolled training share."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import Estimate, HParams, PyTree, State
from metahpo.diagnostics import gradient_info, scaled_norm

EXPLODING = 1e3
"""A gradient that grew more than this many times through a training is called exploding."""


def estimate_unrolled(
    hparams: HParams,
    start: Callable[[HParams], State],
    train: Callable[[HParams, State], State],
    loss: Callable[[HParams, State], chex.Array],
    steps: int,
) -> Estimate:
    """The gradient of ``loss(h, train(h, start(h)))``, and how it grew through ``train``.

    Zeros that are added to the state before and after training have the state's gradient there,
    which reverse mode computes anyway.
    """
    leaves, merge = floats.split(hparams)
    zeros = [
        jnp.zeros(leaf.shape, leaf.dtype)
        for leaf in jax.tree.leaves(jax.eval_shape(start, hparams))
        if floats.is_float(leaf)
    ]

    def run(
        leaves: floats.Floats, before: floats.Floats, after: floats.Floats
    ) -> tuple[chex.Array, State]:
        hparams = merge(leaves)
        state = _add(train(hparams, _add(start(hparams), before)), after)
        return loss(hparams, state), state

    everything = jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True)
    (value, state), (grads, first, last) = everything(leaves, zeros, zeros)
    grad = floats.gradient_tree(hparams, grads)
    info = {"state": state, **gradient_info(value, grad)}
    before, after = log_norm(last), log_norm(first)
    growth = jnp.where(before == after, 0.0, after - before)  # 0 for 0 / 0
    return Estimate(value, grad, info | explosion_info(growth, steps, info["finite"]))


def explosion_info(growth: chex.Array, steps: int, finite: chex.Array) -> dict[str, PyTree]:
    """``explosion_exponent`` f[] and ``exploding`` bool[] from the logarithm f[] of the growth.

    The exponent is the growth per step: a Lyapunov exponent of the training at finite time (Metz
    et al. 2021, section 3); infinite if the hypergradient is not finite.
    """
    growth = jnp.where(finite, growth, jnp.inf)
    return jax.lax.stop_gradient(
        {
            "explosion_exponent": growth / max(steps, 1),
            "exploding": growth > jnp.log(EXPLODING),
        }
    )


def log_norm(leaves: floats.Floats) -> chex.Array:
    """Logarithm f[] of the norm of what is a number.

    Where the hypergradient is finite and this is not, the state has a part without a derivative
    that nothing depends on, such as the root of a second moment that stays zero.
    """
    scale, norm = scaled_norm([jnp.where(jnp.isnan(leaf), 0, leaf) for leaf in leaves])
    return jnp.log(norm) + jnp.log(scale)


def _add(state: State, shifts: floats.Floats) -> State:
    leaves, merge = floats.parts(state)
    return merge([leaf + shift for leaf, shift in zip(leaves, shifts, strict=True)])
