"""The parts of a task that an update or a judgement sees."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, PyTree, Task
from metahpo.problems.few_shot import Examples


def minibatch(size: int) -> Callable[[Key, Task], Task]:
    """Makes the ``minibatch`` of ``training``: rows of the support part, with replacement.

    Rows of weight 0 are not drawn; the others are, alike, and keep their weights.

    Args:
        size: rows of a batch, at least 1.

    Returns:
        ``(key, task) -> task``, whose ``support`` has ``size`` rows.

    Raises:
        ValueError: for a size below 1.

    Example:
        >>> import jax, numpy as np, metahpo as mh
        >>> data = mh.problems.split(np.ones((10, 2)), np.ones(10), train=8, validation=1)
        >>> minibatch(4)(jax.random.key(0), data).support.x.shape
        (4, 2)
    """
    size = checks.whole("size", size)

    def draw(key: Key, task: Task) -> Task:
        total = jax.tree.leaves(task.support)[0].shape[0]
        weight = getattr(task.support, "weight", None)
        there = total if weight is None else jnp.sum(jnp.asarray(weight) > 0)
        # randint would hash four times as much, in every step of every training.
        rows = jnp.floor(jax.random.uniform(key, (size,)) * there).astype(jnp.int32)
        if weight is not None:  # padding is not drawn, lest a batch have nothing else
            rows = jnp.argsort(jnp.asarray(weight) <= 0)[rows]
        return task._replace(support=jax.tree.map(lambda x: jnp.asarray(x)[rows], task.support))

    return draw


def as_sampler(data: Task | Callable[[Key], Task]) -> Callable[[Key], Task]:
    """``(key) -> task`` of one task or of a function that draws them.

    Raises:
        ValueError: unless the task has the fields ``support`` and ``query``.
    """
    if callable(data):
        return data
    missing = [name for name in ("support", "query") if not hasattr(data, name)]
    if missing:
        raise ValueError(
            "data must have the parts support (trains) and query (judges), as mh.problems.split "
            f"makes them, or be (key) -> such a task; {type(data).__name__} has no "
            f"{' and no '.join(missing)}"
        )
    return lambda key: data


def part_of(task: Task, split: str) -> Examples:
    """What the split names."""
    return task.support if split == "support" else task.query


def with_aux(value: Any) -> tuple[chex.Array, PyTree]:
    """A loss and what it returned besides, ``()`` for nothing."""
    return value if isinstance(value, tuple) else (value, ())
