"""The inner loop: every checkpoint mode is the same function and composes in the same way."""

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import inner, recomputation
from metahpo.base import Problem
from metahpo.recomputation import MODES

KEY = jax.random.key(0)
# By row (scope="module"), so that one worker compiles a row's program, once.
MODE = pytest.mark.parametrize("mode", (*MODES, 6), scope="module")
# No square, a square, a prime, what is too short to nest, and nothing.
STEPS = pytest.mark.parametrize("steps", [0, 1, 3, 7, 9, 12], scope="module")


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def pendulum(noisy: bool = True) -> Problem:
    """A nonlinear step with noise from its key, a step counter, and parameters in two arrays."""

    def init(key, hparams, task):
        return {"angle": jax.random.uniform(key, (2,)), "speed": hparams["speed"], "count": 0}

    def step(key, hparams, task, state):
        kick = 0.1 * jax.random.uniform(key, (2,)) if noisy else 0.0  # drawing is slow to compile
        speed = state["speed"] - hparams["rate"] * jnp.sin(state["angle"]) * task + kick
        angle = state["angle"] + hparams["rate"] * speed
        return {"angle": angle, "speed": speed, "count": state["count"] + 1}

    def loss(key, hparams, task, state):
        target = jax.random.uniform(key, (2,))
        return jnp.sum((state["angle"] - target) ** 2) + hparams["rate"] * jnp.sum(state["speed"])

    return Problem(lambda key: jnp.ones(()), init, step, loss, lambda task: task[None])


HPARAMS = {"rate": 0.3, "speed": np.array([0.5, -0.2])}
TASK = 1.2


def train_by_hand(steps: int, hparams):
    """The same training in a Python loop: the loss, and all states."""
    problem = pendulum()
    init_key, step_key, loss_key = inner.keys(KEY)
    states = [problem.init(init_key, hparams, TASK)]
    for t in range(steps):
        states.append(STEP(jax.random.fold_in(step_key, t), hparams, TASK, states[-1]))
    return problem.loss(loss_key, hparams, TASK, states[-1]), states


STEP = jax.jit(pendulum().step)


@functools.cache
def by_hand(steps: int):
    """The loss, all states, and the gradient of the loss."""
    train = jax.value_and_grad(train_by_hand, argnums=1, has_aux=True)
    (loss, states), grad = train(steps, HPARAMS)
    return loss, states, grad


def loss_of(steps: int, mode: str, noisy: bool = True) -> Callable[[dict], chex.Array]:
    run = inner.outer_loss(pendulum(noisy), steps, mode)
    return lambda hparams: run(KEY, hparams, TASK)[0]


@functools.cache
def outcome(steps: int, mode: str):
    """``outer_loss``, its gradient and a recorded ``unroll``, each in a loop of its own."""
    run = inner.outer_loss(pendulum(), steps, mode)
    train = inner.unroll(pendulum(), steps, mode, record=lambda s: (s["angle"], s["count"]))

    @jax.jit
    def program(hparams):
        return (
            run(KEY, hparams, TASK),
            jax.grad(loss_of(steps, mode))(hparams),
            train(KEY, hparams, TASK),
        )

    return program(HPARAMS)


@MODE
@STEPS
def test_unroll_equals_the_python_loop(mode, steps):
    loss, states, _ = by_hand(steps)
    result, _, _ = outcome(steps, mode)
    chex.assert_trees_all_close(result, (loss, states[-1]), rtol=1e-12)
    assert result[1]["count"] == steps


@MODE
@STEPS
def test_gradient_equals_that_of_the_python_loop(mode, steps):
    chex.assert_trees_all_close(outcome(steps, mode)[1], by_hand(steps)[2], rtol=1e-10)


@MODE
@STEPS
def test_recording_sees_every_state(mode, steps):
    _, states, _ = by_hand(steps)
    _, _, (state, (angles, counts)) = outcome(steps, mode)
    chex.assert_trees_all_close(state, states[-1], rtol=1e-12)
    assert angles.shape == (steps, 2) and counts.tolist() == list(range(1, steps + 1))
    for angle, expected in zip(np.asarray(angles), states[1:], strict=True):
        np.testing.assert_allclose(angle, expected["angle"], rtol=1e-12)


def transformations() -> dict[str, Callable]:
    point = jax.tree.map(jnp.asarray, HPARAMS)
    direction = {"rate": jnp.array(1.0), "speed": jnp.array([0.3, -2.0])}
    batch = {"rate": jnp.array([0.1, 0.3]), "speed": jnp.ones((2, 2))}
    rate = lambda f: lambda h: jax.grad(f)(h)["rate"]  # noqa: E731
    alone = {
        "jvp": lambda f: lambda h: jax.jvp(f, (h,), (direction,)),
        "grad": jax.grad,
        "grad of grad": lambda f: jax.grad(rate(f)),
        "forward over reverse": lambda f: lambda h: jax.jvp(jax.grad(f), (h,), (direction,)),
    }
    over = {f"vmap of {name}": lambda f, t=t: jax.vmap(t(f))(batch) for name, t in alone.items()}
    return over | {name: lambda f, t=t: t(f)(point) for name, t in alone.items()}


