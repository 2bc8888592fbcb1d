"""One family of tasks made of another: in other units, noisy, met anywhere along a training."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import HParams, Key, Params, Problem, PyTree, State, Task, TaskFamily
from metahpo.inner import check_problem
from metahpo.problems.stateful import keyed_loss

Range = tuple[float, float]


class Augmented(NamedTuple):
    """A task, and what is changed about it; ``None`` where nothing is.

    Attributes:
        task: of the family.
        scales: ``(f[], ...)``, a unit for each tensor of the parameters.
        loss_scale: ``f[]``, of the support loss.
        noise: ``(f[], ...)``, the standard deviation of the noise on each tensor's gradient.
        offset: ``i32[]``, the updates made before.
    """

    task: Task
    scales: tuple[chex.Array, ...] | None
    loss_scale: chex.Array | None
    noise: tuple[chex.Array, ...] | None
    offset: chex.Array | None


def augmented(
    family: TaskFamily,
    *,
    scales: Range | None = None,
    loss_scales: Range | None = None,
    noise: Range | None = None,
    offsets: Range | None = None,
    before: optax.GradientTransformation | None = None,
) -> TaskFamily:
    """More tasks than a family has, for whoever learns an optimiser on them.

    An optimiser learned on one kind of task takes what these have in common for granted: the size
    of parameters and gradients, and that training begins at the beginning.  Each task draws its
    own numbers, log-uniformly from the ranges that are given.

    Args:
        family: of any tasks.
        scales: the parameters are in units of their own: the model sees ``scale`` times what the
            optimiser moves, one number a tensor (Metz et al. 2022, task augmentation).
        loss_scales: the support loss is multiplied by this; the query loss, which judges, is not.
        noise: Gaussian noise is added to the gradient, in units of the root mean square of each
            tensor's gradient at a start; fresh in every update, where the training tells the loss
            its key, as ``problems.training`` does.
        offsets: updates that ``before`` has made when the training begins, so that an optimiser
            also meets tasks that are half solved (the cure for workers in lock-step).
        before: the optimiser of these; Adam with the rate 0.01 by default.

    Returns:
        A TaskFamily with ``Augmented`` tasks, whose ``network`` is ``None``: it would not know the
        units.

    Raises:
        ValueError: for a range that is not ``0 < low <= high``.

    Example:
        >>> import metahpo as mh
        >>> family = mh.problems.augmented(mh.problems.quadratics(8), scales=(0.1, 10.0))
        >>> task = family.sample(jax.random.key(0))
        >>> params = family.init(jax.random.key(1), task)
        >>> bool(jnp.allclose(jnp.abs(params * task.scales[0]), 1.0))  # a quadratic starts at +-1
        True
    """
    given = {"scales": scales, "loss_scales": loss_scales, "noise": noise, "offsets": offsets}
    for name, pair in given.items():
        if pair is not None:
            _check_range(name, pair)
    optimizer = optax.adam(0.01) if before is None else before

    def sample(key: Key) -> Augmented:
        task_key, scale_key, loss_key, noise_key, start_key, offset_key = jax.random.split(key, 6)
        task = family.sample(task_key)
        leaves = len(jax.tree.leaves(jax.eval_shape(family.init, task_key, task)))
        own = _draws(scale_key, scales, leaves)
        loss_scale = None if loss_scales is None else _draw(loss_key, loss_scales)
        drawn = Augmented(task, own, loss_scale, None, None)
        if noise is not None:
            grads = jax.grad(_support(family, drawn))(_initial(family, start_key, drawn))
            sizes = [jnp.sqrt(jnp.mean(jnp.square(g))) for g in jax.tree.leaves(grads)]
            level = _draw(noise_key, noise)
            drawn = drawn._replace(noise=tuple(level * size for size in sizes))
        if offsets is not None:
            offset = jnp.round(_draw(offset_key, offsets)).astype(jnp.int32)
            drawn = drawn._replace(offset=offset)
        return drawn

    def init(key: Key, task: Augmented) -> Params:
        params = _initial(family, key, task)
        if task.offset is None:
            return params
        slope = jax.grad(_support(family, task))

        def update(_: int, carry: PyTree) -> PyTree:
            params, state = carry
            updates, state = optimizer.update(slope(params), state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, task.offset, update, (params, optimizer.init(params)))[0]

    def loss(params: Params, task: Augmented, split: str, key: Key | None = None) -> chex.Array:
        if split != "support":
            return family.loss(_in_units(params, task.scales), task.task, split)
        value = _support(family, task, key)(params)
        if task.noise is None or key is None:
            return value
        return value + _slope(jax.random.fold_in(key, 1), params, task.noise)

    def describe(task: Augmented) -> chex.Array:
        return family.describe(task.task)

    return TaskFamily(sample, init, loss, describe)


class Horizon(NamedTuple):
    """A task, and after how many updates its training ends, ``i32[]``."""

    task: Task
    steps: chex.Array


class Counted(NamedTuple):
    """A training state, and the updates behind it, ``i32[]``."""

    state: State
    count: chex.Array


def log_uniform_horizons(problem: Problem, shortest: int, longest: int) -> Problem:
    """The same training, which each task ends after a number of updates of its own.

    What is learned for one horizon gambles on it.  Trainings go on for ``longest`` updates in the
    program, and stand still from their own end on; estimators unroll ``longest`` steps.

    Args:
        problem: any.
        shortest: of the horizons, at least 1.
        longest: of the horizons.

    Returns:
        A Problem with ``Horizon`` tasks and ``Counted`` states.

    Raises:
        ValueError: unless ``1 <= shortest <= longest``.

    Example:
        >>> import metahpo as mh
        >>> ones = mh.problems.training(mh.problems.quadratics(4), lambda h: optax.sgd(h["rate"]))
        >>> problem = mh.problems.log_uniform_horizons(ones, 2, 20)
        >>> task = problem.sample(jax.random.key(0))
        >>> _, state = mh.inner.outer_loss(problem, 20)(jax.random.key(1), {"rate": 0.01}, task)
        >>> bool(state.count == task.steps)
        True
    """
    check_problem(problem)
    shortest, longest = checks.counts(shortest=shortest, longest=longest)
    _check_range("horizons", (shortest, longest))

    def sample(key: Key) -> Horizon:
        task_key, steps_key = jax.random.split(key)
        # Half a step on both sides, so that the ends are as likely as the rest.
        steps = jnp.round(_draw(steps_key, (shortest - 0.5, longest + 0.5)))
        steps = jnp.clip(steps, shortest, longest).astype(jnp.int32)
        return Horizon(problem.sample(task_key), steps)

    def init(key: Key, hparams: HParams, task: Horizon) -> Counted:
        return Counted(problem.init(key, hparams, task.task), jnp.zeros((), jnp.int32))

    def step(key: Key, hparams: HParams, task: Horizon, state: Counted) -> Counted:
        going = state.count < task.steps
        moved = problem.step(key, hparams, task.task, state.state)
        kept = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, state.state)
        return Counted(kept, state.count + going)

    def loss(key: Key, hparams: HParams, task: Horizon, state: Counted) -> chex.Array:
        return problem.loss(key, hparams, task.task, state.state)

    def describe(task: Horizon) -> chex.Array:
        return problem.describe(task.task)

    inner = problem.predict

    def predict(state: Counted, x: chex.Array) -> PyTree:
        assert inner is not None
        return inner(state.state, x)

    known = None if inner is None else predict
    return Problem(sample, init, step, loss, describe, known, problem.initial)


def _check_range(name: str, pair: Range) -> None:
    checks.numbers(**{name: pair})
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] < math.inf:
        raise ValueError(f"{name} must be 0 < low <= high, both finite, got {pair}")


def _draw(key: Key, pair: Range) -> chex.Array:
    low, high = map(math.log, pair)
    return jnp.exp(jax.random.uniform(key, (), jnp.result_type(float), low, high))


def _draws(key: Key, pair: Range | None, count: int) -> tuple[chex.Array, ...] | None:
    if pair is None:
        return None
    return tuple(_draw(one, pair) for one in jax.random.split(key, count))


def _in_units(params: Params, scales: tuple[chex.Array, ...] | None) -> Params:
    """What the model sees of what the optimiser moves."""
    if scales is None:
        return params
    leaves, treedef = jax.tree.flatten(params)
    pairs = zip(leaves, scales, strict=True)
    return jax.tree.unflatten(treedef, [leaf * scale.astype(leaf.dtype) for leaf, scale in pairs])


def _initial(family: TaskFamily, key: Key, task: Augmented) -> Params:
    params = family.init(key, task.task)
    return _in_units(params, None if task.scales is None else tuple(1 / s for s in task.scales))


def _support(family: TaskFamily, task: Augmented, key: Key | None = None) -> Any:
    """The loss that training minimises, without noise."""

    def loss(params: Params) -> chex.Array:
        value = keyed_loss(family, key, _in_units(params, task.scales), task.task, "support")
        return value if task.loss_scale is None else value * task.loss_scale.astype(value.dtype)

    return loss


def _slope(key: Key, params: Params, noise: tuple[chex.Array, ...]) -> chex.Array:
    """Zero, with a random gradient."""
    leaves = jax.tree.leaves(params)
    keys = jax.random.split(key, len(leaves))
    parts = [
        jnp.sum(
            size
            * jax.random.normal(own, leaf.shape, leaf.dtype)
            * (leaf - jax.lax.stop_gradient(leaf))
        )
        for own, leaf, size in zip(keys, leaves, noise, strict=True)
    ]
    return sum(parts, jnp.zeros(()))
