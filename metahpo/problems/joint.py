"""Several problems as one, for hyperparameters that serve all of them."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from metahpo.base import HParams, Key, Problem, State, Task, unchanged


def joint(problems: Sequence[Problem]) -> Problem:
    """The product of problems of any shapes, with the same hyperparameters.

    A task is a tuple of one task of each, all are trained side by side for the same number of
    steps, and the outer loss is the mean of theirs.  So a learned optimiser is meta-trained on
    networks of several sizes, or a rate tuned for several data sets; put losses of different units
    on one scale first (their logarithm, for example).

    Args:
        problems: at least one.

    Returns:
        A Problem; its descriptor is all of theirs, one behind the other, its ``initial`` that of
        the first that has one, and it makes no predictions.

    Raises:
        ValueError: for no problems.

    Example:
        >>> import metahpo as mh
        >>> both = joint([mh.problems.function(lambda h, c=c: (h["x"] - c) ** 2) for c in (0, 2)])
        >>> task = both.sample(jax.random.key(0))
        >>> state = both.init(jax.random.key(1), {"x": jnp.array(1.0)}, task)
        >>> float(both.loss(jax.random.key(2), {"x": jnp.array(1.0)}, task, state))
        1.0
    """
    parts = tuple(problems)
    if not parts:
        raise ValueError("joint needs at least one problem, got none")

    def each(name: str, key: Key, *columns: Any) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(parts))
        rows = zip(parts, keys, *columns, strict=True)
        return tuple(getattr(part, name)(*row) for part, *row in rows)

    def alike(hparams: HParams) -> tuple[HParams, ...]:
        return (hparams,) * len(parts)

    def sample(key: Key) -> Task:
        return each("sample", key)

    def init(key: Key, hparams: HParams, task: Task) -> State:
        return each("init", key, alike(hparams), task)

    def step(key: Key, hparams: HParams, task: Task, state: State) -> State:
        return each("step", key, alike(hparams), task, state)

    def loss(key: Key, hparams: HParams, task: Task, state: State) -> chex.Array:
        return jnp.mean(jnp.stack(each("loss", key, alike(hparams), task, state)))

    def describe(task: Task) -> chex.Array:
        pairs = zip(parts, task, strict=True)
        return jnp.concatenate([jnp.ravel(part.describe(one)) for part, one in pairs])

    def lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        if any(part.lift is not unchanged for part in parts):
            raise ValueError(
                "an inner loss of a joint problem cannot be told the hyperparameters of parts that "
                "are made of other problems: join first, links.unconstrained(joint(...))"
            )
        return inner_loss

    known: list[Callable[[Key], HParams]] = [p.initial for p in parts if p.initial is not None]
    return Problem(
        sample,
        init,
        step,
        loss,
        describe,
        predict=None,
        initial=known[0] if known else None,
        lift=lift,
    )
