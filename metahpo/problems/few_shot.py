"""Few-shot tasks: a handful of labelled examples to learn from, others to be judged on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from metahpo import checks
from metahpo.base import Key, Network, Params, TaskFamily
from metahpo.problems.flax_network import flax_network


class _Examples(NamedTuple):
    x: chex.Array
    y: chex.Array
    weight: chex.Array | None = None


class Examples(_Examples):
    """Inputs and targets, and how much each example counts.

    Unpacks to ``x, y``, and to ``x, y, weight`` where there are weights.

    Attributes:
        x: inputs ``f[n, ...]``.
        y: labels ``i32[n]`` or values ``f[n, d]``.
        weight: ``f[n]`` or ``bool[n]``, at least 0; ``None`` where all count alike.  A row of
            weight 0 may hold anything, so that tasks of different size get one shape (``padded``).
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        """So that ``x, y = examples`` stays right without weights."""
        return iter(self[:2] if self.weight is None else self[:3])

    def _replace(self, **changes: Any) -> "Examples":  # which would iterate
        return Examples(**{"x": self.x, "y": self.y, "weight": self.weight, **changes})


class Episode(NamedTuple):
    """One few-shot task: the examples to learn from and the examples to be judged on."""

    support: Examples
    query: Examples


def few_shot(
    sample: Callable[[Key], Episode],
    network: Network,
    criterion: Callable[..., chex.Array],
    *,
    ways: int | None = None,
    describe: Callable[[Episode], chex.Array] | None = None,
    train: Mapping[str, Any] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    rngs: Sequence[str] = ("dropout",),
) -> TaskFamily:
    """A family from data, a network and a criterion.

    Updates of an inner loop tell a network with dropout their key; what judges or predicts draws
    nothing.  Learners without updates (``prototypical``, ``ridge_head``, ...) only see the network
    as it evaluates.

    Args:
        sample: ``(key) -> Episode``.
        network: any ``init`` and ``apply``; a flax linen module will do, of which all collections
            but ``params`` (batch statistics) stay as they are.  A ``Network`` of your own with
            dropout has ``train``.  Meta-learners that bring their own head (``prototypical``,
            ``ridge_head``, ...) take it for the encoder.
        criterion: ``(outputs, y) -> f[]``, ``cross_entropy``, ``squared_error`` or your own; must
            take ``weight=`` if the examples have weights.
        ways: the number of classes, which the width of the outputs must then equal.
        describe: ``(episode) -> f[F]``; by default a task has no descriptor, f[0].
        train: fields or keyword arguments of the call of a flax module in updates, such as
            ``{"train": True}``; by default the module as it is.
        evaluate: those when it is judged or predicts, such as ``{"train": False}``; by default the
            module as it is, and if it then draws random numbers, without training (by its
            ``train``, ``training``, ``is_training`` or ``deterministic``).
        rngs: names of the random streams that a flax module draws from in updates.

    Returns:
        A TaskFamily with ``Episode`` tasks.

    Raises:
        ValueError: if ``ways`` is below 2, or ``train`` or ``evaluate`` are given for a network
            that is no flax module, or the network is none; when its loss is traced, if the network
            has not one output a class, weights are not ``[n]``, or the criterion takes none.

    Example:
        >>> import jax, metahpo as mh
        >>> data = mh.problems.sinusoid(shots=5)
        >>> network = mh.networks.MLP(hidden=(16,), bias=(0.0,))
        >>> family = mh.problems.few_shot(data.sample, network, mh.problems.squared_error)
        >>> problem = mh.meta.maml(family, learning_rate=0.01)
    """
    ways = None if ways is None else checks.whole("ways", ways, at_least=2)
    if isinstance(network, linen.Module):
        network = flax_network(network, train, evaluate, rngs)
    elif train is not None or evaluate is not None:
        raise ValueError(
            f"train and evaluate are for flax modules, got {train=} and {evaluate=} for a "
            f"{type(network).__name__}: a Network has the functions apply and train"
        )

    for name in ("init", "apply"):
        if not callable(getattr(network, name, None)):
            raise ValueError(
                f"a network must have the functions init and apply, got a {type(network).__name__} "
                "without; a flax NNX module is a problem by itself, mh.problems.nnx"
            )

    def init(key: Key, task: Episode) -> Params:
        return network.init(key, task.support.x)

    def loss(params: Params, task: Episode, split: str, key: Key | None = None) -> chex.Array:
        examples = filled(task.support if split == "support" else task.query)
        outputs = outputs_of(network, params, examples.x, key)
        if ways is not None and outputs.shape[-1] != ways:
            raise ValueError(
                f"the network has {outputs.shape[-1]} outputs, but the episodes have {ways} ways"
            )
        return judged(criterion, outputs, examples)

    descriptor = _nothing if describe is None else describe
    return TaskFamily(sample, init, loss, descriptor, network, criterion)


