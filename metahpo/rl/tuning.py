"""Hyperparameter adjustment as a Markov decision process.

State: the training, the current hyperparameters and what the validation loss did.  Action: one
move a dimension of the unit cube, a choice or a number.  Transition: a compiled training segment.
Reward: the decrease of the validation loss.  (Li & Malik 2017, sec. 3, for optimisation as such a
process; Biedenkapp et al. 2020 for the adjustment of hyperparameters.)
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks, inner
from metahpo import space as spaces
from metahpo.base import HParams, Key, Problem, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.falls import capped, fall, safe_log
from metahpo.space import Choice, Float, Space

_CUT = 3.0
"""No entry of an observation is further from 0."""


class TuningState(NamedTuple):
    """The state of a ``tuning_environment``.

    Attributes:
        training: the problem's training, an ``inner.Training``, on the task of ``reset``.
        unit: ``f[D]``, the current hyperparameters in the unit cube.
        time: ``i32[]``, segments done.
        initial: ``f[]``, the validation loss before training.
        previous: ``f[]``, the validation loss one segment ago.
        loss: ``f[]``, the validation loss now, as it is: not finite if the training diverged.
        diverged: ``i32[]``, how many segments ended with a loss that is not finite.
        descriptor: ``f[F]``, the task's, standardised; it may cost more than a segment.
    """

    training: inner.Training
    unit: chex.Array
    time: chex.Array
    initial: chex.Array
    previous: chex.Array
    loss: chex.Array
    diverged: chex.Array
    descriptor: chex.Array


def tuning_environment(
    problem: Problem,
    space: Space,
    segment_steps: int,
    segments: int,
    *,
    hparams: HParams | None = None,
    adjust: Sequence[str] | None = None,
    moves: Sequence[float] | Float = (-0.1, 0.0, 0.1),
    log_reward: bool = False,
    penalty: float = 1.0,
    mean: chex.Numeric = 0.0,
    scale: chex.Numeric = 1.0,
) -> Environment:
    """Training in segments, with a move of the hyperparameters before each one.

    The move before the first segment chooses where the training starts: the training state is
    made anew with the hyperparameters after it.  So an episode that only moves once is
    ``inner.unroll`` with the hyperparameters of that move and the key of ``reset``.

    A training that diverges stays diverged.  For rewards and observations a loss counts as at most
    ``initial + penalty * |initial|``, and as just that when it is not finite, so that every reward
    is finite and the rewards of an episode always sum to the (capped, log) loss's decrease.

    Args:
        problem: the training process.
        space: its hyperparameters.
        segment_steps: inner steps in a segment, at least 1.
        segments: segments in an episode, at least 1.  The last one terminates it, as the time is
            observed; whoever steps on nevertheless trains on.
        hparams: where an episode starts; the middle of the unit cube by default.
        adjust: names (as in ``space.dimensions``) of the dimensions that actions move, all by
            default; the others stay at ``hparams``.  Leave out what must not change while a
            training runs, such as a width.
        moves: what the choices of an action add to a coordinate of the unit cube; a ``Float`` in
            place of the choices makes the action itself that number, within its bounds.  Of a
            dimension on the logarithmic scale a move is the logarithm of a factor: 0.1 of four
            decades is a factor of 10 ** 0.4.
        log_reward: whether the reward is the decrease of the loss's logarithm, which suits losses
            that are positive and fall by orders of magnitude.
        penalty: how far above the initial loss a diverged training counts, relative to it.
        mean: subtracted from the task's descriptor, ``f[F]`` or a number.
        scale: divides the descriptor after that.

    Returns:
        An Environment whose state is a ``TuningState``.  An observation holds, in this order and
        all of about unit size: the hyperparameters ``2 unit - 1``, the squashed logarithms of the
        initial loss, of the loss relative to it and of the last change, the time from -1 to 1,
        and the standardised descriptor, cut at 3.

    Raises:
        ValueError: for zero steps or segments, unknown or no names, no moves, one that stands
            twice, moves that are not finite, a ``Float`` of them that has a shape, a step or a
            logarithm, a penalty that is not positive, and ``hparams`` that do not match.

    Example:
        >>> import metahpo as mh
        >>> problem = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2)
        >>> environment = tuning_environment(problem, {"x": mh.Float(0.0, 1.0)}, 1, segments=2)
        >>> state = environment.reset(jax.random.key(0), None)
        >>> step, down = jax.jit(environment.step), jnp.array([0])
        >>> state, transition = step(jax.random.key(1), state, down)
        >>> reward = float(transition.reward)
        >>> round(float(state.unit[0]), 4), round(reward, 4)  # 0.04 before, 0.01 now
        (0.4, 0.03)
    """
    inner.check_problem(problem)
    names = list(spaces.dimensions(space))
    adjusted = names if adjust is None else list(adjust)
    _check(names, adjusted, segment_steps, segments, moves, penalty)
    where = jnp.array([names.index(name) for name in adjusted])
    start = jnp.full(len(names), 0.5) if hparams is None else spaces.encode(space, hparams)
    segment = inner.advance(problem, segment_steps)
    descriptor = jax.eval_shape(
        lambda key: problem.describe(problem.sample(key)), jax.random.key(0)
    )

    def validate(unit: chex.Array, training: inner.Training) -> chex.Array:
        return inner.judge(problem, spaces.decode(space, unit), training)

    def reset(key: Key, task: Task) -> TuningState:
        training = inner.begin(problem, key, spaces.decode(space, start), task)
        loss = validate(start, training)
        zero = jnp.zeros((), jnp.int32)
        described = jnp.clip((problem.describe(task) - mean) / scale, -_CUT, _CUT)
        return TuningState(training, start, zero, loss, loss, loss, zero, described)

    def step(key: Key, state: TuningState, action: chex.Array) -> tuple[TuningState, Transition]:
        del key  # the training keeps those that it began with
        by = move(action).astype(state.unit.dtype)
        unit = jnp.clip(state.unit.at[where].add(by), 0.0, 1.0)
        hparams = spaces.decode(space, unit)
        training = state.training
        fresh = problem.init(training.keys.init, hparams, training.task)
        first = jax.tree.map(
            lambda new, old: jnp.where(state.time == 0, new, old), fresh, training.state
        )
        training = segment(hparams, training._replace(state=first))
        loss = validate(unit, training)
        state = state._replace(
            training=training,
            unit=unit,
            time=state.time + 1,
            previous=state.loss,
            loss=loss,
            diverged=state.diverged + ~jnp.isfinite(loss),
        )
        return state, Transition(reward(state), state.time >= segments, jnp.array(False))

    def reward(state: TuningState) -> chex.Array:
        before, after = (
            capped(loss, state.initial, penalty) for loss in (state.previous, state.loss)
        )
        return fall(before, after, log_reward)

    def observe(state: TuningState) -> chex.Array:
        return _observation(state, segments, penalty)

    actions, move = _moves(moves, len(adjusted))
    observations = len(names) + 4 + math.prod(descriptor.shape)
    seen = Float(-_CUT, _CUT, shape=(observations,))
    return Environment(reset, step, observe, actions, seen, problem.sample)


def _moves(
    moves: Sequence[float] | Float, dimensions: int
) -> tuple[Space, Callable[[chex.Array], chex.Array]]:
    """The space of actions, and how much an action moves each dimension."""
    if isinstance(moves, Float):
        low, high = moves.low, moves.high
        return Float(low, high, shape=(dimensions,)), lambda action: jnp.clip(action, low, high)
    by = np.asarray(moves, float)
    return Choice(tuple(moves), shape=(dimensions,)), lambda action: jnp.asarray(by)[action]


def _observation(state: TuningState, segments: int, penalty: float) -> chex.Array:
    initial, previous, now = (
        safe_log(capped(loss, state.initial, penalty))
        for loss in (state.initial, state.previous, state.loss)
    )
    losses = jnp.stack([initial, now - initial, 10.0 * (now - previous)])
    time = 2.0 * jnp.minimum(state.time, segments).astype(state.unit.dtype) / segments - 1.0
    parts = (2.0 * state.unit - 1.0, jax.nn.soft_sign(losses), time[None], state.descriptor)
    return jnp.concatenate([part.astype(state.unit.dtype) for part in parts])


def _check(
    names: list[str],
    adjusted: list[str],
    segment_steps: int,
    segments: int,
    moves: Sequence[float] | Float,
    penalty: float,
) -> None:
    checks.counts(segment_steps=segment_steps, segments=segments)
    if not adjusted or len(set(adjusted)) < len(adjusted) or not set(adjusted) <= set(names):
        raise ValueError(f"adjust must name different dimensions of {names}, got {adjusted}")
    if isinstance(moves, Float):
        if moves.log or moves.shape or moves.step is not None:
            raise ValueError(f"moves must be a plain Float(low, high), got {moves}")
    elif not moves or not all(math.isfinite(move) for move in moves):
        raise ValueError(f"moves must be finite numbers, at least one, got {moves}")
    checks.positive(penalty=penalty)
