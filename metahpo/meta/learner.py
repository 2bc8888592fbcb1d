"""What all meta-learners are once they are learned: two functions, to adapt and to predict."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax

from metahpo import inner
from metahpo.base import HParams, Key, Problem, PyTree, State, Task
from metahpo.problems.few_shot import Episode, Examples


class Learner(NamedTuple):
    """A meta-learner at work.

    Attributes:
        adapt: ``(hparams, support, key) -> adapted``, from ``Examples`` of one task.
        predict: ``(adapted, x) -> outputs``, for inputs ``f[n, ...]`` of the same task.
    """

    adapt: Callable[[HParams, Examples, Key], PyTree]
    predict: Callable[[PyTree, chex.Array], chex.Array]


def learner(problem: Problem, steps: int | None = None) -> Learner:
    """The meta-learner of a Problem that ``mh.meta`` made, or of any training with a network.

    Args:
        problem: with a ``predict``.
        steps: number of inner updates, which need not be that of meta-training.  Learners whose
            ``init`` does all (metric- and model-based ones, closed-form heads) need none.

    Returns:
        A Learner; both functions are pure and may be vmapped over tasks.

    Raises:
        ValueError: if ``steps`` is negative or the problem has no ``predict``; by ``adapt``, if
            no ``steps`` are given for a problem whose updates change something.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.maml(mh.problems.sinusoid(shots=5), learning_rate=0.01)
        >>> hparams = problem.initial(jax.random.key(0))
        >>> episode = problem.sample(jax.random.key(1))
        >>> adapt, predict = learner(problem, steps=1)
        >>> adapted = adapt(hparams, episode.support, jax.random.key(2))
        >>> predict(adapted, episode.query.x).shape
        (100, 1)
    """
    if problem.predict is None:
        raise ValueError("a learner needs a problem with a predict function; this one has none")
    train = inner.unroll(problem, 0 if steps is None else steps)

    def adapt(hparams: HParams, support: Examples, key: Key) -> PyTree:
        task = Episode(support, query=None)  # type: ignore[arg-type]
        adapted = train(key, hparams, task)
        if steps is None and not _stays(problem, hparams, task, adapted):
            raise ValueError("the problem learns by updates: say how many, learner(problem, steps)")
        return adapted

    return Learner(adapt, problem.predict)


def _stays(problem: Problem, hparams: HParams, task: Task, state: State) -> bool:
    """Whether an update of the problem is seen to change nothing."""
    step = jax.make_jaxpr(lambda key, state: problem.step(key, hparams, task, state))
    program = step(jax.random.key(0), state).jaxpr
    return program.outvars == program.invars[1:]
