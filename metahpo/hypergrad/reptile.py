"""Reptile: how far training moves the state, taken for a gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import gradient_info, no_memory
from metahpo.hypergrad.unrolled import begun
from metahpo.inner import advance, judge


def reptile(problem: Problem, steps: int, *, unrolled: bool = False) -> Estimator:
    """The displacement ``state_0 - state_T``, pulled back to the hyperparameters through ``init``.

    When the hyperparameters are the initial parameters this is Reptile's update direction
    (Nichol, Achiam & Schulman 2018, algorithm 1) with the sign of a gradient:
    ``grad = params_0 - params_T``.  Their optional division by the inner learning rate is left to
    the outer learning rate.  It is not the derivative of any loss, and nothing is differentiated
    but ``init``.

    Only float leaves of the state move; those that do not hold parameters (moments of an
    optimiser) do not count as long as they start from constants.  Hyperparameters that ``init``
    does not see (rates, penalties) get **zero**: Reptile cannot learn them, and
    ``info["sees"]`` says which these are.

    Args:
        problem: the training process; ``mh.meta.maml`` for Reptile itself.
        steps: number of inner updates, at least 0.
        unrolled: writes the steps out one by one, as ``inner.unroll`` does on request.

    Returns:
        An Estimator without a memory.  ``info``: ``state`` (final training state),
        ``sees`` (a pytree of bool[] like the hyperparameters), ``grad_norm``, ``finite``,
        ``zero_grad``.

    Raises:
        ValueError: if ``steps`` is negative; when called, if no hyperparameter is a float.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> reptile_ = mh.hypergrad.reptile(mh.meta.maml(family, learning_rate=0.01), steps=5)
        >>> task = jax.jit(family.sample)(jax.random.key(0))
        >>> params = family.init(jax.random.key(1), task)
        >>> estimate, _ = jax.jit(reptile_.estimate)(jax.random.key(2), params, task, ())
        >>> bool(estimate.info["finite"])
        True
    """
    mode = "unrolled" if unrolled else "none"
    train = advance(problem, steps, mode)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        leaves, merge = floats.split(hparams)
        first, pull_back = begun(problem, key, leaves, merge, task)
        last = train(hparams, first)
        before, after = (floats.parts(training.state)[0] for training in (first, last))
        moved = pull_back([a - b for a, b in zip(before, after, strict=True)])
        grad = floats.gradient_tree(hparams, moved)
        value = judge(problem, hparams, last)
        info = {"state": last.state, "sees": _reached(hparams, before, pull_back)}
        return Estimate(value, grad, {**info, **gradient_info(value, grad)}), memory

    return Estimator(no_memory, estimate, problem=problem, steps=steps)


def _reached(hparams: HParams, state: floats.Floats, pull_back: Callable[..., Any]) -> HParams:
    """Which hyperparameters the initial state depends on, ``bool[]`` for each leaf.

    A random cotangent is orthogonal to a derivative that is not zero with probability 0.
    """
    subkeys = jax.random.split(jax.random.key(0), len(state))
    generic = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(subkeys, state, strict=True)]
    tree = floats.gradient_tree(hparams, pull_back(generic))
    return jax.tree.map(lambda g: jnp.any(g != 0), tree)
