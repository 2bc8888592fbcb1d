"""Batches spread over the devices of a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metahpo.base import PyTree


def batched(fn: Callable[..., Any], mesh: Mesh | None, shared: int = 1) -> Callable[..., Any]:
    """``vmap`` of ``fn``, its batch split over all devices of ``mesh``.

    The first ``shared`` arguments are the same for every member and are copied to every device.
    A batch that the number of devices does not divide is padded with copies of its last member,
    which are dropped from the result.
    """

    def run(*args: PyTree) -> PyTree:
        axes = (None,) * shared + (0,) * (len(args) - shared)
        vmapped = jax.vmap(fn, in_axes=axes)
        if mesh is None:
            return vmapped(*args)
        size = jax.tree.leaves(args[shared])[0].shape[0]
        pad = -size % mesh.size

        split, same = PartitionSpec(mesh.axis_names), PartitionSpec()
        out = jax.shard_map(
            vmapped,
            mesh=automatic(mesh),
            in_specs=tuple(same if axis is None else split for axis in axes),
            out_specs=split,
            check_vma=False,
        )(*args[:shared], *padded(args[shared:], pad))
        return jax.tree.map(lambda leaf: leaf[:size], out)

    return run


def summed(fn: Callable[..., PyTree], mesh: Mesh | None) -> Callable[..., PyTree]:
    """``fn(shared, weights f[n], *batch)``, a weighted sum, over all devices of ``mesh``.

    Every device computes the sum over its part of the batch.  Where the number of devices does not
    divide it, copies of the last member with the weight 0 fill it up.
    """
    if mesh is None:
        return fn
    split, same = PartitionSpec(mesh.axis_names), PartitionSpec()

    def part(*args: PyTree) -> PyTree:
        flat, unravel = ravel_pytree(fn(*args))  # one message instead of one a leaf
        return unravel(jax.lax.psum(flat, mesh.axis_names))

    def run(shared: PyTree, weights: jax.Array, *batch: PyTree) -> PyTree:
        pad = -weights.shape[0] % mesh.size
        # Whole on every device first: cheap to repeat there, and not worth a collective.
        members = everywhere((jnp.pad(weights, (0, pad)), *padded(batch, pad)), mesh)
        specs = (same, *(split for _ in members))
        return jax.shard_map(
            part, mesh=automatic(mesh), in_specs=specs, out_specs=same, check_vma=False
        )(shared, *members)

    return run


def padded(tree: PyTree, pad: int) -> PyTree:
    """The leaves with ``pad`` more copies of their last row."""
    if not pad:
        return tree
    return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], pad, axis=0)]), tree)


def automatic(mesh: Mesh) -> Mesh:
    """The same devices, their axes left to the compiler."""
    # jax.make_mesh makes Explicit axes, which would ask every caller for a resharding.
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)


def everywhere(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same arrays, whole on every device of every process, as results must be."""
    if mesh is None:
        return tree
    whole = NamedSharding(automatic(mesh), PartitionSpec())
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, whole), tree)
