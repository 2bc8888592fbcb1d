"""Population based training."""

from collections.abc import Collection
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Needs, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.along_training.exploit_explore import adapted, explorer, selector

SMALLEST_POPULATION = 2  # a winner and a loser


class PBTState(NamedTuple):
    """What the next round proposes."""

    unit: chex.Array  # f[P, D]
    parent: chex.Array  # i32[P]
    scale: chex.Array  # f[]: of moves and draws, 1 at first


def pbt(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    selection: str = "truncation",
    truncation: float = 0.25,
    resample_probability: chex.Numeric = 0.25,
    perturbation: chex.Numeric = 0.1,
    factors: tuple[float, float] | None = None,
    adaptive: bool = True,
    frozen: Collection[str] = (),
) -> Strategy:
    """Population based training (Jaderberg et al. 2017, sections 3 and 4.1.1).

    The members train on from round to round.  After a round some of them *exploit*: copy the
    training state and the hyperparameters of a better member.  They then *explore*: every
    coordinate by itself is drawn anew with probability ``resample_probability`` and else moved up
    or down.  The others go on unchanged.  A member whose loss is not finite always exploits, and
    when no loss is finite all start again.

    Losers of one winner never become clones of each other: the length of a move is random, uniform
    between half of ``perturbation`` and one and a half times as much, and a move beyond a bound is
    reflected.  One round is one interval between exploitations, so the run's ``steps`` are the
    paper's "ready" interval.

    Moves of one length find good hyperparameters but never the best: with ``adaptive`` the moves
    get shorter, and draws rarer, while fewer than one in five changed copies beat their parent,
    which trained on from the same state (Rechenberg 1973), and recover when more do.  In the few
    rounds of a usual training this changes little.

    Args:
        space: the search space.
        population: members, ``P``, at least 2.
        initial: first members: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; the rest is uniform.  May be traced.
        selection: ``"truncation"``: the worst share copies random members of the best share;
            ``"tournament"``: everyone meets a random other member and copies it if that one is
            better, so about half of all explore in every round.
        truncation: the share of winners and of losers, in (0, 1/2]; at least one member each.
        resample_probability: in [0, 1], for every coordinate of a loser.
        perturbation: mean length of a move in the unit cube, in (0, 1/2].  An ``Int`` moves by half
            of its cell at least, so that it can change.  A ``Choice`` changes only by being drawn
            anew.
        factors: ``(down, up)``, such as the paper's ``(0.8, 1.2)``: instead, the value itself is
            multiplied by one of them to a power of U(1/2, 3/2).  On a logarithmic scale that is a
            move in the unit cube of the mean length ``log(factor) / log(high / low)``, the same
            everywhere; on a linear one small values move less than large ones.  A range that
            contains 0 goes on with ``perturbation``.
        adaptive: whether the lengths of moves follow their success.
        frozen: names of dimensions that a loser inherits as they are, for example of those that
            shape the training state.

    Returns:
        A Strategy.

    Raises:
        ValueError: if ``population < 2``, a probability, share or factor is out of range,
            ``selection`` or a name in ``frozen`` is unknown, or ``initial`` has a wrong shape.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"lr": mh.Float(1e-3, 1.0, log=True)}
        >>> strategy = pbt(space, population=8)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.parent.tolist()  # the first round trains from scratch
        [-1, -1, -1, -1, -1, -1, -1, -1]
    """
    population = parts.check_population("pbt", population, SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    exploit = selector(selection, population, truncation)
    explore = explorer(space, resample_probability, perturbation, factors, frozen)
    size = spaces.size(space)

    def init(key: Key) -> PBTState:
        unit = parts.starting_points(key, space, population, initial)
        return PBTState(unit, jnp.full(population, -1, jnp.int32), jnp.ones((), unit.dtype))

    def ask(key: Key, state: PBTState) -> tuple[Proposal, PBTState]:
        del key
        return parts.proposal(state.unit, state.parent), state

    def tell(key: Key, state: PBTState, proposal: Proposal, evaluation: Evaluation) -> PBTState:
        exploit_key, explore_key, restart_key = jax.random.split(key, 3)
        loss = parts.finite_loss(evaluation, proposal.unit)
        scale = adapted(state.scale, loss, proposal.parent, size) if adaptive else state.scale
        source = exploit(exploit_key, loss)
        copied = (source != jnp.arange(population))[:, None]
        unit = proposal.unit[source]
        unit = jnp.where(copied, explore(explore_key, unit, scale), unit)
        # Nobody is worth copying when every loss is infinite: all start again.
        lost = jnp.isinf(loss).all()
        unit = jnp.where(lost, parts.uniform(restart_key, space, population), unit)
        return PBTState(unit, jnp.where(lost, -1, source), scale)

    return Strategy(init, ask, tell, Needs(budgets=False), space=space)
