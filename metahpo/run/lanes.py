"""Decisions that all lanes of a ``vmap`` take together.

Under ``vmap`` a condition that differs from lane to lane makes XLA run both branches of a ``cond``
and copy the whole carry of a ``while_loop`` in every round.  ``highest`` gives a condition that is
the same in all lanes, and ``freeze`` keeps what a lane had when it alone was done.  Without a
``vmap`` both cost nothing.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from metahpo.base import PyTree


@custom_vmap
def highest(x: chex.Array) -> chex.Array:
    """The largest ``x`` of all lanes, for flags too; ``x`` itself without a ``vmap``."""
    return x


@highest.def_vmap
def _(axis_size: int, in_batched: Sequence[bool], x: chex.Array) -> tuple[chex.Array, bool]:
    del axis_size
    return highest(x.max(axis=0) if in_batched[0] else x), False


@custom_vmap
def freeze(done: chex.Array, new: PyTree, old: PyTree) -> PyTree:
    """In lanes that are ``done`` while others go on, ``old``; else ``new``.

    Leaves that are the same in all lanes are always ``new``: a counter that decides for all lanes
    whether something costly is due must stay one number, and a lane that is done has no use of it.
    """
    del done, old
    return new


@freeze.def_vmap
def _(axis_size: int, in_batched: Sequence[Any], *args: Any) -> tuple[PyTree, PyTree]:
    done, new, old = args
    done_batched, *batched = in_batched
    either = jax.tree.map(lambda a, b: a or b, *batched)

    def lanes(leaf: chex.Array, mine: bool, wanted: bool) -> chex.Array:
        return jnp.broadcast_to(leaf, (axis_size, *leaf.shape)) if wanted and not mine else leaf

    new = jax.tree.map(lanes, new, batched[0], either)
    old = jax.tree.map(lanes, old, batched[1], either)
    if done_batched:

        def pick(mine: chex.Array, kept: chex.Array, apart: bool) -> chex.Array:
            if not apart:
                return mine
            shape = (axis_size, *[1] * (mine.ndim - 1))
            return jnp.where(done.reshape(shape), kept, mine)

        return jax.tree.map(pick, new, old, either), either
    return freeze(done, new, old), either
