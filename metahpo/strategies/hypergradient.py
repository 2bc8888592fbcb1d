"""Hypergradient descent from many starts."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, PyTree, Strategy
from metahpo.space import Space
from metahpo.strategies import parts


class HypergradientState(NamedTuple):
    """The points and one optimiser state for each."""

    unit: chex.Array  # f[P, D]
    optimizer: PyTree  # leaves [P, ...]


def hypergradient(
    space: Space,
    population: int,
    optimizer: optax.GradientTransformation | None = None,
    initial: chex.Array | None = None,
) -> Strategy:
    """Projected gradient descent in the unit cube from ``population`` starts.
    """
    parts.check_population("hypergradient", population)
    parts.check_initial(space, population, initial)
    continuous = spaces.is_continuous(space)
    if not continuous.any():
        raise ValueError(
            f"hypergradient needs a Float, the space has only {spaces.dimensions(space)}"
        )
    descent = optax.adam(0.1) if optimizer is None else optimizer

    def init(key: Key) -> HypergradientState:
        unit = parts.starting_points(key, space, population, initial)
        return HypergradientState(unit, jax.vmap(descent.init)(unit))

    def ask(key: Key, state: HypergradientState) -> tuple[Proposal, HypergradientState]:
        del key
        return parts.proposal(state.unit), state

    def tell(
        key: Key, state: HypergradientState, proposal: Proposal, evaluation: Evaluation
    ) -> HypergradientState:
        del key
        grad = jnp.where(continuous, evaluation.grad.astype(proposal.unit.dtype), 0.0)
        updates, memory = jax.vmap(descent.update)(grad, state.optimizer, proposal.unit)
        unit = jnp.clip(proposal.unit + jnp.where(continuous, updates, 0.0), 0.0, 1.0)
        return HypergradientState(unit, memory)

    return Strategy(init, ask, tell, needs_grad=True)
