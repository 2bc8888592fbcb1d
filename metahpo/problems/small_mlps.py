"""Small dense networks on a data set that is in memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key, TaskFamily
from metahpo.problems.criteria import cross_entropy, squared_error
from metahpo.problems.few_shot import Examples
from metahpo.problems.masked_mlp import ACTIVATIONS
from metahpo.problems.splits import Split


class _Dense(NamedTuple):
    kernel: chex.Array
    bias: chex.Array


def small_mlps(
    data: Split,
    hidden: Sequence[int] = (16,),
    activation: str = "relu",
    examples: int | None = None,
) -> TaskFamily:
    """Networks of one shape on one data set, each trained on examples of its own.

    For whoever learns an optimiser: a ``problems.joint`` of several shapes, or of several data
    sets, is a curriculum.  The support loss is that of the examples drawn from ``data.support``,
    the query loss that of ``data.query``, and ``data.test`` is not touched.

    Args:
        data: whole numbers for targets are classes, with the cross-entropy; floats the squared
            error.
        hidden: widths of the hidden layers, none for a linear model.
        activation: a name of ``problems.masked_mlp.ACTIVATIONS``.
        examples: how many a task draws from the support, without replacement; all by default.

    Returns:
        A TaskFamily with ``Split`` tasks and params ``[(kernel, bias), ...]``, drawn with variance
        ``1 / fan_in`` (LeCun et al. 1998).

    Raises:
        ValueError: for a width or a number of examples that the data does not have, or another
            activation.

    Example:
        >>> import metahpo as mh
        >>> rng = np.random.default_rng(0)
        >>> data = mh.problems.split(rng.normal(size=(60, 4)), np.arange(60) % 3, 30, 15)
        >>> family = mh.problems.small_mlps(data, hidden=(8, 8), examples=20)
        >>> task = family.sample(jax.random.key(0))
        >>> [layer.kernel.shape for layer in family.init(jax.random.key(1), task)]
        [(4, 8), (8, 8), (8, 3)]
    """
    widths = [checks.whole("a width of hidden", width) for width in hidden]
    checks.one_of("activation", activation, ACTIVATIONS)
    rows = len(data.support.y)
    count = rows if examples is None else checks.whole("examples", examples)
    if count > rows:
        raise ValueError(f"examples must be at most the {rows} of the support, got {count}")
    classes = np.issubdtype(np.asarray(data.support.y).dtype, np.integer)
    ways = int(max(np.max(part.y) for part in data)) + 1 if classes else 1
    sizes = [data.support.x.shape[-1], *widths, ways]
    criterion: Callable[..., chex.Array] = cross_entropy if classes else squared_error
    parts = jax.tree.map(np.asarray, data)

    def sample(key: Key) -> Split:
        support, query, test = jax.tree.map(jnp.asarray, parts)
        if count < rows:
            chosen = jax.random.permutation(key, rows)[:count]
            support = Examples(support.x[chosen], support.y[chosen])
        return Split(support, query, test)

    def init(key: Key, task: Split) -> list[_Dense]:
        shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
        ends = np.cumsum([0, *(a * b for a, b in shapes)])
        # One flat draw, which compiles faster than small matrices.
        noise = jax.random.normal(key, (int(ends[-1]),), task.support.x.dtype)
        kernels = [
            noise[start:end].reshape(shape) / np.sqrt(shape[0]).astype(noise.dtype)
            for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
        ]
        return [_Dense(kernel, jnp.zeros(kernel.shape[1], noise.dtype)) for kernel in kernels]

    def loss(params: list[_Dense], task: Split, split: str) -> chex.Array:
        part = task.support if split == "support" else task.query
        x = part.x
        for layer in params[:-1]:
            x = ACTIVATIONS[activation](x @ layer.kernel + layer.bias)
        outputs = x @ params[-1].kernel + params[-1].bias
        return criterion(outputs, part.y if classes else part.y.reshape(outputs.shape))

    return TaskFamily(sample, init, loss)
