"""Meta-SGD: the hyperparameters are the initial parameters and one learning rate for each."""

from collections.abc import Callable
from typing import TypedDict

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Params, Problem, Task, TaskFamily
from metahpo.meta.maml import initial_params
from metahpo.problems.training import training


class MetaSGDParams(TypedDict):
    """What Meta-SGD learns: ``rates`` is a pytree like ``params``."""

    params: Params
    rates: Params


def meta_sgd(
    family: TaskFamily,
    *,
    initial_rate: chex.Numeric = 0.01,
    gradient: Callable[..., Callable[[Params], Params]] = jax.grad,
) -> Problem:
    """Gradient descent ``params - rates * gradient``, both learned (Li et al. 2017, eq. 2).

    As in the paper a rate may take any sign.  Nothing bounds them either: a rate that makes
    training diverge gives a loss or a gradient that is not finite, which an estimator reports in
    ``info["finite"]`` and ``meta_train`` answers by skipping that update.  With more than one step
    take ``gradient=mh.meta.clipped_gradient(10.0)``, or ``maml_plus_plus``, which bounds both.

    Args:
        family: data, model and loss; its ``init`` is not used.
        initial_rate: of every parameter, in the Problem's ``initial``.
        gradient: of the support loss, as for ``maml``.

    Returns:
        A Problem with hyperparameters ``{"params": ..., "rates": ...}`` whose outer loss is the
        query loss after the updates; ``rates`` may also be one number or a prefix of ``params``.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.sinusoid(shots=5)
        >>> problem = mh.meta.meta_sgd(family)
        >>> hparams = problem.initial(jax.random.key(0))
        >>> task = problem.sample(jax.random.key(1))
        >>> loss, state = mh.inner.outer_loss(problem, steps=1)(jax.random.key(2), hparams, task)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    checks.positive(initial_rate=initial_rate)

    def start_from(hparams: MetaSGDParams) -> TaskFamily:
        def init(key: Key, task: Task) -> Params:
            del key, task
            return hparams["params"]

        return family._replace(init=init)

    def initial(key: Key) -> MetaSGDParams:
        params = initial_params(key, family)
        return {"params": params, "rates": initial_rates(params, initial_rate)}

    return training(
        family,
        lambda hparams: _scale_by(hparams["rates"]),
        configure=start_from,
        gradient=gradient,
        initial=initial,
    )


def initial_rates(params: Params, value: chex.Numeric) -> Params:
    """The same learning rate for every parameter; the paper draws one from [0.005, 0.1].

    Example:
        >>> import jax.numpy as jnp
        >>> initial_rates({"w": jnp.zeros(2)}, 0.5)
        {'w': Array([0.5, 0.5], dtype=float32)}
    """
    return jax.tree.map(lambda p: jnp.full_like(p, value), params)


def _scale_by(rates: Params) -> optax.GradientTransformation:
    """``rates`` are like the gradients, or a prefix: one for all, or for a layer."""

    def below(rate: chex.Array, grads: Params) -> Params:
        return jax.tree.map(lambda grad: -rate * grad, grads)

    return optax.stateless(lambda grads, params: jax.tree.map(below, rates, grads))