@pytest.mark.slow
def test_every_transformation_of_a_checkpointed_loop_equals_the_plain_one():
    for name, transform in transformations().items():
        plain, *others = (
            jax.jit(lambda mode=mode, t=transform: t(loss_of(9, mode, noisy=False)))()
            for mode in (*MODES, 5)
        )
        for other in others:
            chex.assert_trees_all_close(other, plain, rtol=1e-10, custom_message=name)


def test_second_derivative_agrees_with_finite_differences():
    slope = lambda rate: jax.grad(loss_of(7, "none"))(HPARAMS | {"rate": rate})["rate"]  # noqa: E731
    slopes = jax.jit(jax.value_and_grad(slope))
    difference = (slopes(0.3 + 1e-5)[0] - slopes(0.3 - 1e-5)[0]) / 2e-5
    np.testing.assert_allclose(slopes(0.3)[1], difference, rtol=1e-6)


@pytest.mark.parametrize("lengths", [(4, 3, 2), (0, 9), (1, 8)])
def test_segments_equal_the_whole(lengths):
    problem = pendulum()
    training = inner.begin(problem, KEY, HPARAMS, TASK)
    for length in lengths:
        training = inner.advance(problem, length, "sqrt")(HPARAMS, training)
    whole = jax.jit(inner.unroll(problem, 9))(KEY, HPARAMS, TASK)
    chex.assert_trees_all_close(training.state, whole, rtol=1e-12)


def test_a_segment_may_start_at_a_traced_step():
    problem = pendulum()
    _, states, _ = by_hand(7)
    there = inner.Training(inner.keys(KEY), TASK, states[4], 4)
    go_on = jax.jit(lambda start: inner.advance(problem, 3)(HPARAMS, there._replace(steps=start)))
    chex.assert_trees_all_close(go_on(4).state, states[7], rtol=1e-12)


def stored_states(step, mode) -> float:
    """Temporary memory of the gradient of 100 steps, in states of 10,000 numbers."""
    problem = pendulum()._replace(
        init=lambda key, hparams, task: jnp.eye(100),
        step=lambda key, hparams, task, state: step(hparams["rate"], state),
        loss=lambda key, hparams, task, state: state.sum(),
    )
    grad = jax.grad(lambda rate: inner.outer_loss(problem, 100, mode)(KEY, {"rate": rate}, 0)[0])
    return jax.jit(grad).lower(0.9).compile().memory_analysis().temp_size_in_bytes / 80_000


def test_checkpointing_saves_memory():
    """Each mode keeps less than the one before."""

    def step(rate, state):
        for _ in range(3):
            state = jnp.sin(rate * state @ state)
        return state

    assert 400 <= stored_states(step, "none") < 420  # a state and three products a step
    assert 100 <= stored_states(step, "step") < 115
    assert stored_states(step, "sqrt") < 32  # 10 pieces' first states, and the 10 of one piece
    assert stored_states(step, 20) < 32
    assert stored_states(step, 14) < 26


def test_keeping_everything_keeps_no_elementwise_value():
    def step(rate, state):
        for _ in range(4):
            state = jnp.sin(rate * state)
        return state

    assert 100 <= stored_states(step, "none") < 110  # the states: the loop's carry


@pytest.mark.parametrize("steps", [5, 12, 64, 100, 997, 10_000, 12_345])
@pytest.mark.parametrize("states", [35, 40, 60, 140])
def test_a_plan_covers_all_steps_with_the_states_it_has(steps, states):
    plan = recomputation.plan(steps, states)
    assert math.prod(plan.levels) * plan.block + plan.tail == steps
    assert plan.states <= states
    # Loops of equal lengths cover the most; a tail may cost one level more.
    depth = next(d for d in range(1, states) if max(1, states / d) ** d >= steps)
    assert len(plan.levels) <= depth + (plan.tail > 0)


def test_ten_thousand_steps_need_sixty_states_and_four_evaluations():
    plan = recomputation.plan(10_000, 60)
    assert plan.states <= 60 and plan.evaluations <= 4


@pytest.mark.parametrize(("steps", "states", "least"), [(64, 10, 11), (997, 20, 22), (7, 3, 4)])
def test_too_few_states_are_refused_and_the_least_is_named(steps, states, least):
    with pytest.raises(ValueError, match=f"{states} stored states cannot .*, {least} is the least"):
        inner.unroll(pendulum(), steps, states)
    assert recomputation.plan(steps, least).states <= least


@pytest.mark.parametrize("checkpoint", ["all", 0, -3, 2.5, True])
def test_refuses_an_unknown_checkpoint(checkpoint):
    with pytest.raises(ValueError, match=f"one of .*'sqrt'.* number of states, got {checkpoint!r}"):
        inner.unroll(pendulum(), 3, checkpoint)


@pytest.mark.parametrize("steps", [-1, 2.5])
def test_refuses_a_wrong_number_of_steps(steps):
    with pytest.raises(ValueError, match=f"whole number of at least 0, got {steps}"):
        inner.unroll(pendulum(), steps)


@pytest.mark.parametrize("loss", [jnp.zeros(3), jnp.array(1), jnp.array(1j)])
def test_refuses_a_loss_that_is_not_a_real_scalar(loss):
    problem = pendulum()._replace(loss=lambda *_: loss)
    with pytest.raises(ValueError, match=f"real scalar, got shape .* dtype {loss.dtype}"):
        inner.outer_loss(problem, 1)(KEY, HPARAMS, TASK)
