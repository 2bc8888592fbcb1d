"""A static look at a problem before it is run: hyperparameters that would be ignored in silence."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from metahpo import space as spaces
from metahpo.base import Problem, Task


def look(problem: Problem, space: spaces.Space, task: Task) -> None:
    """Traces the problem's functions once and reads the programs.

    Args:
        problem: the training process.
        space: what is tuned.
        task: what it is tuned on.

    Raises:
        ValueError: if a choice is compared with text: inside a program it is the index of its
            value, so the comparison is false whatever the choice.

    Warns:
        UserWarning: for each hyperparameter that neither ``init`` nor ``step`` nor ``loss`` reads.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    unit = jax.ShapeDtypeStruct((spaces.size(space),), jnp.float32)
    hparams = jax.eval_shape(lambda unit: spaces.decode(space, unit), unit)
    task = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, task))
    with _compared_with_text() as compared:
        state = jax.eval_shape(problem.init, key, hparams, task)
        read = _read(problem.init, key, hparams, task)
        read |= _read(problem.step, key, hparams, task, state)
        read |= _read(problem.loss, key, hparams, task, state)
    if compared:
        raise ValueError(
            "inside a program a Choice is the index of its value, so comparing it with "
            f"{compared[0]!r} is false whatever the choice: compare it with the index, or use "
            "jax.lax.switch or mh.choose"
        )
    leaves = zip(spaces.names(space), jax.tree.leaves(space), strict=True)
    unread = [
        name
        for i, (name, leaf) in enumerate(leaves)
        if i not in read and not isinstance(leaf, spaces.Constant)
    ]
    if unread:
        warnings.warn(
            f"nothing in the problem reads {', '.join(unread)}: whatever the search finds for it "
            "has no effect",
            stacklevel=2,
        )


def _read(function: Any, key: Any, hparams: Any, *rest: Any) -> set[int]:
    """The numbers of the leaves of ``hparams`` that its results depend on."""
    jaxpr = jax.make_jaxpr(function)(key, hparams, *rest).jaxpr
    count = len(jax.tree.leaves(hparams))
    live = _live(jaxpr)
    return {i for i, var in enumerate(jaxpr.invars[1 : 1 + count]) if var in live}


def _live(jaxpr: core.Jaxpr) -> set[core.Var]:
    """What the results depend on, or whatever else the program does."""
    live = {var for var in jaxpr.outvars if isinstance(var, core.Var)}
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not live.isdisjoint(eqn.outvars):
            live.update(var for var in eqn.invars if isinstance(var, core.Var))
    return live


@contextlib.contextmanager
def _compared_with_text() -> Iterator[list[str]]:
    """What traced numbers are compared with, of which JAX says nothing: they are never equal."""
    found: list[str] = []
    tracer: Any = jax.core.Tracer
    plain = {name: getattr(tracer, name) for name in ("__eq__", "__ne__")}

    def watched(name: str) -> Any:
        def compare(self: Any, other: Any) -> Any:
            if isinstance(other, str):
                found.append(other)
            return plain[name](self, other)

        return compare

    for name in plain:
        setattr(tracer, name, watched(name))
    try:
        yield found
    finally:
        for name, method in plain.items():
            setattr(tracer, name, method)
