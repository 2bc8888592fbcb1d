"""Reverse and forward mode: what they keep in memory, and what they tell."""

import itertools
import re

import closed_forms as forms
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

pytestmark = pytest.mark.versions

KEY = jax.random.key(0)
WIDTH = 50_000


def wide() -> mh.Problem:
    """A nonlinear step of a wide state."""

    def step(key, hparams, task, state):
        return jnp.sin(hparams["rate"] * jnp.sin(state)) + hparams["rate"]

    return mh.problems.function(lambda h: h["rate"])._replace(
        init=lambda key, hparams, task: jnp.ones(WIDTH),
        step=step,
        loss=lambda key, hparams, task, state: state.sum(),
    )


def states_kept(estimator):
    run = jax.jit(lambda rate: estimator.estimate(KEY, {"rate": rate}, None, ())[0].grad)
    memory = run.lower(0.9).compile().memory_analysis().temp_size_in_bytes
    return memory / (WIDTH * jnp.ones(()).dtype.itemsize)


def test_forward_mode_keeps_no_more_for_longer_trainings():
    short, long = (states_kept(mh.hypergrad.forward(wide(), steps)) for steps in (10, 1000))
    assert short == long < 10


def network(optimizer, batch: int = 64) -> mh.Problem:
    """A tanh MLP with 9,000 parameters."""
    sizes = (64, 128, 10)

    def init(key, task):
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            jax.random.normal(k, s) / 8
            for k, s in zip(keys, itertools.pairwise(sizes), strict=True)
        ]

    def loss(params, task, split):
        logits = jnp.tanh(task @ params[0]) @ params[1]
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0])

    family = mh.TaskFamily(
        lambda key: jax.random.normal(key, (batch, sizes[0])), init, loss, lambda task: task[0]
    )
    return mh.problems.training(family, optimizer)


def convolutions() -> mh.Problem:
    """Two layers of 3 x 3 filters with a stride on 16 small images."""
    numbers = ("NHWC", "HWIO", "NHWC")

    def init(key, task):
        first, second = jax.random.split(key)
        return (
            jax.random.normal(first, (3, 3, 1, 16)) / 3,
            jax.random.normal(second, (3, 3, 16, 16)) / 12,
        )

    def loss(params, task, split):
        for filters in params:
            task = jnp.tanh(
                jax.lax.conv_general_dilated(
                    task, filters, (2, 2), "SAME", dimension_numbers=numbers
                )
            )
        return jnp.mean(task**2)

    family = mh.TaskFamily(
        lambda key: jax.random.normal(key, (16, 16, 16, 1)), init, loss, lambda task: task[0]
    )
    return mh.problems.training(family, lambda h: optax.sgd(h["lr"]))


def bytes_used(problem, steps, **options) -> int:
    estimator = mh.hypergrad.reverse(problem, steps, **options)

    def grad(lr, task):
        return estimator.estimate(KEY, {"lr": lr}, task, ())[0].grad

    lowered = jax.jit(grad).lower(0.1, problem.sample(KEY))
    return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem",
    [network(lambda h: optax.adam(h["lr"])), convolutions()],
    ids=["adam", "convolutions"],
)
def test_the_compiled_memory_stays_within_the_budget_and_makes_use_of_it(problem, monkeypatch):
    steps = 100
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where keeping all is fastest
    none, few = (bytes_used(problem, steps, checkpoint=c) for c in ("none", 30))
    assert none > 3 * few
    # A quarter more than is used where everything is kept, and where few states are.
    for used in (none, few):
        budget = int(1.25 * used)
        result = bytes_used(problem, steps, memory_budget=budget)
        assert 0.7 * used <= result <= 1.1 * budget


def test_auto_keeps_every_state_on_a_cpu_while_they_fit():
    assert 64 <= states_kept(mh.hypergrad.reverse(wide(), 64)) < 70
    state = WIDTH * 4
    some = mh.hypergrad.reverse(wide(), 64, memory_budget=30 * state)
    assert 16 <= states_kept(some) <= 33


def test_a_budget_that_is_too_small_says_what_would_do():
    problem = network(lambda h: optax.sgd(h["lr"]))
    with pytest.raises(ValueError, match="memory_budget=1000 bytes is too small for 100 steps"):
        bytes_used(problem, 100, memory_budget=1000)
    with pytest.raises(ValueError, match=r"need about (\d+)") as error:
        bytes_used(problem, 100, memory_budget=100_000)
    enough = int(re.search(r"need about (\d+)", str(error.value))[1])
    assert bytes_used(problem, 100, memory_budget=enough) <= 1.1 * enough


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "half"}, "checkpoint must be one of .*, got 'half'"),
        ({"checkpoint": 3}, "checkpoint=3 stored states cannot hold 64 steps, 11 is the least"),
        ({"memory_budget": -1}, "memory_budget must be positive, got -1"),
        ({"memory_budget": 0}, "memory_budget must be positive, got 0"),
        (
            {"memory_budget": 9, "checkpoint": "step"},
            "memory_budget needs checkpoint='auto', got checkpoint='step'",
        ),
    ],
)
def test_refuses_what_it_cannot_do(options, message):
    with pytest.raises(ValueError, match=message):
        mh.hypergrad.reverse(wide(), 64, **options)


@pytest.mark.parametrize(("lr", "exploding"), [(0.4, False), (2.6, True)])
def test_the_explosion_exponent_of_scalar_dynamics_is_that_of_the_step(lr, exploding):
    a, steps = 1.1, 20
    with jax.enable_x64(True):
        estimate, _ = mh.hypergrad.reverse(forms.scalar_dynamics(), steps).estimate(
            KEY, forms.scalar_hparams(lr), jnp.array(a), ()
        )
    expected = np.log(abs(1 - a * lr))
    np.testing.assert_allclose(estimate.info["explosion_exponent"], expected, rtol=1e-10)
    assert estimate.info["exploding"] == exploding


def test_the_exponent_outlives_the_overflow_of_the_gradients_square():
    """In single precision: the state's gradient ends at 1e25, its square at infinity."""
    steps, lr = 25, 11.0
    hparams = jax.tree.map(jnp.asarray, {"lr": lr, "start": 1e-20, "power": 1})
    estimate, _ = mh.hypergrad.reverse(forms.scalar_dynamics(), steps).estimate(
        KEY, hparams, jnp.array(1.0), ()
    )
    assert estimate.info["explosion_exponent"].dtype == jnp.float32
    np.testing.assert_allclose(estimate.info["explosion_exponent"], np.log(10.0), rtol=1e-5)


def test_an_overflowing_gradient_counts_as_exploding():
    estimate, _ = mh.hypergrad.reverse(forms.scalar_dynamics(), 50).estimate(
        KEY, forms.scalar_hparams(1e30), jnp.array(1.0), ()
    )
    assert estimate.info["exploding"] and not estimate.info["finite"]


def test_a_hyperparameter_without_effect_is_told():
    hparams = forms.scalar_hparams(0.3) | {"unused": jnp.ones(3)}
    estimate, _ = mh.hypergrad.reverse(forms.scalar_dynamics(), 3).estimate(
        KEY, hparams, jnp.array(1.1), ()
    )
    told = {name: bool(zero) for name, zero in estimate.info["zero_grad"].items()}
    assert told == {"lr": False, "start": False, "power": True, "unused": True}
