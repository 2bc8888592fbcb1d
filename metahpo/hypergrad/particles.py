"""Persistent antithetic pairs: what ``pes`` and ``nres`` share, which is all but one rule.

A pair is two trainings under ``theta + sigma e`` and ``theta - sigma e`` with the same task and
the same keys.  Every estimate advances each pair by one window and compares the losses of that
window.  At the end of its episode a pair starts a new one from the current hyperparameters.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, State, Task
from metahpo.hypergrad import antithetic
from metahpo.hypergrad.antithetic import over_members
from metahpo.inner import Keys, Training, check_problem, judge_along, keys, repeat

LOSSES = ("window", "step")
STAGGERS = ("none", "even", "random")

Credit = Callable[[chex.Array, chex.Array, chex.Array], tuple[chex.Array, chex.Array]]
"""``(begins bool[pairs, 1], fresh f[pairs, h], carried f[pairs, h]) -> (noise, credited)``.

The rule that makes an estimator: which noise perturbs the window, and which noise the window's
loss is credited to.  What is credited is carried to the next window.
"""


class Particles(NamedTuple):
    """The memory of ``pairs`` pairs, each somewhere in an episode of its own.

    Attributes:
        trainings: an ``inner.Training`` with a leading axis ``[pairs]``, whose ``state`` holds both
            trainings of a pair, ``[pairs, 2]``, + before -.  When its ``steps`` have reached the
            episode's length, the next window begins another.
        noise: ``f[pairs, h]``, what the last window's loss was credited to, in units of sigma.
    """

    trainings: Training
    noise: chex.Array


class _Setup(NamedTuple):
    """What is static: lengths are numpy arrays ``i32[pairs]``."""

    problem: Problem
    steps: np.ndarray
    window: np.ndarray
    sigma: float
    losses: str
    credit: Credit


def persistent(
    credit: Credit,
    problem: Problem,
    steps: int | Sequence[int],
    window: int | Sequence[int],
    pairs: int,
    sigma: float,
    losses: str,
    stagger: str,
) -> Estimator:
    """The estimator with this rule of credit; for the other arguments see ``pes``."""
    check_problem(problem)
    pairs = antithetic.check(pairs, sigma)
    lengths = _per_pair("steps", steps, pairs, least=0)
    windows = np.minimum(_per_pair("window", window, pairs, least=1), lengths)
    checks.one_of("losses", losses, LOSSES)
    checks.one_of("stagger", stagger, STAGGERS)
    if losses == "step" and not lengths.all():
        raise ValueError(f"losses='step' needs steps of at least 1, got {steps}")
    setup = _Setup(problem, lengths, windows, sigma, losses, credit)

    def init(key: Key, hparams: HParams, task: Task) -> Particles:
        blank_key, stagger_key = jax.random.split(key)
        blank = _blank(setup, blank_key, hparams, task)
        return _staggered(setup, stagger, stagger_key, hparams, task, blank)

    def estimate(
        key: Key, hparams: HParams, task: Task, memory: Particles
    ) -> tuple[Estimate, Particles]:
        *_, gradient_tree = floats.ravel(hparams)
        memory, found = _next_window(setup, key, hparams, task, memory)
        samples = antithetic.slopes(memory.noise, found, sigma)
        result = antithetic.summary(found, samples, gradient_tree)
        # A training that has left the numbers would spoil every window up to its episode's end.
        lost = ~jnp.isfinite(found).all(axis=1)
        progress = memory.trainings.steps
        result.info.update(progress=progress, diverged=lost.sum(dtype=jnp.int32))
        trainings = memory.trainings._replace(steps=jnp.where(lost, lengths, progress))
        return result, memory._replace(trainings=trainings)

    return Estimator(init, estimate, problem=problem)


def _per_pair(name: str, value: int | Sequence[int], pairs: int, least: int) -> np.ndarray:
    """A number, or one for each pair, as ``i32[pairs]``."""
    checks.numbers(**{name: value})
    array = np.asarray(value)
    if array.shape not in ((), (pairs,)):
        raise ValueError(
            f"{name} must be one number or one for each of the {pairs} pairs, "
            f"got shape {array.shape}"
        )
    wrong = array[(array != np.floor(array)) | (array < least)]
    if wrong.size:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {wrong[0]}")
    return np.broadcast_to(array, (pairs,)).astype(np.int32)


def _blank(setup: _Setup, key: Key, hparams: HParams, task: Task) -> Particles:
    """Particles whose first window begins an episode, so that only their shapes matter."""
    flat, merge, _ = floats.ravel(hparams)
    pairs = len(setup.steps)
    own, tasks = jax.vmap(keys)(jax.random.split(key, pairs)), _copies(task, pairs)
    points = jnp.broadcast_to(flat, (pairs, 2, flat.size))
    states = _initial(setup, merge, own, tasks, points)
    # Without this, a weak type that the first window makes strong would compile everything twice.
    states = jax.tree.map(floats.strong, states)
    noise = jnp.zeros((pairs, flat.size), flat.dtype)
    return Particles(Training(own, tasks, states, jnp.asarray(setup.steps)), noise)


def _initial(
    setup: _Setup,
    merge: Callable[[chex.Array], HParams],
    own: Keys,
    tasks: Task,
    points: chex.Array,
) -> State:
    """Both initial states of every pair, ``[pairs, 2]``."""

    def member(key: Key, task: Task, point: chex.Array) -> State:
        return setup.problem.init(key, merge(point), task)

    return over_members(member, shared=2)(own.init, tasks, points)


def _staggered(
    setup: _Setup, stagger: str, key: Key, hparams: HParams, task: Task, memory: Particles
) -> Particles:
    """Runs each pair over the first windows of its episode, as many as its offset says."""
    pairs = len(setup.steps)
    count = np.maximum(-(-setup.steps // np.maximum(setup.window, 1)), 1)  # windows per episode
    offset_key, window_key = jax.random.split(key)
    if stagger == "none" or count.max() == 1:
        return memory
    if stagger == "even":
        offsets = jnp.asarray(np.arange(pairs) * count // pairs)
    else:
        offsets = jax.random.randint(offset_key, (pairs,), 0, count)

    def body(memory: Particles, x: tuple[chex.Array, Key]) -> tuple[Particles, None]:
        number, key = x
        after, _ = _next_window(setup, key, hparams, task, memory)
        return _select(number < offsets, after, memory), None

    most = int(count.max()) - 1
    return jax.lax.scan(body, memory, (jnp.arange(most), jax.random.split(window_key, most)))[0]


def _next_window(
    setup: _Setup, key: Key, hparams: HParams, task: Task, memory: Particles
) -> tuple[Particles, chex.Array]:
    """Every pair one window further, and the losses ``f[pairs, 2]`` of that window."""
    flat, merge, _ = floats.ravel(hparams)
    noise_key, episode_key = jax.random.split(key)
    begins = memory.trainings.steps >= setup.steps
    fresh = jax.random.normal(noise_key, memory.noise.shape, flat.dtype)
    noise, credited = setup.credit(begins[:, None], fresh, memory.noise)
    points = antithetic.members(flat, noise, setup.sigma)
    trainings = _begin(setup, episode_key, merge, points, begins, task, memory.trainings)
    end = jnp.minimum(trainings.steps + setup.window, setup.steps)
    run = _window(setup)

    def member(
        pair: Training, end: chex.Array, point: chex.Array, state: State
    ) -> tuple[State, chex.Array]:
        return run(merge(point), pair._replace(state=state), end)

    pairs = trainings._replace(state=())
    states, losses = over_members(member, shared=2)(pairs, end, points, trainings.state)
    return Particles(trainings._replace(state=states, steps=end), credited), losses


def _begin(
    setup: _Setup,
    key: Key,
    merge: Callable[[chex.Array], HParams],
    points: chex.Array,
    begins: chex.Array,
    task: Task,
    old: Training,
) -> Training:
    """New keys and initial states, and the offered task, for the pairs whose episode begins."""
    pairs = len(setup.steps)
    own = _select(begins, jax.vmap(keys)(jax.random.split(key, pairs)), old.keys)
    tasks = _select(begins, _copies(task, pairs), old.task)

    def some() -> State:
        return _select(begins, _initial(setup, merge, own, tasks, points), old.state)

    # Most windows begin no episode, and an initialisation may cost as much as several steps.
    states = jax.lax.cond(begins.any(), some, lambda: old.state)
    return Training(own, tasks, states, jnp.where(begins, 0, old.steps))


class _Clock(NamedTuple):
    """A training state and the updates made so far."""

    state: State
    updates: chex.Array


def _window(setup: _Setup) -> Callable[[HParams, Training, chex.Array], tuple[State, chex.Array]]:
    """One window of one member: ``(hparams, training, end) -> (state, loss)``.

    The loop is as long as the longest window of all pairs; a member stands still from its ``end``.
    """
    longest = int(setup.window.max())
    equal = (setup.window == longest).all() and not (setup.steps % max(longest, 1)).any()
    problem, each_step = setup.problem, setup.losses == "step"

    def run(hparams: HParams, training: Training, end: chex.Array) -> tuple[State, chex.Array]:
        def step(key: Key, clock: _Clock) -> _Clock:
            state = problem.step(key, hparams, training.task, clock.state)
            if not equal:
                state = _where(clock.updates < end, state, clock.state)
            return _Clock(state, clock.updates + 1)

        def loss(clock: _Clock) -> chex.Array:
            there = training._replace(state=clock.state, steps=clock.updates)
            value = judge_along(problem, hparams, there)
            return value if equal else jnp.where(clock.updates <= end, value, 0)

        loop = repeat(step, longest, record=loss if each_step else None)
        out = loop(training.keys.steps, _Clock(training.state, training.steps), training.steps)
        if each_step:
            return out[0].state, out[1].sum()
        return out.state, loss(_Clock(out.state, end))

    return run


def _copies(task: Task, pairs: int) -> Task:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (pairs, *jnp.shape(x))), task)


def _where(mask: chex.Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(partial(jnp.where, mask), new, old)


def _select(mask: chex.Array, new: PyTree, old: PyTree) -> PyTree:
    """The leaves of ``new`` for the pairs in ``mask``, those of ``old`` for the others."""
    return jax.vmap(_where)(mask, new, old)
