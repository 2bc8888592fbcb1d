"""A table of evaluations as a Problem."""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Problem
from metahpo.problems.tabular.lookup import lookup
from metahpo.problems.tabular.tables import Table


class TabularState(NamedTuple):
    """A training under way: which of the repeats it is, and the epochs made."""

    repeat: chex.Array  # i32[]
    epochs: chex.Array  # i32[]


def tabular(table: Table, repeats: Literal["drawn", "mean"] = "drawn") -> Problem:
    """Recorded trainings as a Problem: a step goes on by an epoch, the loss is looked up.

    A configuration that no row has takes the row nearest to it in the unit cube, so the loss is
    constant around every row, and has no gradient.  Without learning curves every epoch is the
    last one.  Before the first step the loss is that of the first epoch, beyond the last one that
    of the last.

    Args:
        table: as ``table``, ``hpobench_nn`` or ``hpolib`` makes it.
        repeats: ``"drawn"``, each training is one of the recorded repeats, drawn by its key;
            ``"mean"``, its loss is the mean over them.

    Returns:
        A Problem with hyperparameters from ``table.space`` and tasks ``f[N, R, E]``, of which
        ``sample`` gives ``table.scores``; those of tables with the same configurations can be
        stacked to vmap over them.

    Raises:
        ValueError: if ``table`` is none, or ``repeats`` is unknown.

    Example:
        >>> import jax, numpy as np, metahpo as mh
        >>> found = mh.problems.table({"x": mh.Int(0, 7)}, {"x": np.arange(8)},
        ...                           np.arange(8.0)[:, None])
        >>> result = mh.search(
        ...     jax.random.key(0), mh.problems.tabular(found), found.space,
        ...     mh.strategies.sobol(found.space, population=8), rounds=1, steps=1,
        ... )
        >>> float(mh.problems.normalised_regret(result.best_loss, found.best, found.median))
        0.0
    """
    checks.record("table", table, Table, "mh.problems.table")
    checks.one_of("repeats", repeats, ("drawn", "mean"))
    row = lookup(table)

    def sample(key: Key) -> chex.Array:
        del key
        return jnp.asarray(table.scores)

    def init(key: Key, hparams: HParams, task: chex.Array) -> TabularState:
        del hparams
        repeat = jax.random.randint(key, (), 0, task.shape[1])
        return TabularState(repeat, jnp.zeros((), jnp.int32))

    def step(key: Key, hparams: HParams, task: chex.Array, state: TabularState) -> TabularState:
        del key, hparams, task
        return state._replace(epochs=state.epochs + 1)

    def loss(key: Key, hparams: HParams, task: chex.Array, state: TabularState) -> chex.Array:
        del key
        epoch = jnp.clip(state.epochs, 1, task.shape[2]) - 1
        losses = jnp.asarray(task)[row(hparams), :, epoch]
        return losses.mean() if repeats == "mean" else losses[state.repeat]

    return Problem(sample, init, step, loss)
