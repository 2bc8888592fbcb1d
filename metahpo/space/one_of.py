"""Conditional dimensions: a choice between sub-spaces."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams, PyTree
from metahpo.space.choice import Choice


@dataclass(frozen=True)
class WhichKey:
    """In the path of a pytree: the coordinate that chooses a branch."""

    def __str__(self) -> str:
        """As JAX shows paths."""
        return "which"


@dataclass(frozen=True)
class BranchKey:
    """In the path of a pytree: the sub-space of a branch."""

    name: str
    index: int

    def __str__(self) -> str:
        """As JAX shows paths."""
        return self.name


@jax.tree_util.register_pytree_with_keys_class
class OneOf:
    """One of several sub-spaces, each with hyperparameters that exist only if it is chosen.

    The cube has a coordinate for the choice, and then those of all branches; of these the ones of
    the chosen branch are *active* (``metahpo.space.active``).  A branch is a space like any other:
    a dict, a single dimension, ``{}``, or one with constants or further ``OneOf``.

    What ``decode`` gives for it is a ``OneOf`` of values, for use inside a program: ``which`` is
    the index of the branch, ``[name]`` a branch's values, and ``switch`` goes on with the chosen
    one.  Values of branches that are not chosen are those in the middle of their range.  On the
    host (``readable``, ``mh.minimize``) it is a ``Branch``: the name, and the branch's own values.

    Args:
        branches: sub-spaces by name, where a name is no Python identifier.
        more: sub-spaces by name.

    Attributes:
        which: the ``Choice`` among the names; in a program its index, ``i32[]``.
        names: of the branches, in the order in which they were given.

    Raises:
        ValueError: if there is no branch, one is given twice, or a name is missing, empty or no
            text.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> model = mh.OneOf(
        ...     svm={"C": mh.Float(0.0, 4.0)}, forest={"depth": mh.Int(1, 9)}, naive={}
        ... )
        >>> list(mh.space.dimensions({"model": model}))
        ['model', 'model.svm.C', 'model.forest.depth']
        >>> h = mh.space.decode({"model": model}, jnp.array([0.0, 0.25, 0.9]))
        >>> int(h["model"].which), float(h["model"]["svm"]["C"])
        (0, 1.0)
        >>> loss = h["model"].switch(
        ...     svm=lambda h: (h["C"] - 2.0) ** 2, forest=lambda h: 1.0 / h["depth"],
        ...     naive=lambda h: 0.5,
        ... )
        >>> float(loss)
        1.0
        >>> mh.space.readable({"model": model}, h)
        {'model': Branch(name='svm', values={'C': 1.0})}
    """

    which: Any
    _branches: dict[str, PyTree]

    def __init__(self, branches: Mapping[str, PyTree] | None = None, /, **more: PyTree) -> None:
        given = {} if branches is None else branches
        if not isinstance(given, Mapping):
            raise ValueError(f"the branches of a OneOf must have names, got {branches!r}")
        if clash := given.keys() & more.keys():
            raise ValueError(f"a branch of a OneOf must be given once, got {sorted(clash)} twice")
        self._branches = {**given, **more}
        if not self._branches:
            raise ValueError("a OneOf needs at least one branch, got none")
        for name in self._branches:
            if not isinstance(name, str) or not name:
                raise ValueError(f"the name of a branch must be a text, not empty, got {name!r}")
        self.which = Choice(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the branches."""
        return tuple(self._branches)

    def __getitem__(self, name: str) -> Any:
        """A branch's sub-space, or its values."""
        if name not in self._branches:
            raise KeyError(f"{name!r} is not one of the branches {self.names}")
        return self._branches[name]

    def switch(
        self, functions: Mapping[str, Callable[[HParams], Any]] | None = None, /, **more: Any
    ) -> Any:
        """Of several functions the chosen branch's one, applied to that branch's values.

        One training runs the chosen function alone; under ``vmap`` all are computed.

        Args:
            functions: ``(values) -> result`` for each branch by name; results have equal shapes.
            more: the same.

        Raises:
            ValueError: unless there is one function for every branch.
        """
        each = by_branch(self.names, {**(functions or {}), **more})
        index = jnp.clip(self.which, 0, len(each) - 1)
        cases = [_applied(function, name) for name, function in zip(self.names, each, strict=True)]
        results = [jax.eval_shape(case, self._branches) for case in cases]
        types = jax.tree.map(jnp.result_type, *results)  # 0 may stand for 0.0
        return jax.lax.switch(index, [_typed(case, types) for case in cases], self._branches)

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """As JAX asks for it: the choice, then the branches."""
        keyed = [
            (BranchKey(name, i), branch) for i, (name, branch) in enumerate(self._branches.items())
        ]
        return [(WhichKey(), self.which), *keyed], self.names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], children: Any) -> "OneOf":
        """As JAX asks for it."""
        made = object.__new__(cls)
        made.which, *branches = children
        made._branches = dict(zip(names, branches, strict=True))
        return made

    def __eq__(self, other: object) -> bool:
        """Whether choice and branches are equal, in the same order."""
        if not isinstance(other, OneOf):
            return NotImplemented
        return (self.names, self.which, self._branches) == (
            other.names,
            other.which,
            other._branches,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """With ``which`` where it is a value."""
        which = "" if isinstance(self.which, Choice) else f"which={self.which!r}, "
        return f"OneOf({which}{', '.join(f'{k}={v!r}' for k, v in self._branches.items())})"


class Branch(NamedTuple):
    """What was chosen of a ``OneOf``, on the host.

    ``name, values = hparams["model"]`` takes it apart.

    Attributes:
        name: of the branch.
        values: the branch's own hyperparameters.

    Example:
        >>> Branch("svm", {"C": 2.0}).switch(svm=lambda h: h["C"], naive=lambda h: 0.0)
        2.0
    """

    name: str
    values: HParams

    def switch(
        self, functions: Mapping[str, Callable[[HParams], Any]] | None = None, /, **more: Any
    ) -> Any:
        """As of a ``OneOf``, so that a function of hyperparameters serves in both places."""
        given = {**(functions or {}), **more}
        by_branch((self.name, *(name for name in given if name != self.name)), given)
        return given[self.name](self.values)


jax.tree_util.register_pytree_with_keys(
    Branch,
    lambda branch: (
        [(WhichKey(), branch.name), (BranchKey(branch.name, 0), branch.values)],
        None,
    ),
    lambda _, children: Branch(*children),
)


def by_branch(names: tuple[str, ...], given: Mapping[str, Any]) -> list[Any]:
    """What was given for each branch, in their order; refuses more and less."""
    if set(given) != set(names):
        raise ValueError(f"one function for each of the branches {names}, got {tuple(given)}")
    return [given[name] for name in names]


def _applied(function: Callable[[HParams], Any], name: str) -> Callable[[dict], Any]:
    return lambda branches: jax.tree.map(jnp.asarray, function(branches[name]))


def _typed(case: Callable[[dict], Any], types: Any) -> Callable[[dict], Any]:
    return lambda branches: jax.tree.map(jax.lax.convert_element_type, case(branches), types)


def chosen(hparams: PyTree) -> PyTree:
    """Concrete hyperparameters in which each ``OneOf`` is the ``Branch`` that was chosen.

    Values of several runs side by side, ``which`` an array, stay as they are.

    Example:
        >>> import jax.numpy as jnp, metahpo as mh
        >>> h = mh.space.decode(mh.OneOf(a={"x": mh.Int(0, 3)}, b={}), jnp.array([0.9, 0.0]))
        >>> chosen(h)
        Branch(name='b', values={})
    """

    def one(node: Any) -> Any:
        if not is_one_of(node) or np.ndim(node.which):
            return node
        name = node.which
        if not isinstance(name, str):
            name = node.names[min(max(int(name), 0), len(node.names) - 1)]
        return Branch(name, chosen(node[name]))

    return jax.tree.map(one, hparams, is_leaf=is_one_of)


def is_one_of(node: Any) -> bool:
    """Whether a node of a pytree is a ``OneOf``."""
    return isinstance(node, OneOf)
