"""Optimisers that divide by a root: hypergradients where a parameter's gradient is zero."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.safe_sqrt import with_safe_sqrt

pytestmark = pytest.mark.versions

updates = importlib.import_module("metahpo.updates")
KEY = jax.random.key(0)
TASK = np.random.default_rng(0).normal(size=(8, 4)) * [0.0, 1.0, 1.0, 1.0]  # no first feature
OPTIMIZERS = {
    "adabelief": optax.adabelief,
    "adafactor": optax.adafactor,  # in float32 the power -3/2 of its 1e-30 overflows
    "adagrad": functools.partial(optax.adagrad, initial_accumulator_value=0.0),
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "lamb": optax.lamb,
    "lion": optax.lion,
    "nadam": optax.nadam,
    "novograd": optax.novograd,
    # In its first five steps the root of a negative number, for a branch that is not chosen.
    "radam": optax.radam,
    "rmsprop": functools.partial(optax.rmsprop, eps_in_sqrt=False),
    "yogi": optax.yogi,
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def problem(optimizer):
    """A tanh neuron without its first feature, and a tensor that the loss does not see."""

    def loss(params, task, split):
        return jnp.mean((jnp.tanh(task[:, :3] @ params["w"]) - task[:, 3]) ** 2)

    def init(key, task):
        return {"unseen": jnp.zeros(2), "w": jnp.array([1.0, -0.5, 0.7])}

    family = mh.TaskFamily(lambda key: TASK, init, loss, lambda task: jnp.zeros(0))
    return mh.problems.training(family, lambda h: optimizer(h["lr"]))


def slope(estimator, rate):
    return estimator.estimate(KEY, {"lr": rate}, TASK, ())[0].grad["lr"]


def outer_loss(optimizer, rate):
    return mh.inner.outer_loss(problem(optimizer), 2)(KEY, {"lr": rate}, TASK)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_hypergradients_agree_with_finite_differences(optimizer):
    loss = jax.jit(functools.partial(outer_loss, optimizer))
    expected = (loss(0.05 + 1e-5) - loss(0.05 - 1e-5)) / 2e-5
    reverse = mh.hypergrad.reverse(problem(optimizer), 2, "none")
    result = jax.jit(functools.partial(slope, reverse))(0.05)
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [3, 4, 6])
def test_radam_agrees_with_finite_differences_while_its_factor_is_not_a_number(steps):
    def loss(rate):
        return mh.inner.outer_loss(problem(optax.radam), steps)(KEY, {"lr": rate}, TASK)[0]

    loss = jax.jit(loss)
    expected = (loss(0.05 + 1e-5) - loss(0.05 - 1e-5)) / 2e-5
    for estimator in (mh.hypergrad.reverse, mh.hypergrad.forward):
        found = slope(estimator(problem(optax.radam), steps), 0.05)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_products_of_a_root_in_a_branch_that_is_not_chosen_have_no_slope():
    def fn(x):
        factor = jnp.sqrt(x - 2.0)  # of a negative number
        return jnp.where(x > 2, factor * x / (factor + x**2), 3.0 * x)

    safe = with_safe_sqrt(fn)
    assert np.isnan(jax.grad(fn)(1.0)) and jax.grad(safe)(1.0) == 3.0
    assert jax.grad(jax.grad(safe))(1.0) == 0.0 and jax.jvp(safe, (1.0,), (1.0,))[1] == 3.0
    for x in (3.0, 7.5):
        assert safe(x) == fn(x)
        np.testing.assert_allclose(jax.grad(safe)(x), jax.grad(fn)(x), rtol=1e-6)
    # What is chosen and not a number is told.
    assert np.isnan(with_safe_sqrt(lambda x: jnp.where(x > 0, x * jnp.sqrt(x - 2), x))(1.0))


@pytest.mark.usefixtures("x64")
def test_second_derivative_agrees_with_finite_differences():
    reverse = functools.partial(slope, mh.hypergrad.reverse(problem(optax.adam), 2, "step"))
    second = jax.jit(lambda rate: jnp.stack([reverse(rate), jax.grad(reverse)(rate)]))
    expected = (second(0.05 + 1e-5) - second(0.05 - 1e-5))[0] / 2e-5
    np.testing.assert_allclose(second(0.05)[1], expected, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_every_mode_gives_what_training_without_the_idle_parameters_gives():
    def alone(params, task, split):
        return jnp.mean((jnp.tanh(task[:, 1:3] @ params) - task[:, 3]) ** 2)

    family = mh.TaskFamily(
        lambda key: None, lambda key, task: jnp.array([-0.5, 0.7]), alone, lambda task: None
    )
    without = mh.problems.training(family, lambda h: optax.adam(h["lr"]))
    modes = [
        mh.hypergrad.reverse(without, 5, "none"),
        *(mh.hypergrad.reverse(problem(optax.adam), 5, m) for m in ("none", "step", "sqrt")),
        mh.hypergrad.forward(problem(optax.adam), 5),
    ]
    exact, *results = jax.jit(lambda rate: [slope(mode, rate) for mode in modes])(0.05)
    np.testing.assert_allclose(results, exact, rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "lamb", "novograd", "rmsprop"])
@pytest.mark.optimised
def test_training_has_the_same_bits_with_and_without(name, monkeypatch):
    def train(rate):
        return mh.inner.unroll(problem(OPTIMIZERS[name]), 5)(KEY, {"lr": rate}, TASK)

    state = jax.jit(train)(0.05)
    monkeypatch.setattr(updates, "with_safe_sqrt", lambda fn: fn)
    jax.tree.map(np.testing.assert_array_equal, state, jax.jit(lambda rate: train(rate))(0.05))


def test_without_it_the_hypergradient_is_not_a_number(monkeypatch):
    monkeypatch.setattr(updates, "with_safe_sqrt", lambda fn: fn)
    forward = mh.hypergrad.forward(problem(optax.adam), 2)
    assert np.isnan(jax.jit(functools.partial(slope, forward))(0.05))


def test_the_slope_of_adam_at_a_zero_gradient_is_the_true_one():
    # A first step of Adam is -rate g / (|g| + eps), whose derivative at g = 0 is -rate / eps.
    adam = optax.adam(0.1, eps=0.5)
    update = with_safe_sqrt(adam.update)
    step = lambda g: update(g, adam.init(g))[0]  # noqa: E731
    np.testing.assert_allclose(jax.grad(step)(0.0), -0.2, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(step, (0.0,), (1.0,))[1], -0.2, rtol=1e-6)
    slopes = jax.vmap(jax.grad(step))(jnp.array([0.0, 0.25]))
    np.testing.assert_allclose(slopes, [-0.2, -0.1 * 0.5 / 0.75**2], rtol=1e-5)


@pytest.mark.parametrize(
    "root",
    [jnp.sqrt, jnp.cbrt, lambda x: x**0.5, lambda x: jnp.where(x > 0, jax.lax.rsqrt(x), 0.0)],
    ids=["sqrt", "cbrt", "power", "rsqrt"],
)
def test_roots_keep_values_and_slopes_and_are_flat_at_zero(root):
    safe = with_safe_sqrt(root)
    x = jnp.array([0.0, 1e-30, 0.3, 7.0, jnp.inf])
    np.testing.assert_array_equal(safe(x), root(x))
    slope = jax.vmap(jax.grad(safe))(x)
    assert slope[0] == jax.grad(jax.grad(safe))(0.0) == 0.0
    np.testing.assert_array_equal(slope[1:], jax.vmap(jax.grad(root))(x[1:]))
    assert np.isnan(with_safe_sqrt(jnp.sqrt)(-1.0))


def test_roots_within_control_flow_are_found():
    def looped(x):
        return jax.lax.scan(lambda c, _: (c + jnp.sqrt(x * c), None), 0.0 * x, length=2)[0]

    def chosen(x):
        return jax.lax.cond(x < 1, lambda x: jnp.sqrt(x**2) + x, lambda x: x, x)

    def nested(x):
        return jnp.linalg.norm(jnp.stack([x, x])) + x

    def repeated(x):
        return jax.lax.fori_loop(0, 2, lambda i, c: c + jnp.sqrt(x**2), x)

    for fn in (looped, chosen, nested, repeated):
        trapped, result = (jax.jvp(f, (0.0,), (1.0,))[1] for f in (fn, with_safe_sqrt(fn)))
        assert np.isnan(trapped)
        assert result == (0.0 if fn is looped else 1.0)


def test_what_has_no_root_is_left_alone():
    def fn(x):
        jax.debug.callback(lambda x: None, x)
        return {"complex": jnp.sqrt(x + 0j), "key": jax.random.key(3), "none": None, "x": x**2.0}

    out, expected = with_safe_sqrt(fn)(4.0), fn(4.0)
    assert out["complex"] == 2.0 and out["x"] == 16.0 and out["none"] is None
    assert jnp.array_equal(out["key"], expected["key"])


def test_nothing_is_compiled_again_outside_of_jit(caplog):
    update = with_safe_sqrt(lambda x: jnp.linalg.norm(x) + 1.0)
    with jax.log_compiles():
        update(jnp.ones(7))
        first = len(caplog.records)
        update(jnp.zeros(7))
    assert len([r for r in caplog.records[first:] if "XLA compilation" in r.message]) == 0
    assert len([r for r in caplog.records[:first] if "XLA compilation" in r.message]) > 0
