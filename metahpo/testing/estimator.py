"""What every estimator must be able to do."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import inner
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, State, Task
from metahpo.testing.rules import require, same

_POINT = {"lr": 0.11, "decay": 0.2, "power": 2}

Make = Callable[[Problem, int], Estimator]


def check_estimator(
    make: Make, *, steps: int = 7, exact: bool = True, unrolled: bool = True, rtol: float = 1e-8
) -> None:
    """Checks an estimator of your own as our own ones are checked.

    On a small training with two rates and a whole number as hyperparameters: that the estimate has
    the structure of the hyperparameters, with zeros for what is no float; that the loss is that of
    the training and the gradient its derivative, by central differences; that types follow the
    hyperparameters; that it runs under ``jit`` and ``vmap``, over hyperparameters and over tasks,
    with the same results; that the same key gives the same estimate; that a memory keeps its
    shapes.

    Args:
        make: ``(problem, steps) -> Estimator``.
        steps: inner steps.
        exact: whether the gradient is the derivative of the outer loss; a biased or random
            estimator is only asked for finite numbers.
        unrolled: whether the loss is that of one training from the task's start.
        rtol: of the derivative, relative to its norm, in double precision.

    Raises:
        AssertionError: names the rule that is broken.

    Example:
        >>> import metahpo as mh
        >>> check_estimator(mh.hypergrad.forward)
    """
    with jax.enable_x64(True):
        _check_values(make(_problem(), steps), steps, exact, unrolled, rtol)
    _check_types(make(_problem(), steps))


def _problem() -> Problem:
    """Gradient descent with momentum on a quartic bowl; tasks are its centres."""

    def sample(key: Key) -> Task:
        return jax.random.uniform(key, (3,), minval=-1.0)

    def init(key: Key, hparams: HParams, task: Task) -> State:
        del key, hparams
        return {"w": jnp.zeros_like(task), "v": jnp.zeros_like(task)}

    def slope(w: chex.Array, task: Task) -> chex.Array:
        return (w - task) + 0.3 * (w - task) ** 3

    def step(key: Key, hparams: HParams, task: Task, state: State) -> State:
        del key
        v = hparams["decay"] * state["v"] - hparams["lr"] * slope(state["w"], task)
        return {"w": state["w"] + v, "v": v}

    def loss(key: Key, hparams: HParams, task: Task, state: State) -> chex.Array:
        del key
        return ((state["w"] - task) ** 2).sum() + hparams["decay"] ** hparams["power"]

    return Problem(sample, init, step, loss)


def _point(floats: Any) -> HParams:
    return {
        name: jnp.asarray(value, floats if isinstance(value, float) else jnp.int32)
        for name, value in _POINT.items()
    }


def _first(estimator: Estimator) -> Callable[[Key, HParams, Task], Estimate]:
    def run(key: Key, hparams: HParams, task: Task) -> Estimate:
        memory = estimator.init(jax.random.fold_in(key, 1), hparams, task)
        return estimator.estimate(key, hparams, task, memory)[0]

    return run


def _check_values(
    estimator: Estimator, steps: int, exact: bool, unrolled: bool, rtol: float
) -> None:
    require(isinstance(estimator, Estimator), f"it makes an mh.Estimator, got {estimator!r}")
    problem, hparams, key = _problem(), _point(jnp.float64), jax.random.key(0)
    tasks = jax.vmap(problem.sample)(jax.random.split(jax.random.key(1), 3))
    run = _first(estimator)
    one = jax.jit(run)(key, hparams, tasks[0])
    found: Any = jax.tree.structure(one.grad)
    alike = bool(found == jax.tree.structure(hparams))
    require(alike, f"grad has the structure of the hyperparameters, got {found}")
    require(
        float(one.grad["power"]) == 0,
        f"the gradient of what is no float is zero, got {one.grad['power']}",
    )
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((one.loss, one.grad)))
    require(finite, f"loss and gradient are finite where the training is, got {one}")
    same(jax.jit(run)(key, hparams, tasks[0]), one, "the same key gives the same estimate")
    outer = jax.jit(lambda h: inner.outer_loss(problem, steps)(key, h, tasks[0])[0])
    if unrolled:
        _close(one.loss, outer(hparams), 1e-10, "the loss is that of the training")
    if exact:
        for name in ("lr", "decay"):
            _close(
                one.grad[name],
                _slope(outer, hparams, name),
                rtol,
                f"the gradient of {name} is the derivative of the outer loss",
            )
    _check_lanes(run, key, hparams, tasks)
    memory = jax.eval_shape(estimator.init, key, hparams, tasks[0])
    kept = jax.eval_shape(estimator.estimate, key, hparams, tasks[0], memory)[1]
    require(_shapes(kept) == _shapes(memory), "estimate keeps the shapes and types of the memory")


def _slope(loss: Callable[[HParams], chex.Array], hparams: HParams, name: str) -> chex.Array:
    """By central differences of fourth order."""
    step = 1e-3

    def at(shift: float) -> chex.Array:
        return loss(hparams | {name: hparams[name] + shift})

    return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)


def _check_lanes(run: Any, key: Key, hparams: HParams, tasks: Task) -> None:
    rates = jnp.array([0.05, 0.11, 0.2])
    lanes = jax.jit(jax.vmap(lambda lr: run(key, hparams | {"lr": lr}, tasks[0])))(rates)
    for i in range(3):
        alone = jax.jit(run)(key, hparams | {"lr": rates[i]}, tasks[0])
        _close(lanes.grad["lr"][i], alone.grad["lr"], 1e-8, "vmap over hyperparameters")
    lanes = jax.jit(jax.vmap(lambda task: run(key, hparams, task)))(tasks)
    for i in range(3):
        alone = jax.jit(run)(key, hparams, tasks[i])
        _close(lanes.grad["lr"][i], alone.grad["lr"], 1e-8, "vmap over tasks")


def _check_types(estimator: Estimator) -> None:
    hparams, task = _point(jnp.float32), jnp.zeros(3, jnp.float32)
    one = jax.eval_shape(_first(estimator), jax.random.key(0), hparams, task)
    for name, leaf in {"loss": one.loss, **{k: one.grad[k] for k in ("lr", "decay")}}.items():
        require(leaf.shape == () and leaf.dtype == jnp.float32, f"{name} is f32[] for float32")


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


def _close(value: Any, wanted: Any, rtol: float, rule: str) -> None:
    value, wanted = float(value), float(wanted)
    error = abs(value - wanted) / max(abs(wanted), 1e-12)
    require(error <= rtol, f"{rule}: {value!r} is {error:.1e} off {wanted!r}")
