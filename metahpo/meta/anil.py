"""Almost no inner loop: only the head adapts, the features are shared."""

from functools import partial

import chex
import jax
import optax

from metahpo import checks
from metahpo.base import Key, Params, Problem, Task, TaskFamily
from metahpo.meta.gradients import Gradient
from metahpo.meta.leaves import Chooses, in_head
from metahpo.meta.maml import initial_params
from metahpo.meta.partial_adaptation import train_part


def anil(
    family: TaskFamily,
    learning_rate: chex.Numeric | optax.Schedule,
    *,
    adapts: Chooses = in_head,
    gradient: Gradient = jax.grad,
) -> Problem:
    """MAML that adapts the last layer alone (Raghu, Raghu, Bengio & Vinyals 2020, section 4.1).

    All parameters are meta-learned, the features through the adaptation of the head.

    Args:
        family: data, model and loss; its ``init`` is not used.
        learning_rate: of the inner updates, a number or ``(step) -> number``.
        adapts: ``(path) -> bool``, which leaves adapt, by their path such as
            ``"params/head/kernel"``; by default those with ``head`` in it.  All of them is MAML,
            all but the head is BOIL (Oh et al. 2021).
        gradient: of the support loss, as for ``maml``.

    Returns:
        A Problem whose hyperparameters are params of the family's model and whose outer loss is
        the query loss after the updates; ``state.params`` are all parameters after them.

    Raises:
        ValueError: when traced, if no leaf adapts.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.anil(mh.problems.sinusoid(shots=5), learning_rate=0.01)
        >>> params = problem.initial(jax.random.key(0))
        >>> task = problem.sample(jax.random.key(1))
        >>> state = mh.inner.unroll(problem, steps=1)(jax.random.key(2), params, task)
        >>> sorted(state.adapted.params)
        ['params/head/bias', 'params/head/kernel']
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    checks.number_or_schedule("learning_rate", learning_rate)

    def start(key: Key, params: Params, task: Task) -> Params:
        del key, task
        return params

    initial = partial(initial_params, family=family)
    return train_part(family, start, learning_rate, adapts, gradient, initial)
