"""Hypergradient descent from many starts."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, PyTree, Strategy
from metahpo.space import Space
from metahpo.strategies import parts


class HypergradientState(NamedTuple):
    """What the next round proposes, and each member's way there."""

    unit: chex.Array  # f[P, D]
    last: chex.Array  # f[P, D]: the last point whose loss was finite
    known: chex.Array  # bool[P]: whether there is one
    optimizer: PyTree  # leaves [P, ...]


def hypergradient(
    space: Space,
    population: int,
    optimizer: optax.GradientTransformation | None = None,
    initial: parts.Initial | None = None,
) -> Strategy:
    """Projected gradient descent in the unit cube from ``population`` starts.

    Every member has an optimiser state of its own, so a member with huge gradients does not slow
    the others down.  After each step its coordinates are clipped to [0, 1].  Integers and choices
    have no gradient: each member keeps those that it started with.

    A member whose loss was not finite takes no step: it goes half the way back to its last point
    with a finite loss, or starts again from a uniform point if it never had one.

    Args:
        space: the search space, with a ``Float`` at least.
        population: number of starts, ``P``.
        optimizer: any optax optimiser that needs no more than gradients; its steps are lengths in
            the unit cube.  ``default_optimizer()`` when ``None``.
        initial: first starts: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.

    Returns:
        A Strategy that needs gradients.

    Raises:
        ValueError: if ``population`` is not a whole number of at least 1, the space has no
            ``Float``, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: (h["x"] - 0.3) ** 2), space,
        ...     hypergradient(space, population=2), rounds=20, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-4)
        True
    """
    population = parts.check_population("hypergradient", population)
    initial = parts.check_initial(space, population, initial)
    continuous = spaces.is_continuous(space)
    if not continuous.any():
        raise ValueError(f"hypergradient needs a Float, got {spaces.dimensions(space)}")
    descent = default_optimizer() if optimizer is None else optimizer
    checks.record("optimizer", descent, optax.GradientTransformation, "a function of optax")

    def init(key: Key) -> HypergradientState:
        unit = parts.starting_points(key, space, population, initial)
        known = jnp.zeros(population, bool)
        return HypergradientState(unit, unit, known, jax.vmap(descent.init)(unit))

    def ask(key: Key, state: HypergradientState) -> tuple[Proposal, HypergradientState]:
        del key
        return parts.proposal(state.unit), state

    def tell(
        key: Key, state: HypergradientState, proposal: Proposal, evaluation: Evaluation
    ) -> HypergradientState:
        unit = proposal.unit
        good = jnp.isfinite(parts.finite_loss(evaluation, unit))
        grad = jnp.where(continuous, evaluation.grad.astype(unit.dtype), 0.0)  # type: ignore[union-attr]
        updates, memory = jax.vmap(descent.update)(grad, state.optimizer, unit)
        stepped = jnp.clip(unit + jnp.where(continuous, updates, 0.0), 0.0, 1.0)
        back = jnp.where(
            state.known[:, None], (unit + state.last) / 2, parts.uniform(key, space, population)
        )
        return HypergradientState(
            unit=_where(good, stepped, back),
            last=_where(good, unit, state.last),
            known=good | state.known,
            optimizer=jax.tree.map(lambda a, b: _where(good, a, b), memory, state.optimizer),
        )

    return Strategy(init, ask, tell, parts.SCRATCH._replace(gradients=True), space=space)


def default_optimizer() -> optax.GradientTransformation:
    """Adam on scaled gradients: short memory, steps of ``0.2 / (1 + t / 5)`` in the unit cube.

    A search has tens of rounds, not thousands: the usual decay rates 0.9 and 0.999 would average
    over all of it.  The gradient of a training that nearly diverges is larger by many orders of
    magnitude than the next one, and Adam's second moment would not forget it for hundreds of
    rounds; so each gradient is first divided by its largest coordinate.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = default_optimizer()
        >>> updates, _ = optimizer.update(jnp.array([1e30, -1e29]), optimizer.init(jnp.zeros(2)))
        >>> [round(float(u), 3) for u in updates]
        [-0.2, 0.2]
    """
    return optax.chain(
        optax.stateless(lambda grad, _: jax.tree.map(_scaled, grad)),
        optax.adam(lambda count: 0.2 / (1 + count / 5), b1=0.5, b2=0.9),
    )


def _scaled(grad: chex.Array) -> chex.Array:
    """Divided by the largest absolute coordinate, which cannot overflow as a norm can."""
    return grad / jnp.maximum(jnp.abs(grad).max(), jnp.finfo(grad.dtype).tiny)


def _where(condition: chex.Array, yes: chex.Array, no: chex.Array) -> chex.Array:
    """``jnp.where`` by member."""
    return jnp.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
