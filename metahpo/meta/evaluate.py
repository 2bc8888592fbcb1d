"""How well a learned meta-learner does on fresh episodes, with confidence intervals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks, inner
from metahpo.base import HParams, Key, Problem, PyTree, State
from metahpo.meta.learner import Learner
from metahpo.problems.few_shot import Episode, Examples, filled, judged

MODES = ("transductive", "inductive")
Z95 = 1.959964  # a normal variable lies within so many standard deviations with probability 0.95


class Scores(NamedTuple):
    """The metric over the episodes.

    Attributes:
        mean: ``f[]``.
        half_width: ``f[]``, of the 95 % confidence interval of the mean (normal approximation).
        per_episode: ``f[episodes]``.
    """

    mean: chex.Array
    half_width: chex.Array
    per_episode: chex.Array


def evaluate(
    key: Key,
    learner: Learner,
    hparams: HParams,
    sample: Callable[[Key], Episode],
    metric: Callable[[chex.Array, chex.Array], chex.Array],
    *,
    episodes: int = 10_000,
    chunk: int = 100,
    modes: Sequence[str] = MODES,
) -> dict[str, Scores]:
    """Adapts to fresh episodes and scores the predictions; pure, for ``jit`` and ``vmap``.

    *Transductive*: the queries of an episode are predicted as one batch.  *Inductive*: each one
    alone, in a batch with the support inputs, so that it learns nothing from the other queries
    (Nichol et al. 2018, section 6.1).  The two differ for networks that look at their batch, such
    as those with batch normalisation by the batch's own statistics; for others
    ``modes=("transductive",)`` says all and is faster.

    Logits count among the classes of the support alone: where an episode has fewer classes than the
    network outputs, the others are -inf.

    Args:
        key: draws the episodes; the same key gives the same ones to every learner.
        learner: as ``mh.meta.learner`` makes it.
        hparams: what was meta-learned.
        sample: ``(key) -> Episode``, a problem's or a family's ``sample``.
        metric: ``(outputs, y) -> f[]``, ``problems.accuracy`` or a loss; must take ``weight=`` if
            the queries have weights.
        episodes: number of episodes, at least 2.
        chunk: episodes computed at once, which bounds the memory; the result is the same.
        modes: ``"transductive"``, ``"inductive"`` or both.

    Returns:
        ``Scores`` by mode.  A metric that is not finite makes the mean so.

    Raises:
        ValueError: for an unknown mode or none, fewer than 2 episodes, or a ``chunk`` below 1.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.maml(mh.problems.sinusoid(shots=5), learning_rate=0.01)
        >>> hparams = problem.initial(jax.random.key(0))
        >>> scores = mh.meta.evaluate(
        ...     jax.random.key(1), mh.meta.learner(problem, steps=1), hparams, problem.sample,
        ...     mh.problems.squared_error, episodes=200, modes=("transductive",),
        ... )
        >>> bool(scores["transductive"].mean > 2.0)  # nothing was learned yet
        True
    """
    episodes, chunk = checks.whole("episodes", episodes, at_least=2), checks.whole("chunk", chunk)
    if not modes or not set(modes) <= set(MODES):
        raise ValueError(f"modes must be some of {MODES}, got {tuple(modes)}")

    def score(key: Key) -> dict[str, chex.Array]:
        sample_key, adapt_key = jax.random.split(key)
        support, query = map(filled, sample(sample_key))
        adapted = learner.adapt(hparams, support, adapt_key)
        alone = _one_by_one(learner, support)
        predictors = {"transductive": learner.predict, "inductive": alone}

        def of_mode(mode: str) -> chex.Array:
            outputs = among_classes(predictors[mode](adapted, query.x), support)
            return judged(metric, outputs, query)

        return {mode: of_mode(mode) for mode in modes}

    keys = jax.random.split(key, episodes)
    scores = jax.lax.map(score, keys, batch_size=min(chunk, episodes))
    return {mode: _summary(values) for mode, values in scores.items()}


def adaptation_curve(
    key: Key,
    problem: Problem,
    hparams: HParams,
    metric: Callable[[chex.Array, chex.Array], chex.Array],
    *,
    steps: int,
    episodes: int = 10_000,
    chunk: int = 100,
) -> Scores:
    """Scores after 0 ... ``steps`` updates of adaptation; pure, for ``jit`` and ``vmap``.

    Args:
        key: draws the episodes, the same ones as ``evaluate`` does.
        problem: a meta-learner that has ``predict``.
        hparams: what was meta-learned.
        metric: ``(outputs, y) -> f[]``.
        steps: number of updates, at least 0.
        episodes: number of episodes, at least 2.
        chunk: episodes computed at once.

    Returns:
        ``Scores`` of transductive predictions, each array with a last axis ``[steps + 1]``.

    Raises:
        ValueError: for a problem that cannot predict, fewer than 2 episodes or a ``chunk`` below 1.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.meta.maml(mh.problems.sinusoid(shots=5), learning_rate=0.01)
        >>> hparams = problem.initial(jax.random.key(0))
        >>> mh.meta.adaptation_curve(
        ...     jax.random.key(1), problem, hparams, mh.problems.squared_error,
        ...     steps=3, episodes=20,
        ... ).mean.shape
        (4,)
    """
    episodes, chunk = checks.whole("episodes", episodes, at_least=2), checks.whole("chunk", chunk)
    predict = problem.predict
    if predict is None:
        raise ValueError("an adaptation curve needs a problem that can predict")

    def one(key: Key) -> chex.Array:
        sample_key, adapt_key = jax.random.split(key)
        support, query = map(filled, problem.sample(sample_key))
        blind = Episode(support, None)  # type: ignore[arg-type]  # nobody may look at it

        def score(state: State) -> chex.Array:
            return judged(metric, among_classes(predict(state, query.x), support), query)

        start = problem.init(inner.keys(adapt_key).init, hparams, blind)
        train = inner.unroll(problem, steps, record=score)
        return jnp.append(score(start), train(adapt_key, hparams, blind)[1])

    keys = jax.random.split(key, episodes)
    return _summary(jax.lax.map(one, keys, batch_size=min(chunk, episodes)))


def among_classes(outputs: PyTree, support: Examples) -> PyTree:
    """Logits of the classes that the support has; -inf for the others, as metric learners have it.

    A network with more outputs than an episode has classes cannot know which of them to leave out.
    Outputs that are no logits ``f[n, ways]`` for labels ``i[n]`` stay as they are.
    """
    labels = support.y
    if not isinstance(outputs, jax.Array) or outputs.ndim != 2 or outputs.shape[1] < 2:
        return outputs
    if getattr(labels, "ndim", 0) != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        return outputs
    ways = outputs.shape[1]
    # The rows of weight 0 have the label of another one by now.
    present = (labels[:, None] == jnp.arange(ways)).any(axis=0)
    classes = ((labels >= 0) & (labels < ways)).all()
    return jnp.where(present | ~classes, outputs, -jnp.inf)


def _one_by_one(learner: Learner, support: Examples) -> Callable[[PyTree, chex.Array], chex.Array]:
    def predict(adapted: PyTree, x: chex.Array) -> chex.Array:
        def one(alone: chex.Array) -> chex.Array:
            return learner.predict(adapted, jnp.concatenate([support.x, alone[None]]))[-1]

        return jax.vmap(one)(x)

    return predict


def _summary(values: chex.Array) -> Scores:
    error = values.std(axis=0, ddof=1) / jnp.sqrt(len(values))
    return Scores(values.mean(axis=0), Z95 * error, values)
