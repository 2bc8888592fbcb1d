"""MAML++: each of its parts by hand, and five steps that stay finite."""

import jax
import jax.numpy as jnp
import known_task
import numpy as np
import optax
import pytest
from known_task import ALPHA, KNOWN, THETA, A, B, C, D, family

import metahpo as mh

KEY = jax.random.key(0)
UNGUARDED = {"largest_rate": 1e6, "largest_gradient": 1e30}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def plus_plus(steps, **options):
    options = {"initial_rate": ALPHA, "largest_gradient": 1e3, **options}
    return mh.meta.maml_plus_plus(family(), steps, **options)


def result_of(problem, steps, make=mh.hypergrad.reverse):
    return known_task.estimate(make, problem, steps, problem.initial(KEY))


def path_of(steps):
    """The parameters after every step and the Jacobians of those with respect to the start."""
    m = np.eye(2) - ALPHA * A
    powers = [np.linalg.matrix_power(m, k) for k in range(1, steps + 1)]
    return [C + power @ (THETA - C) for power in powers], powers


@pytest.mark.parametrize("steps", [1, 3])
def test_with_equal_rates_it_is_maml(steps, x64):
    result = result_of(plus_plus(steps), steps)
    np.testing.assert_allclose(result.grad["params"], KNOWN[steps][2], rtol=1e-12)
    np.testing.assert_allclose(result.info["state"].params, KNOWN[steps][0], rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_constant_gradients_make_it_first_order(steps, x64):
    result = result_of(plus_plus(steps, gradient=mh.meta.constant_gradient), steps)
    np.testing.assert_allclose(result.grad["params"], KNOWN[steps][3], rtol=1e-12)


def test_the_multi_step_loss_weighs_the_query_loss_of_every_step(x64):
    weights = np.array([0.5, 0.2, 0.3])
    points, jacobians = path_of(3)
    losses = [(t - D) @ B @ (t - D) / 2 for t in points]
    exact = sum(w * m @ B @ (t - D) for w, t, m in zip(weights, points, jacobians, strict=True))
    first = sum(w * B @ (t - D) for w, t in zip(weights, points, strict=True))
    for gradient, expected in ((jax.grad, exact), (mh.meta.constant_gradient, first)):
        result = result_of(plus_plus(3, weights=weights, gradient=gradient), 3)
        np.testing.assert_allclose(result.loss, weights @ losses, rtol=1e-12)
        np.testing.assert_allclose(result.grad["params"], expected, rtol=1e-12)


def test_the_gradient_of_the_rates_of_two_steps_by_hand(x64):
    """``d loss / d rate_t = -g' (d theta_K / d theta_t+1) A (theta_t - c)``, through the bound."""
    result = result_of(plus_plus(2), 2)
    (theta_1, theta_2), (m, _) = path_of(2)
    outer = B @ (theta_2 - D)
    by_rate = np.array([-outer @ m @ A @ (THETA - C), -outer @ A @ (theta_1 - C)])
    slope = 1 - (ALPHA / 10) ** 2  # of the hyperbolic tangent
    np.testing.assert_allclose(result.grad["rates"][""], slope * by_rate, rtol=1e-12)


def test_step_weights_go_from_equal_to_the_last_alone():
    np.testing.assert_allclose(mh.meta.step_weights(0.0, 5), 0.2, rtol=1e-6)
    half = mh.meta.step_weights(0.05, 5)
    np.testing.assert_allclose(half, [0.1, 0.1, 0.1, 0.1, 0.6], rtol=1e-6)
    for progress in (0.1, 0.5, 1.0):
        assert mh.meta.step_weights(progress, 5).tolist() == [0, 0, 0, 0, 1]
    assert mh.meta.step_weights(0.3, 1).tolist() == [1.0]


class Scaled:
    """``y = (x * w) * norm``: a network with one leaf for each step and one that adapts."""

    @staticmethod
    def init(key, x):
        return {"w": jnp.ones_like(x[0]), "norm": jnp.full_like(x[0], 2.0)}

    @staticmethod
    def apply(params, x):
        return x * params["w"] * params["norm"]


def line(key):
    x = jnp.array([[1.0], [2.0]])
    return mh.problems.Episode(mh.problems.Examples(x, 3 * x), mh.problems.Examples(2 * x, x))


@pytest.mark.parametrize("adapt", [False, True])
def test_every_step_has_a_normalisation_of_its_own(adapt, x64):
    """By hand: with ``s = mean x^2`` the support loss is ``s (w n - 3)^2``."""
    scaled = mh.problems.few_shot(line, Scaled, mh.problems.squared_error)
    problem = mh.meta.maml_plus_plus(scaled, 2, initial_rate=0.05, adapt_per_step=adapt)
    hparams = problem.initial(KEY)
    hparams["params"]["norm"] = jnp.array([[2.0], [1.5]])
    w, n, s = 1.0, [2.0, 1.5], 2.5
    for t in range(2):
        slope = 2 * s * (w * n[t] - 3)
        rate_w, rate_n = 0.05 * n[t], 0.05 * w * adapt
        clip = min(1, 10 / abs(slope * np.hypot(n[t], w * adapt)))
        w, n[t] = w - rate_w * slope * clip, n[t] - rate_n * slope * clip
    adapt_to, predict = mh.meta.learner(problem, 2)
    adapted = adapt_to(hparams, line(KEY).support, KEY)
    np.testing.assert_allclose(adapted.params["w"], [w], rtol=1e-12)
    np.testing.assert_allclose(adapted.params["norm"][:, 0], n, rtol=1e-12)
    x = jnp.array([[7.0]])
    np.testing.assert_allclose(predict(adapted, x), [[7 * w * n[1]]], rtol=1e-12)
    assert ("norm" in hparams["rates"]) == adapt


def test_longer_adaptation_repeats_the_last_rates():
    problem = plus_plus(2)
    hparams = problem.initial(KEY)
    hparams["rates"][""] = jnp.array([0.3, 0.1])
    state = mh.inner.unroll(problem, 4)(KEY, hparams, jnp.zeros(0))
    expected = THETA
    for rate in 10 * np.tanh([0.03, 0.01, 0.01, 0.01]):
        expected = expected - rate * A @ (expected - C)
    np.testing.assert_allclose(state.params, expected, rtol=1e-5)


def stormy(**options):
    """Five steps on the sinusoid from rates ten times too large."""
    problem = mh.meta.maml_plus_plus(mh.problems.sinusoid(shots=5), 5, initial_rate=0.1, **options)
    return jax.jit(
        lambda key: (
            mh.meta_train(
                key,
                problem,
                mh.hypergrad.reverse(problem, 5, "none"),
                problem.initial(key),
                optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-2)),
                rounds=200,
                tasks=10,
            ).history
        ),
    )(KEY)


