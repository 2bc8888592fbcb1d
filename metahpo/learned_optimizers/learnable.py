"""The first rung: the numbers of any optax optimiser, learned."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Params, PyTree
from metahpo.learned_optimizers.update_rule import UpdateRule, update_rule
from metahpo.links import Link, log, logit

LINKS: dict[str, Link] = {
    **dict.fromkeys(("learning_rate", "eps", "eps_root", "weight_decay"), log),
    **dict.fromkeys(("b1", "b2", "b3", "momentum", "decay"), logit(0.0, 1.0)),
}
"""What keeps the arguments of optax's optimisers in their ranges, by their names."""

PER = ("all", "layer", "parameter")

Number: TypeAlias = float | chex.Array


def learnable(
    make: Callable[..., optax.GradientTransformation],
    numbers: Mapping[str, Number],
    *,
    per: Mapping[str, str] | None = None,
    like: Params | None = None,
    links: Mapping[str, Link] | None = None,
) -> UpdateRule:
    """Any optax optimiser with some of its numbers to learn.

    The weights are unconstrained, so that a gradient step never makes a rate negative or a
    momentum 1: ``learned_numbers`` gives the numbers that they stand for.

    Args:
        make: ``(**numbers) -> optax.GradientTransformation``, such as ``optax.adam``.  What is not
            learned is bound before, as in ``functools.partial(optax.adamw, weight_decay=0.1)``.
        numbers: where learning starts, by argument name.
        per: what has a number of its own, by argument name: ``"all"`` together (the default), each
            ``"layer"`` (leaf of the parameters), or each ``"parameter"``.  With the latter two
            every leaf has an optimiser of its own, so a ``make`` that looks at all gradients
            together, as a clipped norm does, sees one leaf.
        like: the parameters, or their shapes, where ``per`` asks for more than one number.
        links: by argument name, where ``LINKS`` does not say what the range is.

    Returns:
        An UpdateRule with weights ``{name: f[]}``, or ``{name: a pytree like the parameters}`` of
        scalars per layer and of arrays per parameter.  ``init`` does not depend on its key.

    Raises:
        ValueError: for no numbers, a number without a link or outside of its range, an unknown
            word in ``per``, or ``per`` without ``like``.

    Example:
        >>> import metahpo as mh
        >>> rule = learnable(optax.adam, {"learning_rate": 0.1, "b1": 0.9})
        >>> weights = rule.init(jax.random.key(0))
        >>> {name: round(float(x), 3) for name, x in weights.items()}
        {'b1': 2.197, 'learning_rate': -2.303}
        >>> optimizer, params = rule.transform(weights), jnp.array([1.0, -2.0])
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]
        [-0.1, 0.1]
    """
    own = links_of(numbers, links)
    _unconstrained(own, dict(numbers))  # refuses now what is out of its range
    checks.function("make", make, "(**numbers) -> optax.GradientTransformation", **numbers)
    per = {} if per is None else dict(per)
    _check_per(numbers, per, like)
    shared = all(word == "all" for word in per.values())

    def init(key: Key) -> dict[str, PyTree]:
        del key
        values = {name: _spread(numbers[name], per.get(name, "all"), like) for name in own}
        return _unconstrained(own, values)

    def transform(weights: dict[str, PyTree]) -> optax.GradientTransformation:
        values = learned_numbers(weights, links)
        if shared:
            return make(**values)
        return _leaf_by_leaf(make, values, per)

    return update_rule("a learnable optimiser", init, transform)


def learned_numbers(
    weights: Mapping[str, PyTree], links: Mapping[str, Link] | None = None
) -> dict[str, PyTree]:
    """The numbers that the weights of ``learnable`` stand for, as optax takes them.

    Args:
        weights: unconstrained, by argument name.
        links: as for ``learnable``.

    Example:
        >>> {name: float(x) for name, x in learned_numbers({"b1": jnp.zeros(())}).items()}
        {'b1': 0.5}
    """
    own = links_of(weights, links)
    return {name: jax.tree.map(own[name].constrain, part) for name, part in weights.items()}


def links_of(names: Mapping[str, Any], given: Mapping[str, Link] | None) -> dict[str, Link]:
    """The link of every name, in alphabetical order as in a pytree.

    Raises:
        ValueError: for no name, or one of which nothing is known.
    """
    if not names:
        raise ValueError("numbers to learn must be named, got none")
    known = LINKS | dict(given or {})
    for name in names:
        if name not in known:
            raise ValueError(f"links must say the range of {name!r}, known are {sorted(known)}")
    return {name: known[name] for name in sorted(names)}


def _unconstrained(own: Mapping[str, Link], values: Mapping[str, PyTree]) -> dict[str, PyTree]:
    found = {}
    for name, value in values.items():
        try:
            found[name] = jax.tree.map(lambda x, link=own[name]: link.unconstrain(x), value)
        except ValueError as error:
            raise ValueError(f"{name} is out of its range: {error}") from error
    return found


def _spread(number: Number, word: str, like: Params | None) -> PyTree:
    """A number for all, for each leaf, or for each entry of it."""
    value = jnp.asarray(number, jnp.result_type(float))
    if word == "all":
        return value
    shape = (lambda leaf: jnp.shape(leaf)) if word == "parameter" else (lambda leaf: ())
    return jax.tree.map(lambda leaf: jnp.broadcast_to(value, shape(leaf)), like)


def _leaf_by_leaf(
    make: Callable[..., optax.GradientTransformation],
    values: Mapping[str, PyTree],
    per: Mapping[str, str],
) -> optax.GradientTransformation:
    """An optimiser for every leaf, with the numbers of that leaf."""

    def optimizers(params: Params) -> list[optax.GradientTransformationExtraArgs]:
        count = len(jax.tree.leaves(params))
        columns = {}
        for name, value in values.items():
            if per.get(name, "all") == "all":
                columns[name] = [value] * count
                continue
            if per[name] == "parameter":
                checks.alike(f"the numbers {name!r}", value, params)
            columns[name] = jax.tree.leaves(value)
            if len(columns[name]) != count:
                raise ValueError(
                    f"{name!r} is learned for {len(columns[name])} layers, got {count}"
                )
        return [
            optax.with_extra_args_support(make(**{name: x[i] for name, x in columns.items()}))
            for i in range(count)
        ]

    def init(params: Params) -> tuple[PyTree, ...]:
        pairs = zip(optimizers(params), jax.tree.leaves(params), strict=True)
        return tuple(optimizer.init(leaf) for optimizer, leaf in pairs)

    def update(
        grads: Params, state: tuple[PyTree, ...], params: Params, **extra: Any
    ) -> tuple[Params, tuple[PyTree, ...]]:
        leaves, treedef = jax.tree.flatten(grads)
        each = zip(optimizers(params), leaves, state, jax.tree.leaves(params), strict=True)
        pairs = [optimizer.update(g, s, p, **extra) for optimizer, g, s, p in each]
        updates, states = zip(*pairs, strict=True)
        return jax.tree.unflatten(treedef, updates), states

    return optax.GradientTransformationExtraArgs(init, update)


def _check_per(numbers: Mapping[str, Number], per: Mapping[str, str], like: Params | None) -> None:
    for name, word in per.items():
        if name not in numbers:
            raise ValueError(f"per names {name!r}, which is not learned: {sorted(numbers)}")
        checks.one_of(f"per[{name!r}]", word, PER)
        if word != "all" and like is None:
            raise ValueError(f"a number per {word} needs like=, the parameters or their shapes")
