"""Implicit MAML: adaptation stays near the meta-parameters and is differentiated at its end."""

from collections.abc import Callable
from functools import partial

import chex
import jax
import optax

from metahpo import checks
from metahpo.base import Key, Params, Problem, Task, TaskFamily
from metahpo.meta.gradients import Gradient
from metahpo.meta.maml import initial_params
from metahpo.problems.stateful import keyed_loss
from metahpo.problems.training import training


def imaml(
    family: TaskFamily,
    learning_rate: chex.Numeric | optax.Schedule,
    strength: chex.Numeric,
    *,
    gradient: Gradient = jax.grad,
) -> Problem:
    """Gradient descent on a proximal support loss (Rajeswaran, Finn, Kakade & Levine 2019, eq. 3).

    The inner loss is ``f(phi) + strength / 2 |phi - theta|^2`` with the meta-parameters theta,
    from which phi starts.  Its minimum has the meta-gradient ``(I + H / strength)^-1 g`` (eq. 6)
    with the support loss's Hessian H and the query gradient g, whichever way it was reached:
    ``hypergrad.implicit`` computes it without storing or differentiating the path, by conjugate
    gradients on Hessian-vector products (algorithm 2).

    Args:
        family: data, model and loss; its ``init`` is not used.
        learning_rate: of the inner updates, a number or ``(step) -> number``; at most
            ``2 / (L + strength)`` for a support loss of curvature up to L.
        strength: lambda, positive; may be traced.  It must exceed what negative curvature the
            support loss has, or the implicit meta-gradient means nothing.
        gradient: of the proximal loss, as for ``maml``.

    Returns:
        A Problem whose hyperparameters are params of the family's model and whose outer loss is
        the query loss after the updates.

    Raises:
        ValueError: if ``strength`` is known and not positive.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> problem = mh.meta.imaml(family, learning_rate=0.01, strength=2.0)
        >>> estimator = mh.hypergrad.implicit(
        ...     problem, 16, "cg", inner_loss=mh.meta.proximal_loss(family, 2.0), iterations=5
        ... )
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    checks.number_or_schedule("learning_rate", learning_rate)
    _check_strength(strength)

    def near(theta: Params) -> TaskFamily:
        def loss(phi: Params, task: Task, split: str, key: Key | None = None) -> chex.Array:
            own = keyed_loss(family, key, phi, task, split)
            return own + distance(theta, phi, strength) if split == "support" else own

        return family._replace(init=lambda key, task: theta, loss=loss)

    return training(
        family,
        lambda theta: optax.sgd(learning_rate),
        configure=near,
        gradient=gradient,
        initial=partial(initial_params, family=family),
    )


def proximal_loss(
    family: TaskFamily, strength: chex.Numeric
) -> Callable[[Params, Task, Params], chex.Array]:
    """The inner loss of iMAML ``(theta, task, phi) -> f[]``, as ``hypergrad.implicit`` takes it.

    It has no key: a network with dropout counts as it evaluates.

    Args:
        family: its support loss is f.
        strength: lambda, as for ``imaml``.

    Raises:
        ValueError: if ``strength`` is known and not positive.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> task = jax.jit(family.sample)(jax.random.key(0))
        >>> theta = family.init(jax.random.key(1), task)
        >>> loss = proximal_loss(family, 2.0)
        >>> bool(loss(theta, task, theta) == family.loss(theta, task, "support"))
        True
    """
    _check_strength(strength)

    def loss(theta: Params, task: Task, phi: Params) -> chex.Array:
        return family.loss(phi, task, "support") + distance(theta, phi, strength)

    return loss


def distance(theta: Params, phi: Params, strength: chex.Numeric) -> chex.Array:
    """The proximal term."""
    return strength / 2 * optax.tree.norm(optax.tree.sub(phi, theta), squared=True)


def _check_strength(strength: chex.Numeric) -> None:
    checks.numbers(strength=strength)
    if checks.known(strength) and not strength > 0:
        raise ValueError(f"the strength of the proximal term must be positive, got {strength}")
