"""A space as a pytree: its leaves, their names, and values in its structure."""

from typing import Any, TypeAlias

import jax

from metahpo.base import HParams, PyTree
from metahpo.space.choice import Choice
from metahpo.space.numbers import Float, Int

Space: TypeAlias = PyTree
"""A pytree whose leaves are dimensions."""

Dimension: TypeAlias = Float | Int | Choice
"""A leaf of a space."""


def flatten(space: Space) -> tuple[list[str], list[Dimension], Any]:
    """Names, dimensions and tree structure; refuses what is not a space."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(space)
    for path, leaf in paths:
        if not isinstance(leaf, Dimension):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"a space is a pytree whose leaves are Float, Int or Choice; "
                f"its leaf {name or '(root)'} is {leaf!r}"
            )
    if not paths:
        raise ValueError(f"a space needs at least one dimension, got {space!r}")
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"the names of a space's dimensions must differ, got {names}")
    return names, [leaf for _, leaf in paths], treedef


def names(space: Space) -> list[str]:
    """The names of the space's leaves, in the order in which JAX has them; nested ones with dots.

    Example:
        >>> names({"b": Float(0.0, 1.0), "a": {"c": Int(1, 2)}})
        ['a.c', 'b']
    """
    return flatten(space)[0]


def match(space: Space, treedef: Any, hparams: HParams) -> list[Any]:
    """The values in the order of the space; lists are the values of choices with a shape."""
    try:
        return treedef.flatten_up_to(hparams)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"hyperparameters do not match the space: the space has the structure {treedef}, "
            f"the hyperparameters have {jax.tree.structure(hparams)}"
        ) from error