@pytest.mark.slow
def test_five_steps_stay_finite_where_unguarded_ones_never_start():
    guarded, unguarded = stormy(), stormy(**UNGUARDED)
    assert unguarded.skipped.all()
    assert not guarded.skipped.any()
    assert np.isfinite(guarded.loss).all()
    assert guarded.loss[-20:].mean() < 0.75 * guarded.loss[:5].mean()


def test_annealing_the_order_and_the_weights_goes_on_with_one_state():
    """Two rounds of first order with traced weights, then one of second order, by hand."""
    rate, traces = 0.01, []

    @jax.jit
    def early(state, progress):
        traces.append(1)
        weights = mh.meta.step_weights(progress, 3, until=0.5)
        problem = plus_plus(3, weights=weights, gradient=mh.meta.constant_gradient)
        return train(problem, state)

    def train(problem, state):
        estimator = mh.hypergrad.reverse(problem, 3)
        return mh.meta_train(
            KEY, problem, estimator, problem.initial(KEY), optax.sgd(rate),
            rounds=1, tasks=1, state=state,
        ).state  # fmt: skip

    state = train(plus_plus(3), None)._replace(hparams=plus_plus(3).initial(KEY))
    expected = plus_plus(3).initial(KEY)
    for progress in (0.0, 0.25):
        weights = mh.meta.step_weights(progress, 3, until=0.5)
        problem = plus_plus(3, weights=weights, gradient=mh.meta.constant_gradient)
        grad = known_task.estimate(mh.hypergrad.reverse, problem, 3, expected).grad
        expected = jax.tree.map(lambda h, g: h - rate * g, expected, grad)
        state = early(state, progress)
    assert len(traces) == 1
    grad = known_task.estimate(mh.hypergrad.reverse, plus_plus(3), 3, expected).grad
    expected = jax.tree.map(lambda h, g: h - rate * g, expected, grad)
    state = train(plus_plus(3), state)
    np.testing.assert_allclose(state.hparams["params"], expected["params"], rtol=1e-5)
    np.testing.assert_allclose(state.hparams["rates"][""], expected["rates"][""], rtol=1e-5)
    assert state.round == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "got 0"),
        ({"weights": np.ones(2)}, r"3 steps need weights \[3\], got \[2\]"),
        ({"largest_rate": 0.0}, "largest_rate must be positive, got 0.0"),
        ({"largest_gradient": -1.0}, "largest_gradient must be positive, got -1.0"),
    ],
)
def test_wrong_arguments_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        plus_plus(**{"steps": 3, **wrong})


def test_a_rate_beyond_its_bound_is_refused():
    with pytest.raises(ValueError, match="smaller than the largest one, 0.5, got 0.7"):
        plus_plus(1, initial_rate=0.7, largest_rate=0.5).initial(KEY)
