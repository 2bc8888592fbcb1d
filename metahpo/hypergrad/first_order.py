"""The first-order hypergradient: training is differentiated as if its steps were constants."""

import jax

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
        return jax.tree.map(_with_identity, new, state)

    return reverse(problem._replace(step=step), steps, checkpoint)


def _constant(leaf: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(leaf) if floats.is_float(leaf) else leaf


def _with_identity(new: jax.Array, old: jax.Array) -> jax.Array:
    return _pass_tangent(new, old) if floats.is_float(new) else new


@jax.custom_jvp
def _pass_tangent(new: jax.Array, old: jax.Array) -> jax.Array:
    """The value of ``new`` with the derivative of ``new + old``.

    ``new + old - stop_gradient(old)`` is the same but for a state that has overflowed, where
    inf - inf would change the value to NaN.  A rule for jvp leaves all transformations intact.
    """
    del old
    return new


@_pass_tangent.defjvp
def _pass_tangent_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return _pass_tangent(*primals), tangents[0] + tangents[1]
