"""Which leaves of the parameters adapt to a task, told by their paths."""

from collections.abc import Callable
from typing import TypeAlias

import chex
import jax
from jax.tree_util import keystr, tree_flatten_with_path

from metahpo.base import Params

Leaves: TypeAlias = dict[str, chex.Array]
Chooses: TypeAlias = Callable[[str], bool]


def in_head(path: str) -> bool:
    """Whether a leaf belongs to the last layer, which has ``head`` in its path.

    Example:
        >>> in_head("params/head/kernel"), in_head("params/Dense_0/kernel")
        (True, False)
    """
    return "head" in path


def in_norm(path: str) -> bool:
    """Whether a leaf belongs to a normalisation, which has ``norm`` in its path (any case)."""
    return "norm" in path.lower()


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


def by_path(params: Params) -> Leaves:
    """All leaves in a dict by path, in the order of the tree."""
    flat = tree_flatten_with_path(params)[0]
    return {keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
