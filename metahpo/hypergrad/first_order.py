"""The first-order hypergradient: training is differentiated as if its steps were constants."""

import jax
import jax.numpy as jnp

from metahpo.base import Estimator, HParams, Key, Problem, State, Task
from metahpo.hypergrad import floats
from metahpo.hypergrad.reverse import reverse


def first_order(problem: Problem, steps: int, checkpoint: str = "auto") -> Estimator:
    """FOMAML's approximation (Finn et al. 2017, section 5.2) for any Problem.

    The Jacobian of a step with respect to the state is replaced by the identity; the derivative of
    a step with respect to the hyperparameters stays.  With the outer loss ``g`` at the final
    parameters, the initial parameters get ``g'``, and a learning rate gets
    ``-g' . sum_t grad f(params_t)``: no second derivative anywhere.  The identity holds for every
    float of the state, momentum included, so what a hyperparameter does to the moments of an
    optimiser is lost.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        checkpoint: as in ``reverse``; hyperparameters that only the initial state sees need no
            memory for the steps whatever it is.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (final training state), ``grad_norm``,
        ``finite``.

    Raises:
        ValueError: if ``steps`` is negative or ``checkpoint`` unknown; when called, if no
            hyperparameter is a float.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> fomaml = mh.hypergrad.first_order(mh.meta.maml(family, learning_rate=0.01), steps=1)
        >>> params = mh.meta.initial_params(jax.random.key(0), family)
        >>> task = family.sample(jax.random.key(1))
        >>> estimate, _ = fomaml.estimate(jax.random.key(2), params, task, ())
        >>> bool(estimate.info["finite"])
        True
    """

    def step(key: Key, hparams: HParams, task: Task, state: State) -> State:
        new = problem.step(key, hparams, task, jax.tree.map(_constant, state))
        return jax.tree.map(_add_identity, new, state)

    return reverse(problem._replace(step=step), steps, checkpoint)


def _constant(leaf: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(leaf) if floats.is_float(leaf) else leaf


def _add_identity(new: jax.Array, old: jax.Array) -> jax.Array:
    """The value of ``new`` with the derivative of ``old`` on top."""
    if not floats.is_float(old):
        return new
    # Zero whose derivative is one.  inf - inf would be NaN and change the value of a state that
    # has overflowed, so only finite entries take part.
    return new + jnp.where(jnp.isfinite(old), old - jax.lax.stop_gradient(old), 0)
