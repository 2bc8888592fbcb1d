"""What all meta-learners are once they are learned: two functions, to adapt and to predict."""

from collections.abc import Callable
from typing import NamedTuple

import chex

from metahpo import inner
from metahpo.base import HParams, Key, Problem, PyTree
from metahpo.problems.few_shot import Episode, Examples


class Learner(NamedTuple):
    """A meta-learner at work.

    Attributes:
        adapt: ``(hparams, support, key) -> adapted``, from ``Examples`` of one task.
        predict: ``(adapted, x) -> outputs``, for inputs ``f[n, ...]`` of the same task.
    """

    adapt: Callable[[HParams, Examples, Key], PyTree]
    predict: Callable[[PyTree, chex.Array], chex.Array]


def learner(problem: Problem, steps: int = 0) -> Learner:
    """The meta-learner of a Problem that ``mh.meta`` made, or of any training with a network.

    Args:
        problem: with a ``predict``.
        steps: number of inner updates, which need not be that of meta-training; 0 for learners
            whose ``init`` does all (metric- and model-based ones, closed-form heads).

    Returns:
        A Learner; both functions are pure and may be vmapped over tasks.

    Raises:
        ValueError: if ``steps`` is negative or the problem has no ``predict``.

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
    train = inner.unroll(problem, steps)

    def adapt(hparams: HParams, support: Examples, key: Key) -> PyTree:
        return train(key, hparams, Episode(support, query=None))  # type: ignore[arg-type]

    return Learner(adapt, problem.predict)
