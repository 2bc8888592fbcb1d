"""Random trees that split tasks by their descriptors: which past tasks a task is like."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key


class Tree(NamedTuple):
    """A tree of ``L`` levels over the ``B`` tasks of its bag; a node is known by its members.

    Attributes:
        bag: ``i32[B]``, the tasks that it has seen.
        valid: ``bool[B]``, which of them count.
        feature: ``i32[L, B]``, by which the node of a member splits at each level.
        threshold: ``f[L, B]``; what lies above goes to the right, ``inf`` where nothing splits.
        child: ``i32[L, B, 2]``, a member of the left and of the right part.
        leaf: ``i32[B]``, where the members end, the number of the first in the leaf.
    """

    bag: chex.Array
    valid: chex.Array
    feature: chex.Array
    threshold: chex.Array
    child: chex.Array
    leaf: chex.Array


def levels_for(tasks: int) -> int:
    """So many that a leaf holds hardly more than one task."""
    return max(1, math.ceil(1.5 * math.log2(max(tasks, 2))))


def grow(
    key: Key,
    x: chex.Array,
    alike: chex.Array,
    bag: chex.Array,
    valid: chex.Array,
    levels: int,
    candidates: int,
) -> Tree:
    """An extremely randomised tree (Geurts, Ernst & Wehenkel 2006) of many outputs.

    In each node a member is drawn, whose features are the thresholds to try; the feature that
    explains most of the outputs' variance splits the node.  Of the outputs only inner products are
    needed.

    Args:
        key: draws candidates and thresholds.
        x: ``f[T, F]``, features.
        alike: ``f[T, T]``, the inner products of the tasks' outputs.
        bag: ``i32[B]``, the tasks that may be looked at.
        valid: ``bool[B]``, which of these.
        levels: of the tree.
        candidates: features that are tried at each level.
    """
    x, alike = x[bag], alike[bag][:, bag]
    size, features = x.shape
    in_use = valid.astype(x.dtype)
    start = valid[:, None] & valid

    def level(same: chex.Array, key: Key) -> tuple[chex.Array, tuple]:
        feature_key, member_key = jax.random.split(key)
        if candidates < features:
            order = jax.random.uniform(feature_key, (features,))
            tried = jax.lax.top_k(order, candidates)[1]
        else:
            tried = jnp.arange(features)
        values = x[:, tried]
        # The member of the lowest number drawn in each node is the same for all in it.
        draw = jax.random.uniform(member_key, (size,))
        leader = jnp.where(same, draw, 2.0).argmin(1)
        threshold = values[leader]
        right = jnp.where(values > threshold, in_use[:, None], 0.0)
        members = same.astype(x.dtype)
        sides = jnp.concatenate([right, in_use[:, None]], axis=1)
        products = (members * alike) @ sides
        of_right, of_all = products[:, :-1], products[:, -1:]
        sums = members @ jnp.concatenate(
            [right * of_right, right * of_all, right, of_all * in_use[:, None], in_use[:, None]], 1
        )
        square, cross, count = jnp.split(sums[:, : 3 * right.shape[1]], 3, axis=1)
        whole, total = sums[:, -2:-1], sums[:, -1:]
        # Sums of squares of the means of both parts: high where outputs within are alike.
        gain = square / jnp.maximum(count, 1.0)
        gain += (whole - 2 * cross + square) / jnp.maximum(total - count, 1.0)
        splits = (count > 0.5) & (total - count > 0.5)
        best = jnp.where(splits, gain, -jnp.inf).argmax(1)
        # All in a node must agree, whatever rounding does: they follow its first member.
        first = jnp.argmax(same, axis=1)
        best = best[first]
        rows = jnp.arange(size)
        cut = jnp.where(splits[first, best], threshold[rows, best], jnp.inf)
        goes = values[rows, best] > cut
        part = same & (goes[:, None] == goes)
        other = same & (goes[:, None] != goes)
        own, across = jnp.argmax(part, 1), jnp.where(other.any(1), jnp.argmax(other, 1), rows)
        left, right_member = jnp.where(goes, across, own), jnp.where(goes, own, across)
        return part, (tried[best], cut, jnp.stack([left, right_member], axis=1))

    same, (feature, threshold, child) = jax.lax.scan(level, start, jax.random.split(key, levels))
    return Tree(bag, valid, feature, threshold, child, jnp.argmax(same, axis=1))


def leaf_of(tree: Tree, x: chex.Array) -> chex.Array:
    """``i32[]``: where the features ``f[F]`` end."""

    def go(member: chex.Array, level: tuple) -> tuple[chex.Array, None]:
        feature, threshold, child = level
        right = x[feature[member]] > threshold[member]
        return child[member, right.astype(jnp.int32)], None

    start = jnp.argmax(tree.valid)
    member, _ = jax.lax.scan(go, start, (tree.feature, tree.threshold, tree.child))
    return tree.leaf[member]


def likeness(trees: Tree, x: chex.Array, tasks: int) -> chex.Array:
    """``f[tasks]``: the weights that a forest (leading axis) gives to the tasks at ``f[F]``.

    Of every tree the tasks of its bag in the same leaf have equal weights (Meinshausen 2006); they
    sum to 1.
    """

    def of_one(tree: Tree) -> chex.Array:
        return _weights(tree, leaf_of(tree, x), tasks)

    return jax.vmap(of_one)(trees).mean(0)


def own_likeness(trees: Tree, x: chex.Array, group: chex.Array) -> chex.Array:
    """``f[T, T]``: those of the tasks ``f[T, F]``, by trees that have seen nobody of their group.

    A task without such a tree has zeros.
    """
    tasks = len(x)

    def add(total: tuple, tree: Tree) -> tuple[tuple, None]:
        leaf = jax.vmap(lambda row: leaf_of(tree, row))(x)
        weights = jax.vmap(lambda at: _weights(tree, at, tasks))(leaf)
        unseen = ~((group[:, None] == group[tree.bag]) & tree.valid).any(1)
        return (total[0] + jnp.where(unseen[:, None], weights, 0.0), total[1] + unseen), None

    start = jnp.zeros((tasks, tasks), x.dtype), jnp.zeros(tasks, jnp.int32)
    (total, count), _ = jax.lax.scan(add, start, trees)
    return total / jnp.maximum(count, 1)[:, None]


def _weights(tree: Tree, leaf: chex.Array, tasks: int) -> chex.Array:
    same = ((tree.leaf == leaf) & tree.valid).astype(tree.threshold.dtype)
    share = same / jnp.maximum(same.sum(), 1.0)
    return jnp.append(share, 0.0)[_places(tree, tasks)]


def _places(tree: Tree, tasks: int) -> chex.Array:
    """``i32[tasks]``: where tasks stand in the bag, behind it if they do not."""
    size = len(tree.bag)
    return jnp.full(tasks, size, jnp.int32).at[tree.bag].set(jnp.arange(size, dtype=jnp.int32))
