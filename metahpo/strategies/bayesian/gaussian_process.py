"""Bayesian optimisation with a Gaussian process."""

from collections.abc import Callable

import chex

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Strategy
from metahpo.space import Space
from metahpo.strategies import parts
from metahpo.strategies.bayesian.modelled import modelled
from metahpo.strategies.bayesian.suggestions import (
    STEEP_STEPS,
    STEPS,
    check_acquisition,
    chooser,
)
from metahpo.surrogates import derivatives
from metahpo.surrogates.acquisition import Acquisition


def gaussian_process(
    space: Space,
    population: int = 1,
    initial: parts.Initial | None = None,
    *,
    acquisition: str | Acquisition = "log_ei",
    capacity: int = 256,
    startup: int | None = None,
    length: chex.Numeric = 1.0,
    noise: chex.Numeric = 1.0,
    gradients: bool = False,
    expected: Callable[[chex.Array], chex.Array] | None = None,
) -> Strategy:
    """Bayesian optimisation: a Gaussian process says where the next point promises most.

    Matern's kernel of order 5/2 with a length scale for every float and integer, and for every
    choice a penalty for being another (branches of a ``OneOf`` that are not chosen are seen in the
    middle of their range), under priors that need no tuning (``surrogates.prior``);
    losses by ``surrogates.warping.compressed``.  The numbers are fitted anew in every round by a
    fixed number of gradient steps.  The points of a round are chosen one after the other, each as
    if what is predicted at those before, and at pending ones, had been observed (Desautels, Krause
    & Burdick 2014).  What was evaluated, or is as good as that, is not
    proposed again, as long as there is something else.

    Args:
        space: the search space.
        population: points a round, ``P``.
        initial: evaluated first: hyperparameters, a list of them, or points of the unit cube
            ``f[K, D]``; may be traced.
        acquisition: ``"log_ei"``, ``"ei"``, ``"pi"``, ``"ucb"``, ``"thompson"``, or a function
            ``(mean f[M], std f[M], best f[]) -> f[M]`` as in ``surrogates.acquisition``.
        capacity: evaluations that are remembered; a run of known length may not make more, and one
            that goes on nevertheless forgets the worst.  A suggestion costs what a process of the
            next power of two costs, from 64 on.
        startup: points of a scrambled Sobol sequence before the first of the process, by default
            ``D + 1``, at least 4 and at most 16; with gradients a third of that, at least 3; those
            of ``initial`` count.
        length: the prior's median length scale, in units of that which is recommended; may be
            traced.
        noise: the prior's median variance of the noise, in such units too; may be traced.
        gradients: whether the process learns from hypergradients too, which the run must then have:
            ``D + 1`` numbers an evaluation instead of one (Rasmussen & Williams 2006, section 9.4),
            with an error of their own that is fitted.  Of the best points as many as fill twice the
            rows of the losses.  Integers and choices have no gradients, and what is zero in all
            coordinates counts as none.
        expected: ``(points f[M, D]) -> f[M]``, what losses are expected to be, in any units: the
            process's prior mean, such as ``mh.transfer`` learns from past tasks.  Its scale is
            fitted to the losses, and it is left to what they bear out of it.

    Returns:
        A Strategy, whose losses may be told in any order.

    Raises:
        ValueError: if a number is below 1, ``acquisition`` unknown, the capacity below the first
            points and a round, or gradients are to be used in a space without a ``Float``.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 2.0)}
        >>> strategy = mh.strategies.gaussian_process(space, capacity=64)
        >>> problem = mh.problems.function(lambda h: (h["x"] - 0.4) ** 2)
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, problem, space, strategy, rounds=20, steps=1,
        ... ))(jax.random.key(0))
        >>> bool(result.best_loss < 1e-4)
        True
    """
    population = parts.check_population("gaussian_process", population)
    dims = list(spaces.dimensions(space).values())
    size = len(dims)
    if startup is None:
        # A third where an evaluation is charged as three; of two losses no scale is known.
        startup = min(max(3, (size + 1) // 3) if gradients else max(4, size + 1), 16)
    startup = checks.whole("startup", startup)
    capacity = checks.whole("capacity", capacity, at_least=startup + population)
    initial = parts.check_initial(space, capacity, initial, "capacity")
    checks.positive(length=length, noise=noise)
    check_acquisition(acquisition)
    if gradients and not len(derivatives.floats(dims)):
        raise ValueError(f"gradients=True needs a Float, got {spaces.dimensions(space)}")
    if expected is not None:
        checks.function("expected", expected, "(points)", 0)
        if gradients:
            raise ValueError("a process that learns from gradients has no expected losses")
    choose = chooser(acquisition, STEEP_STEPS if gradients else STEPS)
    return modelled(
        space, population, initial, choose, capacity, startup, length, noise, gradients, expected
    )
