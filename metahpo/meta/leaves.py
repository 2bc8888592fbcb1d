"""Which leaves of the parameters adapt to a task, told by their paths."""

import re
from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
from jax.tree_util import keystr, tree_flatten_with_path

from metahpo.base import Params

Leaves: TypeAlias = dict[str, chex.Array]
Chooses: TypeAlias = Callable[[str], bool]

_HEAD = re.compile(r"head_?\d*", re.IGNORECASE)
_NORM = re.compile(r"((batch|group|instance|layer|rms)_?)?norm(alization)?_?\d*", re.IGNORECASE)


def in_head(path: str) -> bool:
    """Whether a leaf belongs to a layer that is called ``head``, perhaps with a number.

    Example:
        >>> in_head("params/head/kernel"), in_head("params/multi_head_attention/out/kernel")
        (True, False)
    """
    return any(_HEAD.fullmatch(name) for name in path.split("/"))


def in_norm(path: str) -> bool:
    """Whether a leaf belongs to a normalisation of activations, by the name of its layer.

    These are ``norm`` and flax's ``BatchNorm``, ``GroupNorm``, ``InstanceNorm``, ``LayerNorm`` and
    ``RMSNorm`` in any case, perhaps with a number; not the normalisations of weights.

    Example:
        >>> in_norm("params/LayerNorm_0/scale"), in_norm("params/WeightNorm_0/scale")
        (True, False)
    """
    return any(_NORM.fullmatch(name) for name in path.split("/"))


def everywhere(path: str) -> bool:
    """Every leaf."""
    del path
    return True


def choose(params: Params, chooses: Chooses) -> Leaves:
    """The leaves that ``chooses`` names, in a dict by path, ``"params/head/kernel"``.

    Raises:
        ValueError: if there is none.

    Example:
        >>> params = {"body": {"w": 1.0}, "head": {"w": 2.0, "b": 3.0}}
        >>> choose(params, in_head)
        {'head/b': 3.0, 'head/w': 2.0}
    """
    leaves = by_path(params)
    chosen = {path: leaf for path, leaf in leaves.items() if chooses(path)}
    if not chosen:
        raise ValueError(f"no leaf of the parameters is chosen, of {sorted(leaves)}")
    return chosen


def replace(params: Params, leaves: Leaves) -> Params:
    """``params`` with other ``leaves`` at their paths.

    Example:
        >>> replace({"body": 1.0, "head": 2.0}, {"head": 5.0})
        {'body': 1.0, 'head': 5.0}
    """
    treedef = jax.tree.structure(params)
    return jax.tree.unflatten(
        treedef, [leaves.get(path, leaf) for path, leaf in by_path(params).items()]
    )


def in_tree(
    gradient: Callable[..., Callable[[Params], Params]], params: Params
) -> Callable[[Callable[[Leaves], chex.Array]], Callable[[Leaves], Leaves]]:
    """A gradient of chosen leaves by one that sees them at their places in ``params``.

    In the places of the others, which it must not differentiate, it sees ``None``.
    """
    paths, treedef = list(by_path(params)), jax.tree.structure(params)

    def of(loss: Callable[[Leaves], chex.Array]) -> Callable[[Leaves], Leaves]:
        def at(leaves: Leaves) -> Leaves:
            tree = jax.tree.unflatten(treedef, map(leaves.get, paths))
            return by_path(gradient(lambda tree: loss(by_path(tree)))(tree))

        return at

    return of


def by_path(params: Params) -> Leaves:
    """All leaves in a dict by path, in the order of the tree."""
    flat = tree_flatten_with_path(params)[0]
    return {keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
