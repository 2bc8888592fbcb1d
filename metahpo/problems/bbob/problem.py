"""The BBOB functions as Problems without a training."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import HParams, Key, Problem
from metahpo.problems.bbob.functions import FUNCTIONS
from metahpo.problems.bbob.instances import (
    BBOBInstance,
    bbob_instance,
    check_dimension,
    check_function,
)
from metahpo.problems.bbob.transformations import EDGE
from metahpo.problems.synthetic import without_training
from metahpo.space import Float

PUBLISHED = range(1, 16)  # the instances of most published results


def bbob(function: int, dimension: int) -> Problem:
    """One of the 24 noiseless functions of the black-box optimisation benchmark (BBOB).

    The loss is ``f(x) - f_opt``.  The optimal value is never added, and the functions are written
    without cancellation near their optimum, so float32 keeps its digits there.  What it loses is
    the point: a coordinate of the unit cube is rounded by up to 3e-8, that is 3e-7 in the box,
    which a condition of 1e6 turns into a loss of 1e-7.  In float64 the values equal those of the
    platform COCO, to 7e-10 relative and nearly always to 1e-12.

    Args:
        function: 1 ... 24: sphere, separable ellipsoid, separable Rastrigin, Bueche-Rastrigin,
            linear slope (separable); attractive sector, step ellipsoid, Rosenbrock, rotated
            Rosenbrock (moderate condition); ellipsoid, discus, bent cigar, sharp ridge, different
            powers (high condition); Rastrigin, Weierstrass, Schaffer F7, the same with condition
            1000, Griewank-Rosenbrock (many optima, global structure); Schwefel, Gallagher with 101
            and with 21 peaks, Katsuura, Lunacek (weak structure).
        dimension: ``D``, at least 2.

    Returns:
        A Problem with hyperparameters ``{"x": f[D]}`` (see ``bbob_space``) and tasks from
        ``bbob_instance``; ``sample`` draws one of instances 1 ... 15.  The loss may be jitted,
        vmapped over points and instances, and differentiated where the function is smooth.

    Raises:
        ValueError: for another function or dimension.

    Source:
        Hansen, Finck, Ros & Auger, "Real-parameter black-box optimization benchmarking 2009:
        noiseless functions definitions", INRIA RR-6829 (2009).

    Example:
        >>> import jax, metahpo as mh
        >>> problem, space = mh.problems.bbob(1, 5), mh.problems.bbob_space(5)
        >>> instances = [mh.problems.bbob_instance(1, 5, i) for i in (1, 2)]
        >>> tasks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *instances)
        >>> def best(key, task):
        ...     strategy = mh.strategies.differential_evolution(space, population=10)
        ...     return mh.search(
        ...         key, problem, space, strategy, rounds=100, steps=1, task=task
        ...     ).best_loss
        >>> losses = jax.jit(jax.vmap(best, in_axes=(None, 0)))(jax.random.key(0), tasks)
        >>> bool((losses < 1e-3).all())
        True
    """
    check_function(function)
    check_dimension(dimension)
    fn = FUNCTIONS[function - 1]

    def sample(key: Key) -> BBOBInstance:
        each = [bbob_instance(function, dimension, i) for i in PUBLISHED]
        stacked = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *each)
        index = jax.random.randint(key, (), 0, len(PUBLISHED))
        return jax.tree.map(lambda x: x[index], stacked)

    def loss(key: Key, hparams: HParams, task: BBOBInstance) -> chex.Array:
        del key
        return fn(_point(hparams, dimension), task)

    return without_training(sample, loss)


def bbob_space(dimension: int, bound: float = EDGE) -> dict[str, Any]:
    """The search space of the BBOB functions: ``{"x": Float(-5, 5, shape=(D,))}``.

    All optima lie inside, most of them in [-4, 4], that of f5 in a corner.

    Args:
        dimension: ``D``.
        bound: of every coordinate, at least 5.  The functions are defined everywhere, and many
            published results come from searches without bounds, which a larger box resembles.

    Raises:
        ValueError: for a dimension that BBOB functions do not have, or a bound below 5.

    Example:
        >>> import metahpo as mh
        >>> mh.space.size(bbob_space(5))
        5
    """
    check_dimension(dimension)
    if bound < EDGE:
        raise ValueError(f"the bound of a BBOB space must be at least {EDGE}, got {bound}")
    return {"x": Float(-bound, bound, shape=(dimension,))}


def _point(hparams: HParams, dimension: int) -> chex.Array:
    x = jnp.asarray(hparams["x"])
    if x.shape != (dimension,):
        raise ValueError(f"this BBOB function needs x of shape ({dimension},), got {x.shape}")
    return x
