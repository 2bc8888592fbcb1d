"""The generational scheme of evolutionary algorithms, assembled from named operators."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Evaluation, Key, Proposal, StopReason, Strategy
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.genetic_algorithms.crossover import Crossover
from metahpo.strategies.genetic_algorithms.mutation import Mutation
from metahpo.strategies.genetic_algorithms.replacement import Members, Replacement, best
from metahpo.strategies.genetic_algorithms.selection import Selection

SMALLEST_POPULATION = 2  # a pair of children


class GenerationalState(NamedTuple):
    """The living and the next children."""

    members: Members  # [M]: M is what the replacement keeps; infinite losses before the first round
    children: chex.Array  # f[P D]: the next proposal, flat, which is twice as fast to compute
    started: chex.Array  # bool[]: whether a round has been told


def generational(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    select: Selection,
    cross: Crossover,
    mutate: Mutation,
    replace: Replacement,
) -> Strategy:
    """Initialise, evaluate, and then: select, cross over, mutate, evaluate, replace.

    The operators are those of ``strategies.selection``, ``.crossover``, ``.mutation`` and
    ``.replacement``, or functions of your own with the same arguments.  In the first round every
    member is drawn uniformly and evaluated, and of these the best live on, as many as the
    replacement keeps.  In every later round parents are selected in pairs; a pair has two children;
    an odd population drops the last one.

    Args:
        space: the search space.
        population: children of a round, ``P``, at least 2.
        initial: first members: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``, ``K <= P``; may be traced.
        select: ``(key, loss f[M], count) -> i32[count]``.
        cross: ``(key, parents f[2, N, D]) -> children f[2, N, D]``.
        mutate: ``(key, f[P, D]) -> f[P, D]``; what leaves the cube is clipped.
        replace: ``(key, old Members, new Members) -> Members``.

    Returns:
        A Strategy; it says that it collapsed when all members are the same point.

    Raises:
        ValueError: if ``population < 2``, ``initial`` does not fit, or the replacement is to keep
            more members than there are.

    Example:
        >>> import jax, metahpo as mh
        >>> from metahpo.strategies import crossover, mutation, replacement, selection
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> strategy = generational(
        ...     space, population=8, select=selection.tournament(3), cross=crossover.sbx(space),
        ...     mutate=mutation.gaussian(space, sigma=0.05), replace=replacement.generational(),
        ... )
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, strategy, rounds=20, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-2)
        True
    """
    population = parts.check_population("the generational scheme", population, SMALLEST_POPULATION)
    initial = parts.check_initial(space, population, initial)
    checks.function("select", select, "(key, loss, count) -> indices", *range(3))
    checks.function("cross", cross, "(key, parents) -> children", *range(2))
    checks.function("mutate", mutate, "(key, unit) -> unit", *range(2))
    checks.function("replace", replace, "(key, old, new) -> members", *range(3))
    kept = _survivors(replace, population)

    def init(key: Key) -> GenerationalState:
        unit = parts.starting_points(key, space, population, initial)
        members = Members(unit[:kept], jnp.full(kept, jnp.inf, unit.dtype))
        return GenerationalState(members, unit.ravel(), jnp.zeros((), bool))

    def ask(key: Key, state: GenerationalState) -> tuple[Proposal, GenerationalState]:
        del key
        return parts.proposal(state.children.reshape(population, -1)), state

    def tell(
        key: Key, state: GenerationalState, proposal: Proposal, evaluation: Evaluation
    ) -> GenerationalState:
        replace_key, breed_key = jax.random.split(key)
        told = Members(proposal.unit, parts.finite_loss(evaluation, proposal.unit))
        members = jax.lax.cond(
            state.started,
            lambda: replace(replace_key, state.members, told),
            lambda: told if kept == population else best(told, kept),
        )
        children = breed(breed_key, members, population, select, cross, mutate)
        return GenerationalState(members, children.ravel(), jnp.ones((), bool))

    return Strategy(init, ask, tell, parts.SCRATCH, collapsed, space=space)


def breed(
    key: Key, members: Members, count: int, select: Selection, cross: Crossover, mutate: Mutation
) -> chex.Array:
    """``f[count, D]``: children of selected pairs, mutated."""
    select_key, cross_key, mutate_key = jax.random.split(key, 3)
    pairs = (count + 1) // 2
    parents = members.unit[select(select_key, members.loss, 2 * pairs)]
    children = cross(cross_key, parents.reshape(2, pairs, -1))
    children = children.reshape(2 * pairs, -1)[:count]
    return jnp.clip(mutate(mutate_key, children), 0.0, 1.0)


def collapsed(state: GenerationalState) -> chex.Array:
    """``COLLAPSE`` when no coordinate differs between members by more than its rounding."""
    unit = state.members.unit
    alike = (unit.max(axis=0) - unit.min(axis=0) <= 2 * jnp.finfo(unit.dtype).eps).all()
    return jnp.where(state.started & alike, StopReason.COLLAPSE, StopReason.RUNNING).astype(
        jnp.int32
    )


def _survivors(replace: Replacement, population: int) -> int:
    """How many members the replacement keeps of ``population`` new ones."""

    def of(old: int) -> int:
        shape = jax.ShapeDtypeStruct
        old_members, new_members = (
            Members(shape((n, 1), jnp.result_type(float)), shape((n,), jnp.result_type(float)))
            for n in (old, population)
        )
        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.eval_shape(replace, key, old_members, new_members).loss.shape[0]

    kept = of(population)
    if of(kept) != kept:
        raise ValueError("how many members a replacement keeps must depend on the new ones alone")
    return kept
