"""Which row of a table a configuration is, found inside a compiled program."""

import math
from collections.abc import Callable

import chex
import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams
from metahpo.problems.tabular.tables import Table, is_ordered
from metahpo.space import Dimension

Lookup = Callable[[HParams], chex.Array]


def lookup(table: Table) -> Lookup:
    """``(hparams) -> i32[]``, the row of a configuration, or of the nearest one.

    In a table of all combinations every dimension goes to its nearest value, and the row is a
    number with a digit for each dimension.  In others all rows are compared: by the distance in
    the unit cube, where choices that differ are 1 apart.
    """
    listed = [np.unique(column) for column in table.columns.T]
    full = math.prod(len(values) for values in listed) == len(table.columns)
    return _by_digits(table, listed) if full else _by_distance(table)


def _by_digits(table: Table, listed: list[np.ndarray]) -> Lookup:
    sizes = [len(values) for values in listed]
    places = [
        np.searchsorted(values, column)
        for values, column in zip(listed, table.columns.T, strict=True)
    ]
    rows = np.empty(len(table.columns), np.int32)
    rows[np.ravel_multi_index(places, sizes)] = np.arange(len(rows))
    in_order = bool((rows == np.arange(len(rows))).all())

    def row(hparams: HParams) -> chex.Array:
        number: chex.Array = jnp.zeros((), jnp.int32)
        for (name, dim), values in zip(table.space.items(), listed, strict=True):
            number = number * len(values) + _place(dim, values, hparams[name])
        return number if in_order else jnp.asarray(rows)[number]

    return row


def _place(dim: Dimension, values: np.ndarray, value: chex.Numeric) -> chex.Array:
    """``i32[]``: the number of the nearest of some sorted values."""
    if not is_ordered(dim):
        return jnp.argmin(jnp.asarray(values) != value).astype(jnp.int32)
    at = jnp.asarray(dim.encode(values))
    middles = (at[1:] + at[:-1]) / 2
    return jnp.sum(dim.encode(value) > middles, dtype=jnp.int32)


def _by_distance(table: Table) -> Lookup:
    ordered = np.array([is_ordered(dim) for dim in table.space.values()])

    def row(hparams: HParams) -> chex.Array:
        apart = jnp.zeros(len(table.columns))
        for (name, dim), column, near in zip(
            table.space.items(), table.columns.T, ordered, strict=True
        ):
            if near:
                apart += jnp.square(dim.encode(column) - dim.encode(hparams[name]))
            else:
                apart += jnp.asarray(column) != hparams[name]
        return jnp.argmin(apart).astype(jnp.int32)

    return row
