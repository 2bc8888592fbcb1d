"""A strategy that begins with points that somebody else suggests."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import space as spaces
from metahpo.base import Evaluation, HParams, Key, Proposal, PyTree, Strategy


def as_points(space: spaces.Space, hints: list[HParams] | chex.Array) -> chex.Array:
    """``f[K, D]``: hints that are hyperparameters of a space in a list, or points already.

    Raises:
        ValueError: for hyperparameters or points that are not of this space.
    """
    if not hasattr(hints, "shape"):
        if not hints:
            raise ValueError("there must be at least one hint, got none")
        return jnp.stack([spaces.encode(space, hparams) for hparams in hints])
    shape = jnp.asarray(hints).shape
    if len(shape) != 2 or shape[1] != spaces.size(space):
        raise ValueError(
            f"hints must be points [K, {spaces.size(space)}] of this space, got the shape {shape}"
        )
    return jnp.asarray(hints)


class HintedState(NamedTuple):
    """The strategy's own state, and how many rounds it has been asked for."""

    strategy: PyTree
    asked: chex.Array


def hinted(strategy: Strategy, hints: chex.Array) -> Strategy:
    """The strategy with some of its first points in place of its own.

    Round after round the first members are evaluated at the hints, until all have been; the
    strategy is told the losses there, as if it had proposed the points.  Members that go on from a
    training, and idle ones, keep what the strategy says; a hint that no member can take is skipped.

    Args:
        strategy: any, of ``P`` members a round.
        hints: ``f[K, D]``, points of the unit cube, the most promising first; may be traced.

    Returns:
        A Strategy.

    Raises:
        ValueError: for points of another shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> strategy = hinted(mh.strategies.random(space, population=2), jnp.full((3, 1), 0.25))
        >>> result = mh.search(
        ...     jax.random.key(0), mh.problems.function(lambda h: h["x"]), space, strategy,
        ...     rounds=2, steps=1,
        ... )
        >>> result.history.loss[:, 0].tolist(), float(result.history.loss[0, 1])
        ([0.25, 0.25], 0.25)
    """
    hints = jnp.asarray(hints)
    if hints.ndim != 2 or not len(hints):
        raise ValueError(f"hints must be points [K, D] of the unit cube, got shape {hints.shape}")

    def init(key: Key) -> HintedState:
        return HintedState(strategy.init(key), jnp.zeros((), jnp.int32))

    def ask(key: Key, state: HintedState) -> tuple[Proposal, HintedState]:
        proposal, own = strategy.ask(key, state.strategy)
        size, columns = proposal.unit.shape
        if columns != hints.shape[1]:
            raise ValueError(f"hints must have {columns} columns, got shape {hints.shape}")
        number = state.asked * size + jnp.arange(size)
        free = (number < len(hints)) & (proposal.parent < 0) & (proposal.budget != 0)
        given = hints[jnp.minimum(number, len(hints) - 1)].astype(proposal.unit.dtype)
        given = jnp.where(jnp.isfinite(given), jnp.clip(given, 0.0, 1.0), proposal.unit)
        unit = jnp.where(free[:, None], given, proposal.unit)
        return proposal._replace(unit=unit), HintedState(own, state.asked + 1)

    def tell(
        key: Key, state: HintedState, proposal: Proposal, evaluation: Evaluation
    ) -> HintedState:
        return state._replace(strategy=strategy.tell(key, state.strategy, proposal, evaluation))

    def stop(state: HintedState) -> chex.Array:
        assert strategy.stop is not None
        return strategy.stop(state.strategy)

    return strategy._replace(
        init=init, ask=ask, tell=tell, stop=None if strategy.stop is None else stop
    )
