"""What the learners without an inner loop share: one look at the support set, then predictions."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import HParams, Key, Network, Params, Problem, State, TaskFamily
from metahpo.problems.few_shot import Episode, Examples, filled, judged


def zero_steps(
    family: TaskFamily,
    initial: Callable[[Key, Examples], HParams],
    represent: Callable[[HParams, Examples], State],
    predict: Callable[[State, chex.Array], chex.Array],
    judge: Callable[[State, Examples], chex.Array] | None = None,
    shuffle: bool = False,
) -> Problem:
    """A Problem whose ``init`` learns all there is to learn and whose ``step`` does nothing.

    Args:
        family: gives the tasks and, without ``judge``, the criterion.
        initial: ``(key, support) -> hparams`` from one episode's support set.
        represent: ``(hparams, support) -> state``, everything that predictions need.
        predict: ``(state, x) -> outputs``.
        judge: ``(state, query) -> f[]``, the outer loss where it is not the family's criterion
            of the predictions.
        shuffle: whether the support set is seen in a random order.

    Raises:
        ValueError: if a criterion is needed and the family has none.
    """
    judge = _criterion_of(family, predict) if judge is None else judge

    def init(key: Key, hparams: HParams, task: Episode) -> State:
        support = settled(task.support)
        if shuffle:
            order = jax.random.permutation(key, len(support.x))
            support = jax.tree.map(lambda leaf: leaf[order], support)
        return represent(hparams, support)

    def step(key: Key, hparams: HParams, task: Episode, state: State) -> State:
        del key, hparams, task
        return state

    def loss(key: Key, hparams: HParams, task: Episode, state: State) -> chex.Array:
        del key, hparams  # the state has all of it
        return judge(state, settled(task.query))

    def start(key: Key) -> HParams:
        task_key, init_key = jax.random.split(key)
        return initial(init_key, settled(family.sample(task_key).support))

    return Problem(family.sample, init, step, loss, family.describe, predict, start)


def _criterion_of(
    family: TaskFamily, predict: Callable[[State, chex.Array], chex.Array]
) -> Callable[[State, Examples], chex.Array]:
    criterion = family.criterion
    if criterion is None:
        raise ValueError("this learner needs a family with a criterion, and this one has none")
    return lambda state, query: judged(criterion, predict(state, query.x), query)


def settled(examples: Examples) -> Examples:
    """With weights, or ``None`` for them, and nothing but examples that count in all rows."""
    own = examples if isinstance(examples, Examples) else Examples(examples.x, examples.y)
    return filled(own)


def weighted(rows: chex.Array, weight: chex.Array | None) -> chex.Array:
    """Rows ``f[n, ...]`` times their weights."""
    if weight is None:
        return rows
    weight = jnp.asarray(weight).astype(rows.dtype)
    return rows * weight.reshape(-1, *[1] * (rows.ndim - 1))


def encoder_of(family: TaskFamily) -> Network:
    """The family's network, or a ``ValueError`` if there is none."""
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    if family.network is None:
        raise ValueError("this learner needs a family with a network, its encoder; it has none")
    return family.network


def embed(network: Network, params: Params, x: chex.Array, *, maps: bool = False) -> chex.Array:
    """Embeddings ``f[n, e]``, with ``maps`` also ``f[n, ..., e]``; else a ``ValueError``."""
    outputs = network.apply(params, x)
    fits = outputs.ndim >= 2 if maps else outputs.ndim == 2
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(x)]
    if not fits or any(outputs.shape[0] != shape[0] for shape in shapes):
        expected = "[n, ..., e]" if maps else "[n, e]"
        raise ValueError(
            f"the encoder must map inputs [n, ...] to embeddings {expected}, but it maps "
            f"{', '.join(map(str, shapes))} to {outputs.shape}"
        )
    return outputs


def check_ways(ways: int) -> int:
    """Refuses fewer classes than two."""
    return checks.whole("ways", ways, at_least=2)


def one_hot(y: chex.Array, ways: int, dtype: chex.ArrayDType) -> chex.Array:
    """Labels ``i[n]`` as rows ``f[n, ways]``; a traced label out of range gives a row of NaN.

    So a wrong label makes the loss non-finite, which the estimators report, instead of counting
    for nothing.

    Raises:
        ValueError: for labels that are not whole numbers ``[n]``; for concrete ones that are out
            of range or leave a class without an example.
    """
    check_labels(y, ways)
    inside = (y >= 0) & (y < ways)
    return jnp.where(inside[:, None], jax.nn.one_hot(y, ways, dtype=dtype), jnp.nan)


def check_labels(y: chex.Array, ways: int) -> None:
    """What ``one_hot`` refuses."""
    if jnp.ndim(y) != 1 or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"labels must be whole numbers [n], got {jnp.result_type(y)}{list(jnp.shape(y))}"
        )
    if isinstance(y, jax.core.Tracer):
        return
    labels = np.unique(np.asarray(y))
    if labels.min() < 0 or labels.max() >= ways:
        raise ValueError(
            f"labels must lie in 0 ... {ways - 1} for {ways} ways, got {labels.tolist()}"
        )
    missing = np.setdiff1d(np.arange(ways), labels)
    if missing.size:
        raise ValueError(
            f"no support example of class {missing.tolist()}: {ways} ways need labels "
            f"0 ... {ways - 1}"
        )


def targets(y: chex.Array, ways: int | None, dtype: chex.ArrayDType) -> chex.Array:
    """What a regression is fitted to: one-hot labels, or values ``f[n, d]`` without ``ways``."""
    if ways is not None:
        return one_hot(y, ways, dtype)
    if jnp.ndim(y) != 2 or not jnp.issubdtype(jnp.result_type(y), jnp.floating):
        raise ValueError(
            f"targets must be floats [n, d], got {jnp.result_type(y)}{list(jnp.shape(y))}; "
            "labels need the argument ways"
        )
    return y