def outputs_of(network: Network, params: Params, x: chex.Array, key: Key | None) -> chex.Array:
    """A network's outputs in an update, which has a key, or in judging, which has none."""
    train = network.train if isinstance(network, Network) else None
    return network.apply(params, x) if key is None or train is None else train(params, x, key)


def judged(
    criterion: Callable[..., chex.Array], outputs: chex.Array, examples: Examples, *more: Any
) -> chex.Array:
    """What a criterion or a metric says of outputs, by the examples' weights if they have some.

    Raises:
        ValueError: if there are weights, and the criterion takes none.
    """
    if getattr(examples, "weight", None) is None:
        return criterion(outputs, examples.y, *more)
    checks.function(
        "the criterion of examples with weights",
        criterion,
        "(outputs, y, weight=) -> f[], as mh.problems.cross_entropy is",
        *range(2 + len(more)),
        weight=None,
    )
    return criterion(outputs, examples.y, *more, weight=examples.weight)


def filled(examples: Examples) -> Examples:
    """With an example that counts in the rows of weight 0, so that what they held cannot matter.

    Zeros, NaN or labels of -1 there would be NaN in a derivative, even times a weight of 0.

    Raises:
        ValueError: unless weights are ``[n]`` and, where they are known, at least 0 and not all 0.
    """
    weight = getattr(examples, "weight", None)
    if weight is None:
        return examples
    rows = jnp.shape(jax.tree.leaves(examples.y)[0])[0]
    if jnp.shape(weight) != (rows,):
        raise ValueError(f"weights must be [{rows}], got {list(jnp.shape(weight))}")
    if checks.known(weight) and not (np.min(weight) >= 0 and np.max(weight) > 0):
        raise ValueError(f"weights must be at least 0, and one must be positive, got {weight}")
    counts = jnp.asarray(weight) > 0
    first = jnp.argmax(counts)

    def fill(leaf: chex.Array) -> chex.Array:
        leaf = jnp.asarray(leaf)
        return jnp.where(counts.reshape(rows, *[1] * (leaf.ndim - 1)), leaf, leaf[first])

    return examples._replace(
        x=jax.tree.map(fill, examples.x), y=jax.tree.map(fill, examples.y), weight=weight
    )


def padded(examples: Examples, size: int) -> Examples:
    """The same examples in ``size`` rows, of which the additional ones have weight 0.

    So tasks with different numbers of examples are stacked, mapped and compiled once.

    Raises:
        ValueError: if there are more than ``size`` examples.

    Example:
        >>> three = Examples(np.ones((3, 2)), np.array([0, 1, 2]))
        >>> padded(three, 5).weight.tolist()
        [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    rows = len(jax.tree.leaves(examples.y)[0])
    missing = checks.whole("size", size) - rows
    if missing < 0:
        raise ValueError(f"size must be at least the number of examples, {rows}, got {size}")

    def pad(leaf: chex.Array) -> chex.Array:
        leaf = jnp.asarray(leaf)
        return jnp.concatenate([leaf, jnp.zeros((missing, *leaf.shape[1:]), leaf.dtype)])

    weight = jnp.ones(rows) if examples.weight is None else examples.weight
    return jax.tree.map(pad, examples._replace(weight=weight))


def example_inputs(family: TaskFamily) -> chex.Array:
    """The support inputs of one episode, for the shapes that a network is made for."""
    return family.sample(jax.random.key(0)).support.x


def _nothing(task: Episode) -> chex.Array:
    return jnp.zeros(0, jnp.result_type(float))
