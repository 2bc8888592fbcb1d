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
from metahpo.inner import advance, keys, scalar_loss

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
        states: the training states, leading axes ``[pairs, 2]``, + before -.
        noise: ``f[pairs, h]``, what the last window's loss was credited to, in units of sigma.
        updates: ``i32[pairs]``, the updates made in the running episode; at the episode's length,
            the next window begins another.
        keys: ``key[pairs]``, the training keys of the running episode.
        tasks: the task of the running episode, leading axis ``[pairs]``; ``()`` if not kept.
    """

    states: State
    noise: chex.Array
    updates: chex.Array
    keys: Key
    tasks: Task


class _Setup(NamedTuple):
    """What is static: lengths are numpy arrays ``i32[pairs]``."""

    problem: Problem
    steps: np.ndarray
    window: np.ndarray
    sigma: float
    losses: str
    keep_task: bool
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
    keep_task: bool,
) -> Estimator:
    """The estimator with this rule of credit; for the other arguments see ``pes``."""
    pairs = antithetic.check(pairs, sigma)
    lengths = _per_pair("steps", steps, pairs, least=0)
    windows = np.minimum(_per_pair("window", window, pairs, least=1), lengths)
    checks.one_of("losses", losses, LOSSES)
    checks.one_of("stagger", stagger, STAGGERS)
    if losses == "step" and not lengths.all():
        raise ValueError(f"losses='step' needs steps of at least 1, got {steps}")
    setup = _Setup(problem, lengths, windows, sigma, losses, keep_task, credit)

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
        result.info.update(progress=memory.updates, diverged=lost.sum(dtype=jnp.int32))
        return result, memory._replace(updates=jnp.where(lost, lengths, memory.updates))

    return Estimator(init, estimate)


def _per_pair(name: str, value: int | Sequence[int], pairs: int, least: int) -> np.ndarray:
    """A number, or one for each pair, as ``i32[pairs]``."""
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
    pair_keys = jax.random.split(key, pairs)
    points = jnp.broadcast_to(flat, (pairs, 2, flat.size))
    states = over_members(lambda k, x: setup.problem.init(k, merge(x), task), 1)(pair_keys, points)
    # Without this, a weak type that the first window makes strong would compile everything twice.
    states = jax.tree.map(lambda x: x.astype(x.dtype), states)
    tasks = _copies(task, pairs) if setup.keep_task else ()
    noise = jnp.zeros((pairs, flat.size), flat.dtype)
    return Particles(states, noise, jnp.asarray(setup.steps), pair_keys, tasks)


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
    begins = memory.updates >= setup.steps
    fresh = jax.random.normal(noise_key, memory.noise.shape, flat.dtype)
    noise, credited = setup.credit(begins[:, None], fresh, memory.noise)
    points = antithetic.members(flat, noise, setup.sigma)
    memory = _begin(setup, episode_key, merge, points, begins, task, memory)
    start = jnp.where(begins, 0, memory.updates)
    end = jnp.minimum(start + setup.window, setup.steps)
    run = _window(setup)

    def member(
        key: Key, kept: Task, start: chex.Array, end: chex.Array, point: chex.Array, state: State
    ) -> tuple[State, chex.Array]:
        return run(key, merge(point), kept if setup.keep_task else task, state, start, end)

    states, losses = over_members(member, shared=4)(
        memory.keys, memory.tasks, start, end, points, memory.states
    )
    return memory._replace(states=states, noise=credited, updates=end), losses


def _begin(
    setup: _Setup,
    key: Key,
    merge: Callable[[chex.Array], HParams],
    points: chex.Array,
    begins: chex.Array,
    task: Task,
    memory: Particles,
) -> Particles:
    """New training keys, task and initial states for the pairs whose episode begins."""
    pairs = len(setup.steps)
    pair_keys = _select(begins, jax.random.split(key, pairs), memory.keys)
    tasks = _select(begins, _copies(task, pairs), memory.tasks) if setup.keep_task else ()

    def member(key: Key, kept: Task, point: chex.Array) -> State:
        return setup.problem.init(keys(key).init, merge(point), kept if setup.keep_task else task)

    def some() -> State:
        fresh = over_members(member, shared=2)(pair_keys, tasks, points)
        return _select(begins, fresh, memory.states)

    # Most windows begin no episode, and an initialisation may cost as much as several steps.
    states = jax.lax.cond(begins.any(), some, lambda: memory.states)
    return memory._replace(states=states, keys=pair_keys, tasks=tasks)


class _Clock(NamedTuple):
    """A training state and the updates made so far."""

    state: State
    updates: chex.Array


def _window(setup: _Setup) -> Callable[..., tuple[State, chex.Array]]:
    """One window of one member: ``(key, hparams, task, state, start, end) -> (state, loss)``.

    The loop is as long as the longest window of all pairs; a member stands still from its ``end``.
    """
    longest = int(setup.window.max())
    equal = (setup.window == longest).all() and not (setup.steps % max(longest, 1)).any()

    def run(
        key: Key, hparams: HParams, task: Task, state: State, start: chex.Array, end: chex.Array
    ) -> tuple[State, chex.Array]:
        _, step_key, loss_key = keys(key)

        def step(key: Key, hparams: HParams, task: Task, clock: _Clock) -> _Clock:
            state = setup.problem.step(key, hparams, task, clock.state)
            if not equal:
                state = _where(clock.updates < end, state, clock.state)
            return _Clock(state, clock.updates + 1)

        def loss(clock: _Clock) -> chex.Array:
            key = jax.random.fold_in(loss_key, clock.updates)
            value = scalar_loss(setup.problem, key, hparams, task, clock.state)
            return value if equal else jnp.where(clock.updates <= end, value, 0)

        each_step = setup.losses == "step"
        segment = advance(
            setup.problem._replace(step=step), longest, record=loss if each_step else None
        )
        out = segment(step_key, hparams, task, _Clock(state, start), start)
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
