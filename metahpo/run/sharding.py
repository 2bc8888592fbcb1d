"""Batches spread over the devices of a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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
