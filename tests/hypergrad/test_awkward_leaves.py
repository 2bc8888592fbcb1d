"""Leaves that are not the usual floats: keys, complex numbers, Python values, half precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import hypergrad

KEY = jax.random.key(1)


def problem(init, step, loss):
    return mh.Problem(lambda key: None, init, step, loss)


def estimate(estimator, hparams):
    memory = estimator.init(jax.random.key(0), hparams, None)
    return jax.jit(estimator.estimate)(KEY, hparams, None, memory)[0]


def keyed():
    """A training whose state holds the key of its noise."""

    def step(key, hparams, task, state):
        w, own = state
        own, sub = jax.random.split(own)
        return w - hparams["lr"] * (w - 1 + 0.1 * jax.random.normal(sub)), own

    return problem(
        lambda key, h, task: (jnp.zeros(()), jax.random.key(5)),
        step,
        lambda key, h, task, state: (state[0] - 1) ** 2,
    )


def slope(problem, hparams, steps):
    loss = mh.inner.outer_loss(problem, steps, "none")
    return jax.jit(jax.grad(lambda h: loss(KEY, h, None)[0]))(hparams)


@pytest.mark.parametrize(
    ("make", "rtol"),
    [
        (lambda p: hypergrad.reverse(p, 6), 1e-6),
        (lambda p: hypergrad.forward(p, 6), 1e-5),
        (lambda p: hypergrad.es(p, 6, 2000, 1e-3), 0.1),
        (lambda p: hypergrad.pes(p, 6, 6, 2000, 1e-3), 0.1),
        (lambda p: hypergrad.nres(p, 6, 6, 2000, 1e-3), 0.1),
    ],
    ids=["reverse", "forward", "es", "pes", "nres"],
)
def test_a_typed_key_in_the_state_is_carried_along(make, rtol):
    hparams = {"lr": jnp.array(0.1)}
    found = estimate(make(keyed()), hparams).grad["lr"]
    np.testing.assert_allclose(found, slope(keyed(), hparams, 6)["lr"], rtol=rtol)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: hypergrad.reverse(p, 1),
        lambda p: hypergrad.forward(p, 1),
        lambda p: hypergrad.es(p, 1, 50, 0.1),
    ],
    ids=["reverse", "forward", "es"],
)
def test_a_typed_key_among_the_hyperparameters_has_no_gradient(make):
    function = mh.problems.function(lambda h: h["x"] ** 2 + 0 * jax.random.normal(h["key"]))
    result = estimate(make(function), {"x": jnp.array(3.0), "key": jax.random.key(7)})
    np.testing.assert_allclose(result.grad["x"], 6.0, rtol=0.2)
    assert not jax.random.key_data(result.grad["key"]).any()
    assert result.info["zero_grad"]["key"]


def complex_regression():
    rng = np.random.default_rng(0)
    a, c = (jnp.asarray(rng.normal(size=(8, 3)) + 1j * rng.normal(size=(8, 3))) for _ in range(2))
    b, d = (jnp.asarray(rng.normal(size=8) + 1j * rng.normal(size=8)) for _ in range(2))

    def inner(w, l2):
        return jnp.mean(jnp.abs(a @ w - b) ** 2) + l2 * jnp.sum(jnp.abs(w) ** 2)

    return problem(
        lambda key, h, task: jnp.zeros(3, complex),
        # JAX's gradient of a complex number is conjugated.
        lambda key, h, task, w: w - h["lr"] * jnp.conj(jax.grad(inner)(w, h["l2"])),
        lambda key, h, task, w: jnp.mean(jnp.abs(c @ w - d) ** 2),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda p: hypergrad.reverse(p, 10),
        lambda p: hypergrad.reverse(p, 10, "none"),
        lambda p: hypergrad.reverse(p, 10, "step"),
        lambda p: hypergrad.forward(p, 10),
    ],
    ids=["auto", "none", "step", "forward"],
)
def test_complex_states_have_the_gradient_of_finite_differences(make):
    with jax.enable_x64(True):
        training, hparams = complex_regression(), {"lr": jnp.array(0.05), "l2": jnp.array(0.3)}
        found = estimate(make(training), hparams).grad
        loss = jax.jit(lambda h: mh.inner.outer_loss(training, 10)(KEY, h, None)[0])
        for name, value in hparams.items():
            above, below = (loss(hparams | {name: value + s * 1e-6}) for s in (1, -1))
            np.testing.assert_allclose(found[name], (above - below) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("checkpoint", ["auto", "none", "step"])
def test_a_fourier_transform_within_is_differentiated(checkpoint):
    x = jax.random.normal(jax.random.key(0), (6, 16))

    def inner(w):
        filtered = jnp.fft.irfft(jnp.fft.rfft(x) * (w + 0.1j), n=16)
        return jnp.mean((filtered - jnp.roll(x, 1, -1)) ** 2)

    training = problem(
        lambda key, h, task: jnp.ones(9),
        lambda key, h, task, w: w - h["lr"] * jax.grad(inner)(w),
        lambda key, h, task, w: inner(w),
    )
    hparams = {"lr": jnp.array(0.5)}
    found = estimate(hypergrad.reverse(training, 5, checkpoint), hparams).grad["lr"]
    loss = lambda lr: mh.inner.outer_loss(training, 5, "step")(KEY, {"lr": lr}, None)[0]  # noqa: E731
    np.testing.assert_allclose(found, jax.grad(loss)(0.5), rtol=1e-5)


def test_mixed_gradients_follow_complex_arrays_that_the_loss_closes_over():
    y, w = jnp.arange(5.0) + 1j, jnp.linspace(-1, 1, 5)

    def outer(phase, gradient):
        turned = jnp.exp(1j * phase * jnp.arange(5.0))
        g = gradient(lambda w: jnp.sum(jnp.abs(w * turned - y) ** 2))(w)
        return jnp.sum(g**2)

    found, expected = (jax.grad(outer)(0.3, g) for g in (mh.mixed_gradient, jax.grad))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_counter_that_begins_as_a_python_number_goes_on_as_a_float():
    training = problem(
        lambda key, h, task: {"w": jnp.ones(4), "n": 0},
        lambda key, h, task, s: {"w": s["w"] * (1 - h["lr"]), "n": s["n"] + 1.0},
        lambda key, h, task, s: jnp.sum(s["w"]) + 0 * s["n"],
    )
    found = estimate(hypergrad.reverse(training, 5), {"lr": jnp.array(0.1)}).grad["lr"]
    np.testing.assert_allclose(found, -4 * 5 * 0.9**4, rtol=1e-6)


@pytest.mark.parametrize("solver", ["auto", "dense", "bicgstab", "cg"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_implicit_gradients_are_found_in_half_precision(dtype, solver):
    curvature = jnp.asarray([1.0, 2.0], dtype)

    def inner(h, w):
        return jnp.sum(curvature * (w - 1) ** 2) / 2 + h["l2"].astype(dtype) * jnp.sum(w**2) / 2

    training = problem(
        lambda key, h, task: jnp.zeros(2, dtype),
        lambda key, h, task, w: w - jnp.asarray(0.25, dtype) * jax.grad(inner, 1)(h, w),
        lambda key, h, task, w: jnp.sum(w),
    )
    found = estimate(hypergrad.implicit(training, 60, solver), {"l2": jnp.array(0.5)}).grad["l2"]
    c = np.array([1.0, 2.0])
    np.testing.assert_allclose(float(found), -np.sum(c / (c + 0.5) ** 2), rtol=0.05)


def test_scaling_the_loss_of_an_adam_training_does_not_make_it_explode():
    x = jax.random.normal(jax.random.key(0), (20, 4))

    def scaled(scale):
        def loss(w, task, split):
            rows = slice(0, 10) if split == "support" else slice(10, 20)
            return scale * jnp.mean((x[rows] @ w - x[rows].sum(1)) ** 2)

        family = mh.TaskFamily(lambda key: None, lambda key, task: jnp.zeros(4), loss)
        return mh.problems.training(family, lambda h: optax.adam(h["lr"]))

    for make in (hypergrad.reverse, hypergrad.forward):
        infos = [estimate(make(scaled(s), 20), {"lr": jnp.array(1e-3)}).info for s in (1.0, 1e-2)]
        assert not any(info["exploding"] for info in infos)
        first, second = (info["explosion_exponent"] for info in infos)
        np.testing.assert_allclose(first, second, atol=0.02)


def test_a_very_long_training_keeps_the_digits_of_its_gradient():
    steps = 10**5
    decay = problem(
        lambda key, h, task: jnp.ones(()),
        lambda key, h, task, w: w - h["lr"] * w,
        lambda key, h, task, w: w,
    )
    found = estimate(hypergrad.reverse(decay, steps), {"lr": jnp.array(1 / steps)}).grad["lr"]
    np.testing.assert_allclose(found, -steps * (1 - 1 / steps) ** (steps - 1), rtol=1e-4)
