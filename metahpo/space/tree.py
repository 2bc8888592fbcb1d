"""A space as a pytree: its leaves, their names, and values in its structure."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax

from metahpo.base import HParams, PyTree
from metahpo.space.choice import Choice
from metahpo.space.constant import Constant
from metahpo.space.numbers import Float, Int
from metahpo.space.one_of import BranchKey, OneOf, WhichKey, is_one_of

Space: TypeAlias = PyTree
"""A pytree whose leaves are dimensions or constants, and whose nodes may be ``OneOf``."""

Dimension: TypeAlias = Float | Int | Choice
"""What is searched: a leaf of a space that has coordinates."""

Leaf: TypeAlias = Dimension | Constant


class Missing:
    """Stands for the value of a leaf in a branch that is not chosen."""


def width(leaf: Leaf) -> int:
    """How many coordinates it takes."""
    return 0 if isinstance(leaf, Constant) else math.prod(leaf.shape)


def flatten(space: Space) -> tuple[list[str], list[Leaf], Any]:
    """Names, leaves and tree structure; refuses what is not a space."""
    paths, leaves, treedef = with_paths(space)
    names = [path_name(path) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"the names of a space's dimensions must differ, got {names}")
    return names, leaves, treedef


def with_paths(space: Space) -> tuple[list[tuple[Any, ...]], list[Leaf], Any]:
    """Paths, leaves and tree structure; refuses what is not a space."""
    found, treedef = jax.tree_util.tree_flatten_with_path(space)
    for path, leaf in found:
        if not isinstance(leaf, Dimension | Constant):
            plain = isinstance(leaf, bool | int | float | str)
            hint = f"; mh.Constant({leaf!r}) is a value that is not searched" if plain else ""
            raise ValueError(
                "a space is a pytree whose leaves are Float, Int or Choice, or Constant; "
                f"its leaf {jax.tree_util.keystr(path) or '(root)'} is {leaf!r}{hint}"
            )
    if not any(isinstance(leaf, Dimension) for _, leaf in found):
        raise ValueError(f"a space needs at least one dimension, got {space!r}")
    return [path for path, _ in found], [leaf for _, leaf in found], treedef


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's name, with dots; the coordinate that chooses a branch is called as its ``OneOf``."""
    shown = path if len(path) == 1 else [key for key in path if not isinstance(key, WhichKey)]
    return jax.tree_util.keystr(tuple(shown), simple=True, separator=".")


def names(space: Space) -> list[str]:
    """The names of the space's leaves, in the order in which JAX has them; nested ones with dots.

    Example:
        >>> names({"b": Float(0.0, 1.0), "a": {"c": Int(1, 2)}})
        ['a.c', 'b']
    """
    return flatten(space)[0]


def by_name(space: Space, hparams: HParams) -> dict[str, Any]:
    """Hyperparameters as ``readable`` gives them, by the names of the space's leaves.

    Those of branches that are not chosen are left out; a ``OneOf`` is the name of its branch.

    Example:
        >>> space = {"model": OneOf(svm={"C": Float(0.0, 1.0)}, forest={"depth": Int(1, 9)})}
        >>> by_name(space, {"model": ("svm", {"C": 0.5})})
        {'model': 'svm', 'model.svm.C': 0.5}
    """
    names, _, treedef = flatten(space)
    values = match(space, treedef, hparams)
    pairs = zip(names, values, strict=True)
    return {name: value for name, value in pairs if not isinstance(value, Missing)}


def fits(space: Space, hparams: HParams) -> bool:
    """Whether hyperparameters have the structure of a space."""
    try:
        match(space, jax.tree.structure(space), hparams)
    except ValueError:
        return False
    return True


def match(space: Space, treedef: Any, hparams: HParams) -> list[Any]:
    """The values in the order of the space; lists are the values of choices with a shape.

    A ``OneOf`` may be given as a ``Branch``, a pair of name and values, or ``{name: values}``.
    """
    return _matched(space, treedef, hparams, ())


def _matched(space: Space, treedef: Any, hparams: HParams, path: tuple[Any, ...]) -> list[Any]:
    outer: Any
    # A OneOf counts as a leaf here, because what is given for it may have another structure.
    parts, outer = jax.tree_util.tree_flatten_with_path(space, is_leaf=is_one_of)
    try:
        given = outer.flatten_up_to(hparams)
    except (ValueError, TypeError) as error:
        where = f" in {path_name(path)}" if path else ""
        raise ValueError(
            f"hyperparameters do not match the space{where}: the space has the structure "
            f"{treedef}, the hyperparameters have {jax.tree.structure(hparams)}"
        ) from error
    found: list[Any] = []
    for (key, part), value in zip(parts, given, strict=True):
        found += _of_one(part, value, path + key) if is_one_of(part) else [value]
    return found


def _of_one(one: OneOf, value: Any, path: tuple[Any, ...]) -> list[Any]:
    if is_one_of(value) and value.names == one.names:
        found = [value.which]
        for i, name in enumerate(one.names):
            found += _branch(one, value[name], (*path, BranchKey(name, i)))
        return found
    name, values = _taken_apart(one, value, path_name(path) or "(root)")
    found = [name]
    for i, other in enumerate(one.names):
        key = (*path, BranchKey(other, i))
        count = len(jax.tree.leaves(one[other]))
        found += _branch(one, values, key) if other == name else [Missing()] * count
    return found


def _branch(one: OneOf, values: HParams, path: tuple[Any, ...]) -> list[Any]:
    space = one[path[-1].name]
    return _matched(space, jax.tree.structure(space), values, path)


def _taken_apart(one: OneOf, value: Any, where: str) -> tuple[str, HParams]:
    """The name of the branch that is given, and its values."""
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise ValueError(
                f"hyperparameter {where} must have values for the chosen branch alone, one of "
                f"{one.names}, got some for {tuple(value)}"
            )
        name, values = next(iter(value.items()))
    elif isinstance(value, tuple | list) and len(value) == 2:
        name, values = value
    else:
        raise ValueError(
            f"hyperparameter {where} must be a pair of a branch's name and its values, "
            f"got {value!r}"
        )
    if name not in one.names:
        raise ValueError(
            f"hyperparameter {where} must be one of the branches {one.names}, got {name!r}"
        )
    return name, values
