"""Decisions that all lanes of a ``vmap`` take together.

Under ``vmap`` a condition that differs from lane to lane makes XLA run both branches of a ``cond``
and copy the whole carry of a ``while_loop`` in every round.  ``highest`` gives a condition that is
the same in all lanes, ``freeze`` keeps what a lane had when it alone was done, and ``when`` does
work that only some lanes want for all of them, or not at all; ``one_by_one`` does it for one lane
after the other.  Without a ``vmap`` all of them cost nothing.
"""

from collections.abc import Callable, Sequence
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


def one_by_one(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``fn``, which lanes compute one after the other on CPUs, and at once elsewhere.

    On a CPU a batch of factorisations is shared out among the threads of a pool whose members wait
    for one another: in JAX before 0.11.2 several batches at once wait for ever.  What comes out
    cannot be differentiated: say how, with ``jax.custom_jvp``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jax.vmap(one_by_one(jnp.linalg.cholesky))(4 * jnp.ones((2, 1, 1))).ravel()
        Array([2., 2.], dtype=float32)
    """
    return _one_by_one(fn, 0)


def _one_by_one(fn: Callable[..., PyTree], axes: int) -> Callable[..., PyTree]:
    """For arguments that all have so many axes of lanes, which are gone through as one."""

    @custom_vmap
    def lanes(*args: PyTree) -> PyTree:
        if not axes:
            return fn(*args)
        shape = jax.tree.leaves(args)[0].shape[:axes]
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), args)
        result = jax.lax.platform_dependent(
            *flat,
            cpu=lambda *flat: jax.lax.map(lambda own: fn(*own), flat),
            default=jax.vmap(fn),
        )
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), result)

    @lanes.def_vmap
    def _(size: int, batched: Sequence[Any], *args: PyTree) -> tuple[PyTree, Any]:
        args = jax.tree.map(
            lambda leaf, is_batched: (
                leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))
            ),
            args,
            tuple(batched),
        )
        result = _one_by_one(fn, axes + 1)(*args)
        return result, jax.tree.map(lambda _: True, result)

    return lanes


def when(pred: chex.Array, fn: Callable[..., PyTree], x: PyTree, *args: PyTree) -> PyTree:
    """``fn(x, *args)`` where ``pred`` holds, else ``x``; ``fn`` is skipped if nobody wants it.

    ``jax.lax.cond`` runs both of its branches as soon as ``vmap`` batches its predicate.  Here
    ``fn`` runs if *some* lane wants it, then for all lanes, and each lane keeps what it asked for.
    With a predicate that ``vmap`` leaves alone, such as that of a shared counter, there is nothing
    to select.

    Args:
        pred: ``bool[]``.
        fn: ``(x, *args) -> x``; the result has the structure, shapes and types of ``x``.  It must
            be pure and close over no traced value: pass those as ``args``.
        x: what ``fn`` changes.
        *args: what ``fn`` only reads; never copied to the result.

    Returns:
        A pytree like ``x``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> halve = lambda x: jax.tree.map(lambda leaf: leaf / 2, x)
        >>> jax.vmap(lambda x: when(x > 2, halve, x))(jnp.array([1.0, 4.0]))
        Array([1., 2.], dtype=float32)
    """
    return _guard(fn)(jnp.asarray(pred), x, args)


def _guard(fn: Callable[..., PyTree]) -> Callable[[chex.Array, PyTree, tuple], PyTree]:
    @jax.custom_batching.custom_vmap
    def guarded(pred: chex.Array, x: PyTree, args: tuple) -> PyTree:
        return jax.lax.cond(pred, lambda x, args: fn(x, *args), lambda x, args: x, x, args)

    @guarded.def_vmap
    def rule(
        size: int, batched: list, pred: chex.Array, x: PyTree, args: tuple
    ) -> tuple[PyTree, Any]:
        pred_batched, x_batched, args_batched = batched
        everything = jax.tree.map(lambda _: True, x)
        # Results of fn are batched as soon as anything is; so must be the values they replace.
        x = jax.tree.map(
            lambda leaf, is_batched: (
                leaf if is_batched else jnp.broadcast_to(leaf, (size, *jnp.shape(leaf)))
            ),
            x,
            x_batched,
        )
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, args_batched)
        lanes = jax.vmap(lambda x, *args: fn(x, *args), (0, *axes), axis_size=size)
        if not pred_batched:
            return _guard(lanes)(pred, x, args), everything

        def some(x: PyTree, pred: chex.Array, *args: PyTree) -> PyTree:
            def select(new: chex.Array, old: chex.Array) -> chex.Array:
                return jnp.where(pred.reshape(pred.shape + (1,) * (new.ndim - 1)), new, old)

            return jax.tree.map(select, lanes(x, *args), x)

        return _guard(some)(pred.any(), x, (pred, *args)), everything

    return guarded
