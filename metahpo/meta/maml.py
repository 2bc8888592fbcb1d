"""Model-agnostic meta-learning: the hyperparameters are the initial parameters."""

from collections.abc import Callable
from functools import partial

import chex
import jax
import optax

from metahpo import checks
from metahpo.base import Key, Params, Problem, Task, TaskFamily
from metahpo.problems.training import training


def maml(
    family: TaskFamily,
    learning_rate: chex.Numeric | optax.Schedule,
    *,
    gradient: Callable[..., Callable[[Params], Params]] = jax.grad,
) -> Problem:
    """Gradient descent from meta-learned initial parameters (Finn, Abbeel & Levine 2017, eq. 1).

    The estimator decides what is learned: ``hypergrad.reverse`` is MAML, ``first_order`` FOMAML,
    ``reptile`` Reptile; ``steps=0`` is training on all tasks jointly.

    Args:
        family: data, model and loss; its ``init`` is not used.
        learning_rate: of the inner updates, a number or ``(step) -> number``.
        gradient: of the support loss; with ``mh.mixed_gradient`` reverse mode goes through it
            forward over reverse.

    Returns:
        A Problem whose hyperparameters are params of the family's model, as ``initial_params``
        draws them, and whose outer loss is the query loss after the updates.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> problem = mh.meta.maml(family, learning_rate=0.01)
        >>> params = mh.meta.initial_params(jax.random.key(0), family)
        >>> task = problem.sample(jax.random.key(1))
        >>> loss, state = mh.inner.outer_loss(problem, steps=1)(jax.random.key(2), params, task)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    checks.number_or_schedule("learning_rate", learning_rate)

    def start_from(params: Params) -> TaskFamily:
        def init(key: Key, task: Task) -> Params:
            del key, task
            return params

        return family._replace(init=init)

    return training(
        family,
        lambda params: optax.sgd(learning_rate),
        configure=start_from,
        gradient=gradient,
        initial=partial(initial_params, family=family),
    )


def initial_params(key: Key, family: TaskFamily) -> Params:
    """Draws the parameters from which meta-training starts, by the family's own ``init``.

    Example:
        >>> import jax, metahpo as mh
        >>> params = initial_params(jax.random.key(0), mh.problems.quadratics(dimension=4))
        >>> params.shape
        (4,)
    """
    task_key, init_key = jax.random.split(key)
    return family.init(init_key, family.sample(task_key))
