"""Gradients of an inner loss that reverse mode differentiates again in forward mode."""

from collections.abc import Callable

import chex
import jax
from jax.extend import core

from metahpo.base import Params, PyTree


def mixed_gradient(loss: Callable[[Params], chex.Array]) -> Callable[[Params], Params]:
    """``jax.grad(loss)``, of which reverse mode takes the derivative forward over reverse.

    Backpropagation through training needs the product of a vector with the Hessian of the inner
    loss and with its mixed derivatives.  These products are symmetric, so the tangent of the
    gradient gives them as well as a second backward pass does (Kemaev et al. 2025, "Scalable
    Meta-Learning via Mixed-Mode Differentiation", section 3), and a tangent keeps nothing: per step
    the parameters are stored and no activation.  Take it for deep inner networks.

    It is a custom rule for reverse mode: ``grad``, ``grad`` of ``grad``, ``jvp`` of ``grad`` and
    ``vmap`` compose; plain forward mode (``jax.jvp``, ``hypergrad.forward``, the fixed point of
    ``hypergrad.implicit``) is refused by JAX.

    Args:
        loss: ``(params) -> f[]``; may depend on any other arrays, traced ones too.

    Returns:
        ``(params) -> gradient``.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> problem = mh.problems.training(
        ...     family, lambda h: optax.sgd(h["lr"]), gradient=mh.mixed_gradient
        ... )
        >>> estimator = mh.hypergrad.reverse(problem, steps=3)
    """

    def gradient(params: Params) -> Params:
        # What the loss closes over becomes an argument: tracers must not stay in a custom rule.
        closed = jax.make_jaxpr(loss)(params)
        is_float = [jax.numpy.issubdtype(x.dtype, jax.numpy.inexact) for x in closed.consts]
        floats = [x for x, yes in zip(closed.consts, is_float, strict=True) if yes]
        others = [x for x, yes in zip(closed.consts, is_float, strict=True) if not yes]

        def value(params: Params, floats: list[chex.Array], others: list[chex.Array]) -> PyTree:
            first, second = iter(floats), iter(others)
            consts = [next(first) if yes else next(second) for yes in is_float]
            program = core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, consts))
            return program(*jax.tree.leaves(params))[0]

        return _gradient(value, params, floats, others)

    return gradient


def _gradient(value: Callable[..., PyTree], params: Params, *rest: PyTree) -> Params:
    run = jax.custom_vjp(jax.grad(value))

    def forward(*args: PyTree) -> tuple[Params, PyTree]:
        return jax.grad(value)(*args), args

    def backward(args: PyTree, vector: Params) -> PyTree:
        params, floats, others = args

        def both(params: Params) -> PyTree:
            return jax.grad(value, argnums=(0, 1))(params, floats, others)

        return *jax.jvp(both, (params,), (vector,))[1], None

    run.defvjp(forward, backward)
    return run(params, *rest)
