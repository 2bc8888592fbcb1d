"""Fast context adaptation: a few extra inputs adapt, the network is shared."""

from collections.abc import Callable
from typing import TypedDict

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Network, Params, Problem, Task, TaskFamily
from metahpo.floats import float_type
from metahpo.meta.conditioning import Conditioned, concatenated
from metahpo.meta.gradients import Gradient
from metahpo.meta.partial_adaptation import PartState, train_part
from metahpo.problems.few_shot import Episode, filled, judged


class Contextual(TypedDict):
    """A network's params beside the context ``f[c]`` of one task."""

    context: chex.Array
    network: Params


def cavia(
    family: TaskFamily,
    learning_rate: chex.Numeric | optax.Schedule = 1.0,
    *,
    contexts: int = 5,
    conditioning: Callable[[Network], Conditioned] = concatenated,
    gradient: Gradient = jax.grad,
) -> Problem:
    """Gradient descent on context parameters alone (Zintgraf et al. 2019, eqs. 6 and 7).

    The context starts at zero for every task (section 3.1 there); the network's parameters are
    meta-learned through its adaptation, and no task changes them.

    Args:
        family: gives the tasks, ``Episode``, the network and the criterion.
        learning_rate: of the inner updates, a number or ``(step) -> number``.
        contexts: number of context parameters, at least 1; 5 for the sinusoid in the paper.
        conditioning: ``(network) -> Conditioned``: ``concatenated`` appends the context to the
            inputs.  Another one need not use the family's network:
            ``lambda network: mh.meta.film(encoder, head)``.
        gradient: of the support loss, as for ``maml``.

    Returns:
        A Problem whose hyperparameters are params of the conditioned network and whose outer loss
        is the query loss after the updates; ``state.params["context"]`` is what they learned.

    Raises:
        ValueError: if ``contexts`` is below 1, or the family has no network or no criterion.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.cavia(mh.problems.sinusoid(shots=10))
        >>> hparams = jax.jit(problem.initial)(jax.random.key(0))
        >>> adapt, predict = mh.meta.learner(problem, steps=1)
        >>> support = jax.jit(problem.sample)(jax.random.key(1)).support
        >>> jax.jit(adapt)(hparams, support, jax.random.key(2)).params["context"].shape
        (5,)
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    checks.number_or_schedule("learning_rate", learning_rate)
    contexts = checks.whole("contexts", contexts)
    network, criterion = family.network, family.criterion
    if network is None or criterion is None:
        raise ValueError(
            "cavia needs a family with a network and a criterion, as few_shot makes it"
        )
    conditioned = conditioning(network)

    def no_context(x: chex.Array) -> chex.Array:
        return jnp.zeros(contexts, float_type(x))

    def predict(state: PartState, x: chex.Array) -> chex.Array:
        return conditioned.apply(state.params["network"], x, state.params["context"])

    def loss(params: Contextual, task: Episode, split: str, key: Key | None = None) -> chex.Array:
        examples = filled(task.support if split == "support" else task.query)
        given = (params["network"], examples.x, params["context"])
        train = conditioned.train
        outputs = conditioned.apply(*given) if key is None or train is None else train(*given, key)
        return judged(criterion, outputs, examples)

    def start(key: Key, hparams: Params, task: Task) -> Contextual:
        del key
        return {"context": no_context(task.support.x), "network": hparams}

    def initial(key: Key) -> Params:
        task_key, init_key = jax.random.split(key)
        x = family.sample(task_key).support.x
        return conditioned.init(init_key, x, no_context(x))

    return train_part(
        family._replace(loss=loss),
        start,
        learning_rate,
        lambda path: path == "context",
        gradient,
        initial,
        predict,
    )
