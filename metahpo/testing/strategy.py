"""What every strategy must be able to do."""

import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import problems, strategies
from metahpo.base import FULL_BUDGET, Evaluation, HParams, Key, Strategy
from metahpo.run.records import SearchHistory, SearchResult
from metahpo.run.search import search
from metahpo.space import Choice, Float, Int, Space, encode, size
from metahpo.testing.rules import require, same

MIXED = {
    "x": Float(-1.0, 1.0),
    "rate": Float(1e-4, 1.0, log=True),
    "width": Int(1, 9),
    "kind": Choice(("a", "b", "c")),
}
"""A space of every kind of dimension."""

Make = Callable[[Space, int], Strategy]


def check_strategy(
    make: Make,
    *,
    population: int = 12,
    rounds: int = 12,
    space: Space = MIXED,
    seeds: int = 100,
    beats_random: bool = True,
) -> None:
    """Checks a strategy of your own as our own ones are checked.

    That proposals have the shapes and types of the protocol in float32 and float64; that the state
    keeps its shapes; that it runs under ``jit``, ``vmap`` and ``scan``, a lane of many as if it
    were alone; that points stay in the cube and parents are members; that the same key gives the
    same history and another key another; that losses which are not finite, in half of the cube,
    are survived; and that it finds lower losses than random search.

    Args:
        make: ``(space, population) -> Strategy``.
        population: members to make it with.
        rounds: of each run.
        space: to make it for.
        seeds: runs of each comparison with random search.
        beats_random: whether it must (a one-sided sign test, p < 1e-3).

    Raises:
        AssertionError: names the rule that is broken.

    Example:
        >>> import metahpo as mh
        >>> check_strategy(mh.strategies.differential_evolution)
    """
    for x64 in (False, True):
        with jax.enable_x64(x64):
            check_protocol(make(space, population), population, size(space))
    strategy = make(space, population)
    run = jax.jit(jax.vmap(_searched(strategy, space, rounds, rough=True)))
    keys = jax.random.split(jax.random.key(0), 8)
    result = jax.block_until_ready(run(keys))
    check_history(result.history, population)
    require(
        bool(np.isfinite(result.best_loss).all()),
        "a search survives losses that are not finite: half of the cube has none, and some run "
        "found nothing else",
    )
    same(run(keys), result, "the same key gives the same history")
    units = np.asarray(result.history.unit)
    require(
        any(not np.array_equal(units[0], unit) for unit in units[1:]) or not beats_random,
        "another key gives another history",
    )
    alone = jax.jit(_searched(strategy, space, rounds, rough=True))(keys[3])
    # Two programs may round differently, which a search amplifies: the first points are equal.
    require(
        bool(np.allclose(alone.history.unit[0], units[3, 0], atol=1e-4)),
        "a lane under vmap proposes what a run alone proposes",
    )
    if beats_random:
        _check_beats_random(make, population, rounds, space, seeds)


def check_protocol(strategy: Strategy, population: int, dimensions: int) -> None:
    """Checks the shapes and types of proposals and of the state, in the default float type.

    Raises:
        AssertionError: names the rule that is broken.
    """
    require(isinstance(strategy, Strategy), f"it makes an mh.Strategy, got {strategy!r}")
    key = jax.random.key(0)
    state = jax.eval_shape(strategy.init, key)
    proposal, asked = jax.eval_shape(strategy.ask, key, state)
    floats = jnp.result_type(float)
    shape = (population, dimensions)
    require(proposal.unit.shape == shape, f"unit has shape {shape}, got {proposal.unit.shape}")
    require(proposal.unit.dtype == floats, f"unit is {floats}, got {proposal.unit.dtype}")
    for name in ("parent", "budget"):
        array = getattr(proposal, name)
        require(
            array.shape == (population,) and jnp.issubdtype(array.dtype, jnp.integer),
            f"{name} is whole numbers [{population}], got {array.dtype}{list(array.shape)}",
        )
    _same_shapes(asked, state, "ask keeps the shapes and types of the state")
    evaluation = _evaluation(strategy, population, dimensions)
    told = jax.eval_shape(strategy.tell, key, asked, proposal, evaluation)
    _same_shapes(told, state, "tell keeps the shapes and types of the state")


def _evaluation(strategy: Strategy, population: int, dimensions: int) -> Evaluation:
    floats = jnp.result_type(float)
    grad = (
        jax.ShapeDtypeStruct((population, dimensions), floats) if strategy.needs.gradients else None
    )
    return Evaluation(
        jax.ShapeDtypeStruct((population,), floats),
        grad,
        jax.ShapeDtypeStruct((population,), jnp.int32),
    )


def _same_shapes(new: Any, old: Any, rule: str) -> None:
    def said(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)

    require(said(new) == said(old), f"{rule}: {said(old)} became {said(new)}")


def _searched(
    strategy: Strategy, space: Space, rounds: int, rough: bool
) -> Callable[[Key], SearchResult]:
    """A run on a bowl over the unit cube, whose bottom is at 0.3 in every coordinate."""

    def bowl(hparams: HParams) -> chex.Array:
        unit = encode(space, hparams)
        loss = ((unit - 0.3) ** 2).sum()
        return jnp.where(unit[0] > 0.5, jnp.nan, loss) if rough else loss

    problem = problems.function(bowl)

    def run(key: Key) -> SearchResult:
        steps = strategy.needs.steps
        return search(key, problem, space, strategy, rounds=rounds, steps=steps)

    return run


def check_history(history: SearchHistory, population: int) -> None:
    """Checks that points stay in the cube, and that parents and budgets are what they may be.

    Args:
        history: of one run, or of many with leading axes.
        population: its members.

    Raises:
        AssertionError: names the rule that is broken.
    """
    unit, parent, budget = (np.asarray(x) for x in (history.unit, history.parent, history.budget))
    inside = bool(((unit >= 0) & (unit <= 1)).all())
    require(inside, f"points stay in [0, 1], got {unit.min()} to {unit.max()}")
    require(
        bool(((parent >= -1) & (parent < population)).all()),
        f"parents are members or -1, got {parent.min()} to {parent.max()}",
    )
    require(
        bool((parent[..., 0, :] == -1).all()),
        "nobody has a parent in the first round: all are -1 there",
    )
    require(bool(((budget >= 0) & (budget <= FULL_BUDGET)).all()), "budgets are not negative")


def _check_beats_random(make: Make, population: int, rounds: int, space: Space, seeds: int) -> None:
    keys = jax.random.split(jax.random.key(1), seeds)
    made = {"it": make(space, population), "random": strategies.random(space, population)}
    lowest = {
        name: np.asarray(jax.jit(jax.vmap(_searched(one, space, rounds, False)))(keys).best_loss)
        for name, one in made.items()
    }
    wins = int((lowest["it"] < lowest["random"]).sum())
    # The chance of so many wins if each were the toss of a coin.
    chance = sum(math.comb(seeds, k) for k in range(wins, seeds + 1)) / 2**seeds
    require(
        chance < 1e-3,
        f"it finds lower losses than random search: {wins} of {seeds} times on a bowl "
        "(beats_random=False leaves this out)",
    )
