"""The differentiable part of a pytree of hyperparameters: its floating-point leaves."""

from collections.abc import Callable

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
    leaves, merge = parts(hparams)
    if not leaves:
        treedef = jax.tree.structure(hparams)
        raise ValueError(f"hyperparameters need a float leaf to have a gradient, got {treedef}")
    return leaves, merge


def parts(tree: PyTree) -> tuple[Floats, Callable[[Floats], PyTree]]:
    """``split`` of any pytree, such as a training state, which may be without floats."""
    leaves, treedef = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    where = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

    def merge(floats: Floats) -> PyTree:
        merged = list(leaves)
        for i, leaf in zip(where, floats, strict=True):
            merged[i] = leaf
        return jax.tree.unflatten(treedef, merged)

    return [leaves[i] for i in where], merge


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
    """Whether a leaf has a derivative."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def gradient_tree(hparams: HParams, grads: Floats) -> HParams:
    """Gradients of the float leaves as a pytree like ``hparams``, zero elsewhere."""
    _, merge = split(jax.tree.map(jnp.zeros_like, hparams))
    return merge(grads)
