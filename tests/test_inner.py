"""The inner loop: every checkpoint mode is the same function and composes in the same way."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import inner
from metahpo.base import Problem

KEY = jax.random.key(0)
MODE = pytest.mark.parametrize("mode", inner.MODES)
# No square, a square, a prime, what is too short to nest, and nothing.
STEPS = pytest.mark.parametrize("steps", [0, 1, 3, 7, 9, 12])


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


def by_hand(steps: int, hparams=HPARAMS):
    """The same training in a Python loop: all states, and the loss."""
    problem = pendulum()
    init_key, step_key, loss_key = inner.keys(KEY)
    states = [problem.init(init_key, hparams, TASK)]
    for t in range(steps):
        states.append(problem.step(jax.random.fold_in(step_key, t), hparams, TASK, states[-1]))
    return states, problem.loss(loss_key, hparams, TASK, states[-1])


def loss_of(steps: int, mode: str, noisy: bool = True) -> Callable[[dict], chex.Array]:
    run = inner.outer_loss(pendulum(noisy), steps, mode)
    return lambda hparams: run(KEY, hparams, TASK)[0]


@MODE
@STEPS
def test_unroll_equals_the_python_loop(mode, steps):
    states, loss = by_hand(steps)
    result = jax.jit(inner.outer_loss(pendulum(), steps, mode))(KEY, HPARAMS, TASK)
    chex.assert_trees_all_close(result, (loss, states[-1]), rtol=1e-12)
    assert result[1]["count"] == steps


@MODE
@STEPS
def test_gradient_equals_that_of_the_python_loop(mode, steps):
    expected = jax.grad(lambda h: by_hand(steps, h)[1])(HPARAMS)
    result = jax.jit(jax.grad(loss_of(steps, mode)))(HPARAMS)
    chex.assert_trees_all_close(result, expected, rtol=1e-10)


@MODE
@STEPS
def test_recording_sees_every_state(mode, steps):
    states, _ = by_hand(steps)
    train = inner.unroll(pendulum(), steps, mode, record=lambda s: (s["angle"], s["count"]))
    state, (angles, counts) = jax.jit(train)(KEY, HPARAMS, TASK)
    chex.assert_trees_all_close(state, states[-1], rtol=1e-12)
    assert angles.shape == (steps, 2) and counts.tolist() == list(range(1, steps + 1))
    for angle, expected in zip(angles, states[1:], strict=True):
        np.testing.assert_allclose(angle, expected["angle"], rtol=1e-12)


def transformations() -> dict[str, Callable]:
    point = jax.tree.map(jnp.asarray, HPARAMS)
    direction = {"rate": jnp.array(1.0), "speed": jnp.array([0.3, -2.0])}
    batch = {"rate": jnp.array([0.1, 0.3]), "speed": jnp.ones((2, 2))}
    return {
        "jvp": lambda f: jax.jvp(f, (point,), (direction,)),
        "vmap": lambda f: jax.vmap(f)(batch),
        "vmap of grad": lambda f: jax.vmap(jax.grad(f))(batch),
        "grad of grad": lambda f: jax.grad(lambda h: jax.grad(f)(h)["rate"])(point),
        "forward over reverse": lambda f: jax.jvp(jax.grad(f), (point,), (direction,)),
    }


def test_every_transformation_of_a_checkpointed_loop_equals_the_plain_one():
    for name, transform in transformations().items():
        plain, step, sqrt = (
            jax.jit(lambda mode=mode, t=transform: t(loss_of(7, mode, noisy=False)))()
            for mode in inner.MODES
        )
        chex.assert_trees_all_close(step, plain, rtol=1e-10, custom_message=name)
        chex.assert_trees_all_close(sqrt, plain, rtol=1e-10, custom_message=name)


def test_second_derivative_agrees_with_finite_differences():
    slope = jax.jit(lambda rate: jax.grad(loss_of(7, "none"))(HPARAMS | {"rate": rate})["rate"])
    difference = (slope(0.3 + 1e-5) - slope(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(slope))(0.3), difference, rtol=1e-6)


@pytest.mark.parametrize("lengths", [(4, 3, 2), (0, 9), (1, 8)])
def test_segments_equal_the_whole(lengths):
    problem = pendulum()
    init_key, step_key, _ = inner.keys(KEY)
    state, start = problem.init(init_key, HPARAMS, TASK), 0
    for length in lengths:
        state = inner.advance(problem, length, "sqrt")(step_key, HPARAMS, TASK, state, start)
        start += length
    whole = jax.jit(inner.unroll(problem, 9))(KEY, HPARAMS, TASK)
    chex.assert_trees_all_close(state, whole, rtol=1e-12)


def test_a_segment_may_start_at_a_traced_step():
    problem = pendulum()
    states, _ = by_hand(7)
    go_on = jax.jit(
        lambda start: inner.advance(problem, 3)(
            inner.keys(KEY).steps, HPARAMS, TASK, states[4], start
        )
    )
    chex.assert_trees_all_close(go_on(4), states[7], rtol=1e-12)


def test_checkpointing_saves_memory():
    """Long training of a wide state: each mode keeps less than the one before."""

    def step(key, hparams, task, state):
        for _ in range(4):
            state = jnp.sin(hparams["rate"] * state)
        return state

    problem = pendulum()._replace(
        init=lambda key, hparams, task: jnp.ones(10_000),
        step=step,
        loss=lambda key, hparams, task, state: state.sum(),
    )

    def memory(mode):
        grad = jax.grad(
            lambda rate: inner.outer_loss(problem, 100, mode)(KEY, {"rate": rate}, 0)[0]
        )
        return jax.jit(grad).lower(0.9).compile().memory_analysis().temp_size_in_bytes / 80_000

    none, step_, sqrt = (memory(mode) for mode in inner.MODES)
    assert none > 300  # in states: several intermediate values for each of the 100 steps
    assert 100 <= step_ < 120
    assert sqrt < 35  # 10 segments' first states, and the 10 states of one segment


@pytest.mark.parametrize("steps", [-1, 2.5])
def test_refuses_a_wrong_number_of_steps(steps):
    with pytest.raises(ValueError, match=f"whole number of at least 0, got {steps}"):
        inner.unroll(pendulum(), steps)


def test_refuses_an_unknown_checkpoint_mode():
    with pytest.raises(ValueError, match="checkpoint must be one of .*'sqrt'.*, got 'all'"):
        inner.unroll(pendulum(), 3, "all")


@pytest.mark.parametrize("loss", [jnp.zeros(3), jnp.array(1), jnp.array(1j)])
def test_refuses_a_loss_that_is_not_a_real_scalar(loss):
    problem = pendulum()._replace(loss=lambda *_: loss)
    with pytest.raises(ValueError, match=f"real scalar, got shape .* dtype {loss.dtype}"):
        inner.outer_loss(problem, 1)(KEY, HPARAMS, TASK)
