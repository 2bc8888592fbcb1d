"""CMA-ES: evolution with a normal distribution that learns its covariance."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.lanes import when
from metahpo.space import Space
from metahpo.strategies import margin, parts, search_distribution
from metahpo.strategies.cma import box, categories, stopping, update
from metahpo.strategies.cma.categories import Categorical
from metahpo.strategies.cma.stopping import Progress
from metahpo.strategies.cma.update import Normal


class CMAState(NamedTuple):
    """The search distribution and what is needed to update and to stop it.

    Attributes:
        normal: the distribution of the ``N`` floats and integers.
        widened: ``f[N]``, by what the margin widens the samples; ``f[0]`` if all are floats.
        categorical: the distributions of the choices; ``None`` without any.
        given: ``f[K, D]``, the points that the first generation contains.
        sigma0: ``f[]``, the first step size.
        progress: what the stopping criteria remember.
    """

    normal: Normal
    widened: chex.Array
    categorical: Categorical | None
    given: chex.Array
    sigma0: chex.Array
    progress: Progress


def cma_es(
    space: Space,
    population: int,
    initial: parts.Initial | None = None,
    *,
    sigma: chex.Numeric = 0.2,
    covariance: str = "full",
    factor: str = "cholesky",
    active: bool = True,
) -> Strategy:
    """CMA-ES with active covariance update (Hansen, tutorial, arXiv 1604.00772v2).

    Samples outside the unit cube are evaluated where they are clipped to it, so that an optimum on
    a bound is reached exactly, and lose places in the ranking (see ``box.standing``).  Integers
    keep mutating through the margin correction (Hamano et al., GECCO 2022).  Choices are drawn from
    probabilities of their own, which are learned with the same weights and have a margin, too
    (CatCMA, Hamano et al., GECCO 2024; see ``categories``).  A point that is told though it was not
    proposed is learned from where it is, at most a long sample away (Hansen, arXiv 1110.4181).

    The covariance is factored every ``1 / (2 (c_1 + c_mu) D)`` generations.  A Cholesky factor
    takes a tenth of the time of an eigendecomposition; with that, a run takes some 1 % fewer
    evaluations and its condition number is exact.

    Args:
        space: the search space.
        population: samples of a generation, ``P``, at least 2; 4 + 3 ln D is the usual number.
        initial: members of the first generation (a warm start): hyperparameters, a list of them, or
            points of the unit cube ``f[K, D]``, ``K <= P``.  Their mean is the first mean; the
            middle of the cube without.  All values of a choice begin equally probable all the
            same.  May be traced.
        sigma: the first step size, as a length in the unit cube; the optimum should lie within
            some 3 of it.  May be traced.
        covariance: ``"full"``, or ``"separable"`` for a diagonal one, which takes memory and time
            linear in ``D`` and learns faster where the coordinates do not interact (Ros & Hansen,
            PPSN 2008).
        factor: of a full covariance, ``"cholesky"`` or ``"eigen"``.
        active: whether the worse half of a generation has negative weights.

    Returns:
        A Strategy with ``stop``, whose reasons ``stopping.reason`` tells.

    Raises:
        ValueError: if ``population < 2``, ``sigma`` is not positive, a name is unknown, or
            ``initial`` has a wrong shape or lies outside the cube.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0, shape=(3,))}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: ((h["x"] - 0.4) ** 2).sum()),
        ...     space, cma_es(space, population=8), rounds=60, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-6)
        True
    """
    form = box.check("CMA-ES", space, population, sigma, covariance, factor)
    initial = parts.check_initial(space, population, initial)
    population, size = int(population), spaces.size(space)
    choices = categories.choices(space)
    thresholds = categories.without(choices, spaces.thresholds(space))
    numbers = len(thresholds)
    constants = update.constants(
        population, numbers, active=active, separable=covariance == "separable"
    )
    gap = update.lazy_gap(constants, numbers)
    found = margin.cells(thresholds)
    alpha = margin.default_alpha(population, numbers)

    def init(key: Key) -> CMAState:
        mean, given = search_distribution.start(key, space, population, initial)
        dtype = mean.dtype
        return CMAState(
            update.start(form, categories.others(choices, mean), sigma),
            jnp.ones(0 if found is None else numbers, dtype),
            categories.start(choices, dtype),
            given,
            jnp.asarray(sigma, dtype),
            stopping.begin(population, size, dtype),
        )

    def ask(key: Key, state: CMAState) -> tuple[Proposal, CMAState]:
        key, choice_key = categories.keys(key, choices)
        z = jax.random.normal(key, (population, numbers), state.normal.mean.dtype)
        value = categories.sample(choice_key, choices, state.categorical, population)
        first = state.normal.generation == 0
        unit, note = box.sampled(
            form, choices, state.normal, z, state.widened, value, state.given, first
        )
        return parts.proposal(unit, note=note), state

    def tell(key: Key, state: CMAState, proposal: Proposal, evaluation: Evaluation) -> CMAState:
        del key
        z, foreign = box.as_told(
            form, choices, state.normal, state.widened, proposal.note, proposal.unit
        )
        loss = parts.finite_loss(evaluation, z)
        ranks = update.ranks(loss)
        progress = stopping.noted(state.progress, state.normal.generation, loss, ranks, population)
        places = box.standing(form, state.normal, z, state.widened, ranks, population)
        weights = update.weighted(constants, places, foreign).astype(loss.dtype)
        normal = update.updated(form, constants, state.normal, z, weights)

        def refactor(old: tuple) -> tuple:
            return update.refactored(form, *old[:2])

        old = (normal.factor, normal.covariance, progress.failed)
        due = normal.generation % gap == 0
        new_factor, new_covariance, failed = refactor(old) if gap == 1 else when(due, refactor, old)
        normal = normal._replace(factor=new_factor, covariance=new_covariance)
        normal, widened = box.into_cube(form, normal, state.widened, found, alpha)
        progress = progress._replace(failed=failed)
        value = categories.values(choices, proposal.unit)
        categorical = categories.updated(choices, state.categorical, value, weights)
        return state._replace(
            normal=normal, widened=widened, categorical=categorical, progress=progress
        )

    def stop(state: CMAState) -> chex.Array:
        settled = categories.settled(choices, state.categorical)
        return stopping.reason(
            form, state.normal, state.progress, state.sigma0, population, size, settled
        )

    return Strategy(init, ask, tell, parts.SCRATCH, stop, space=space)
