"""The differentiable part of a pytree of hyperparameters: its floating-point leaves."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import chex
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metahpo.base import HParams, PyTree

Floats = list[chex.Array]


def split(hparams: HParams) -> tuple[Floats, Callable[[Floats], HParams]]:
    """Separates the float leaves; the returned function puts (new) ones back in place.

    Raises:
        ValueError: if there is no float leaf, so that there is nothing to differentiate.
    """
    leaves, merge = _where(is_float, hparams)
    if not leaves:
        treedef = jax.tree.structure(hparams)
        raise ValueError(f"hyperparameters need a float leaf to have a gradient, got {treedef}")
    return leaves, merge


def parts(tree: PyTree) -> tuple[Floats, Callable[[Floats], PyTree]]:
    """``split`` of a training state, which may be without floats, and have complex leaves too."""
    return _where(lambda leaf: bool(jnp.issubdtype(leaf.dtype, jnp.inexact)), tree)


def _where(
    chosen: Callable[[chex.Array], bool], tree: PyTree
) -> tuple[Floats, Callable[[Floats], PyTree]]:
    leaves, treedef = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    where = [i for i, leaf in enumerate(leaves) if chosen(leaf)]

    def merge(floats: Floats) -> PyTree:
        merged = list(leaves)
        for i, leaf in zip(where, floats, strict=True):
            merged[i] = leaf
        return jax.tree.unflatten(treedef, merged)

    return [leaves[i] for i in where], merge


def named(hparams: HParams, leaves: Floats) -> PyTree:
    """Float leaves in a pytree like ``hparams``, with ``None`` in place of the other leaves.

    So an optimiser sees the names by which masks and labels choose, and nothing that it must not
    move.
    """
    given, treedef = jax.tree.flatten(hparams)
    rest = iter(leaves)
    return jax.tree.unflatten(
        treedef, [next(rest) if is_float(jnp.asarray(leaf)) else None for leaf in given]
    )


def ravel(
    hparams: HParams,
) -> tuple[chex.Array, Callable[[chex.Array], HParams], Callable[[chex.Array], HParams]]:
    """The float leaves as one vector ``f[h]``, for estimators that work coordinate by coordinate.

    Returns:
        The vector, the function that puts a new one in place, and the function that turns a
        gradient ``f[h]`` into a pytree like ``hparams``, zero for leaves that are not floats.
    """
    leaves, merge = split(hparams)
    flat, unravel = ravel_pytree(leaves)
    return flat, lambda x: merge(unravel(x)), lambda g: gradient_tree(hparams, unravel(g))


def is_float(leaf: chex.Array) -> bool:
    """Whether a leaf is a real number, of which a hyperparameter's gradient is made."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def real(leaf: chex.Array) -> chex.Array:
    """Whole numbers as floats of the default type; floats as they are."""
    return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), float_type(leaf)))


def float_type(tree: PyTree) -> chex.ArrayDType:
    """The type of a pytree's floats; the default type where there are none."""
    types = [jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)]
    found = [dtype for dtype in types if jnp.issubdtype(dtype, jnp.floating)]
    return jnp.result_type(*found) if found else jnp.result_type(float)


def strong(leaf: chex.Array) -> chex.Array:
    """With the type that a loop's carry has, also where it began as a Python number."""
    return leaf if is_key(leaf) else leaf.astype(leaf.dtype)


def is_weak(leaf: chex.Array) -> bool:
    """Whether a leaf began as a Python number, so that its type gives way; keys have none."""
    return bool(getattr(leaf, "weak_type", False))


def is_key(leaf: chex.Array) -> bool:
    """Whether a leaf is a typed random key."""
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def typed_key(key: chex.PRNGKey) -> chex.PRNGKey:
    """An old-style key ``u32[2]`` as a typed one; others as they are."""
    key = jnp.asarray(key)
    return key if is_key(key) else jax.random.wrap_key_data(key)


def wide(leaf: chex.Array) -> chex.Array:
    """Floats of at least 32 bits, in which sums and means keep their digits."""
    return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))


def double_precision() -> AbstractContextManager[None]:
    """Within, arrays may be of 64 bits."""
    if not hasattr(jax, "enable_x64"):  # before JAX 0.8
        from jax.experimental import enable_x64  # type: ignore[attr-defined]

        return enable_x64(True)
    return jax.enable_x64(True)


def gradient_tree(hparams: HParams, grads: Floats) -> HParams:
    """Gradients of the float leaves as a pytree like ``hparams``, zero elsewhere."""
    _, merge = split(jax.tree.map(_zeros, hparams))
    return merge(grads)


def _zeros(leaf: chex.Array) -> chex.Array:
    if is_key(jnp.asarray(leaf)):
        data = jnp.zeros_like(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.zeros_like(leaf)
