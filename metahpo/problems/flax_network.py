"""A flax linen module as a network that trains with random numbers and judges without."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
from flax import linen
from flax.errors import InvalidRngError

from metahpo.base import Key, Network, Params

_JUDGING = {"train": False, "training": False, "is_training": False, "deterministic": True}


def flax_network(
    module: linen.Module,
    train: Mapping[str, Any] | None,
    evaluate: Mapping[str, Any] | None,
    rngs: Sequence[str],
) -> Network:
    """A module of which nothing but the parameters has a gradient, so that nothing else moves.

    Args:
        module: called with inputs ``x``.
        train: fields or arguments of its call in updates.
        evaluate: those when it judges; ``None`` finds out.
        rngs: names of its random streams.

    Raises:
        ValueError: when called, if it draws random numbers when it judges.
    """

    def apply(variables: Params, x: chex.Array) -> chex.Array:
        variables = _constant_but_params(variables)
        try:
            return _called(module, evaluate or {}, variables, x)
        except InvalidRngError as error:
            judging = _known_switches(module) if evaluate is None else {}
            if not judging:
                raise ValueError(_RULE.format(evaluate=evaluate)) from error
        try:
            return _called(module, judging, variables, x)
        except InvalidRngError as error:
            raise ValueError(_RULE.format(evaluate=judging)) from error

    def update(variables: Params, x: chex.Array, key: Key) -> chex.Array:
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(rngs)}
        variables = _constant_but_params(variables)
        others = [name for name in variables if name != "params"]
        if not others:
            return _called(module, train or {}, variables, x, rngs=keys)
        return _called(module, train or {}, variables, x, rngs=keys, mutable=others)[0]

    if not (begun := train or evaluate):
        return Network(module.init, apply, update)

    def init(key: Key, x: chex.Array) -> Params:
        chosen, arguments = _set(module, begun)
        return chosen.init({name: key for name in ("params", *rngs)}, x, **arguments)

    return Network(init, apply, update)


_RULE = (
    "the network must not draw random numbers when it is judged or predicts, and does with "
    "evaluate={evaluate}: say how it is called then, such as evaluate={{'train': False}}"
)


def _called(
    module: linen.Module, settings: Mapping[str, Any], variables: Params, x: chex.Array, **how: Any
) -> Any:
    chosen, arguments = _set(module, settings)
    return chosen.apply(variables, x, **arguments, **how)


def _set(module: linen.Module, settings: Mapping[str, Any]) -> tuple[linen.Module, dict[str, Any]]:
    """The module with the settings that are its fields, and the arguments of its call."""
    fields = {name: value for name, value in settings.items() if _is_field(module, name)}
    arguments = {name: value for name, value in settings.items() if name not in fields}
    return (module.clone(**fields) if fields else module), arguments


def _known_switches(module: linen.Module) -> dict[str, Any]:
    arguments = inspect.signature(type(module).__call__).parameters
    return {
        name: value
        for name, value in _JUDGING.items()
        if _is_field(module, name) or name in arguments
    }


def _is_field(module: linen.Module, name: str) -> bool:
    return name in type(module).__dataclass_fields__


def _constant_but_params(variables: Params) -> Params:
    if not (isinstance(variables, Mapping) and "params" in variables):
        return variables
    return {
        name: part if name == "params" else jax.lax.stop_gradient(part)
        for name, part in variables.items()
    }
