"""What every problem must be able to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metahpo import hypergrad, inner
from metahpo import space as spaces
from metahpo.base import HParams, Problem
from metahpo.run.look import look
from metahpo.testing.rules import require, same


def check_problem(
    problem: Problem,
    *,
    space: spaces.Space | None = None,
    hparams: HParams | None = None,
    steps: int = 4,
    differentiable: bool = True,
) -> None:
    """Checks a problem of your own.

    That a step keeps the shapes and types of the state and the loss is one float; that the same key
    gives the same training; that ``steps`` steps are two halves one after the other; that it runs
    under ``vmap`` over tasks; that ``initial`` and ``describe``, where they are there, fit; that
    the loss is finite, and so is its derivative with respect to the hyperparameters; with a
    ``space``, that every hyperparameter is read.

    Args:
        problem: the training process.
        space: of its hyperparameters.
        hparams: hyperparameters to train with; the middle of the space, or ``problem.initial``, by
            default.
        steps: inner steps, at least 2.
        differentiable: whether the derivative must be finite.

    Raises:
        AssertionError: names the rule that is broken.
        ValueError: without any hyperparameters, and as ``search`` would for the problem.

    Warns:
        UserWarning: for a hyperparameter that nothing in the problem reads.

    Example:
        >>> import metahpo as mh, optax
        >>> problem = mh.problems.training(mh.problems.quadratics(), lambda h: optax.sgd(h["lr"]))
        >>> check_problem(problem, space={"lr": mh.Float(1e-3, 1e-2, log=True)})
    """
    key = jax.random.key(0)
    task = jax.jit(problem.sample)(jax.random.key(1))
    if space is not None:
        look(problem, space, task)
    hparams = _hparams(problem, space, hparams)
    state = jax.eval_shape(problem.init, key, hparams, task)
    stepped = jax.eval_shape(problem.step, key, hparams, task, state)
    require(
        _shapes(stepped) == _shapes(state),
        f"step keeps the shapes and types of the state: {_shapes(state)} became {_shapes(stepped)}",
    )
    loss = jax.eval_shape(problem.loss, key, hparams, task, state)
    is_float = jnp.issubdtype(loss.dtype, jnp.floating)
    require(loss.shape == () and is_float, f"the loss is one float, got {loss}")
    whole = jax.jit(inner.unroll(problem, steps))
    end = whole(key, hparams, task)
    same(whole(key, hparams, task), end, "the same key gives the same training")
    _check_halves(problem, steps, hparams, task)
    tasks = jax.vmap(problem.sample)(jax.random.split(jax.random.key(2), 3))
    losses = jax.jit(jax.vmap(lambda t: inner.outer_loss(problem, steps)(key, hparams, t)[0]))(
        tasks
    )
    finite = bool(np.isfinite(losses).all())
    require(finite, f"the loss is finite at these hyperparameters, got {losses} on three tasks")
    described = jax.eval_shape(problem.describe, task)
    require(len(described.shape) == 1, f"describe gives f[F], got shape {described.shape}")
    if problem.initial is not None:
        start = jax.eval_shape(problem.initial, key)
        jax.eval_shape(problem.init, key, start, task)
    if differentiable:
        estimate, _ = jax.jit(hypergrad.reverse(problem, steps).estimate)(key, hparams, task, ())
        require(
            bool(estimate.info["finite"]),
            f"the derivative of the loss is finite, got {estimate.grad} "
            "(differentiable=False leaves this out)",
        )


def _hparams(problem: Problem, space: spaces.Space | None, hparams: HParams | None) -> HParams:
    if hparams is not None:
        return hparams
    if space is not None:
        return spaces.decode(space, jnp.full(spaces.size(space), 0.5))
    if problem.initial is not None:
        return problem.initial(jax.random.key(3))
    raise ValueError("check_problem needs a space or hparams for a problem without initial")


def _check_halves(problem: Problem, steps: int, hparams: HParams, task: Any) -> None:
    key, first = jax.random.key(0), steps // 2
    # One program each: what is compiled into one may round differently from what is compiled alone.
    begun = jax.jit(lambda: inner.begin(problem, key, hparams, task))()
    step = jax.jit(lambda training: inner.advance(problem, 1)(hparams, training))
    training = begun
    for _ in range(first):
        training = step(training)
    for _ in range(steps - first):
        training = step(training)
    whole = jax.jit(lambda t: inner.advance(problem, steps)(hparams, t))(begun)
    for a, b in zip(_numbers(training.state), _numbers(whole.state), strict=True):
        require(
            bool(np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)),
            "a training in segments is the training as a whole: the state holds all a step needs",
        )


def _numbers(tree: Any) -> list[np.ndarray]:
    return [
        np.asarray(leaf, dtype=float)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)
