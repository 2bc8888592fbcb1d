"""Ridge and logistic heads against normal equations and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import metahpo as mh
from metahpo.base import Network
from metahpo.problems import Episode, Examples, cross_entropy, few_shot, squared_error

KEY = jax.random.key(0)
IDENTITY = Network(lambda key, x: {"unit": jnp.ones((), x.dtype)}, lambda p, x: p["unit"] * x)
RNG = np.random.default_rng(0)
SIZES = pytest.mark.parametrize(("n", "e"), [(6, 9), (12, 4)])  # fewer and more examples


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def make_family(x, y, criterion, network=IDENTITY):
    examples = Examples(x, y)
    return few_shot(lambda key: Episode(examples, examples), network, criterion)


def with_ones(x):
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def weights(l2, **others):
    return {"network": {"unit": np.ones(())}, "log_l2": np.log(l2), **others}


def predictions(problem, hparams, support, x):
    adapt, predict = mh.meta.learner(problem)
    return jax.jit(lambda h, support, x: predict(adapt(h, support, KEY), x))(
        hparams, Examples(*support), x
    )


@SIZES
@pytest.mark.parametrize("form", ["auto", "primal", "dual"])
def test_ridge_head_solves_the_normal_equations(n, e, form):
    x, y, new = RNG.normal(size=(n, e)), RNG.normal(size=(n, 2)), RNG.normal(size=(5, e))
    problem = mh.meta.ridge_head(make_family(x, y, squared_error), form=form)
    hparams = weights(0.3, scale=1.7, bias=0.2)
    ones = with_ones(x)
    kernel = np.linalg.solve(ones.T @ ones + 0.3 * np.eye(e + 1), ones.T @ y)
    np.testing.assert_allclose(
        predictions(problem, hparams, (x, y), new),
        1.7 * with_ones(new) @ kernel + 0.2,
        rtol=1e-12,
        atol=1e-13,
    )


def test_ridge_head_agrees_with_scikit_learn():
    x, y, new = RNG.normal(size=(7, 5)), RNG.normal(size=(7, 1)), RNG.normal(size=(5, 5))
    problem = mh.meta.ridge_head(make_family(x, y, squared_error), initial_l2=0.5)
    known = Ridge(alpha=0.5, fit_intercept=False).fit(with_ones(x), y).predict(with_ones(new))
    found = predictions(problem, jax.jit(problem.initial)(KEY), (x, y), new)
    np.testing.assert_allclose(found.squeeze(), known.squeeze(), rtol=1e-10)


def test_ridge_head_fits_one_hot_labels():
    x, y = RNG.normal(size=(8, 3)), np.arange(8) % 4
    problem = mh.meta.ridge_head(make_family(x, y, cross_entropy), ways=4)
    values = mh.meta.ridge_head(make_family(x, np.eye(4)[y], squared_error))
    hparams = weights(1.0, scale=1.0, bias=0.0)
    np.testing.assert_allclose(
        predictions(problem, hparams, (x, y), x),
        predictions(values, hparams, (x, np.eye(4)[y]), x),
        rtol=1e-12,
    )


def test_ridge_gradients_are_the_same_in_both_forms():
    x, y = RNG.normal(size=(6, 9)), RNG.normal(size=(6, 2))
    new = Examples(RNG.normal(size=(5, 9)), RNG.normal(size=(5, 2)))

    def gradient(form):
        problem = mh.meta.ridge_head(make_family(x, y, squared_error), form=form)
        task = Episode(Examples(x, y), new)
        loss = mh.inner.outer_loss(problem, steps=0)
        return jax.jit(jax.grad(lambda hparams: loss(KEY, hparams, task)[0]))(
            weights(1.0, scale=1.0, bias=0.0)
        )

    primal, dual = (jax.tree.leaves(gradient(form)) for form in ("primal", "dual"))
    np.testing.assert_allclose(primal, dual, rtol=1e-10)
    assert np.abs(primal).min() > 1e-3


@SIZES
@pytest.mark.parametrize("l2", [0.03, 1.0])
def test_logistic_head_agrees_with_scikit_learn(n, e, l2):
    """One class against all others; both penalise the constant."""
    x, y, new = RNG.normal(size=(n, e)), np.arange(n) % 3, RNG.normal(size=(5, e))
    family = make_family(x, y, cross_entropy)
    problem = mh.meta.logistic_head(family, ways=3, initial_l2=l2, iterations=12)
    found = predictions(problem, jax.jit(problem.initial)(KEY), (x, y), new)
    for label in range(3):
        model = LogisticRegression(
            C=1 / l2, fit_intercept=False, solver="newton-cholesky", tol=1e-12
        ).fit(with_ones(x), y == label)
        known = model.decision_function(with_ones(new))
        np.testing.assert_allclose(found[:, label], known, rtol=1e-8, atol=1e-10)


def test_one_newton_step_is_a_ridge_regression_on_four_times_the_signs():
    """All curvatures are 1/4 at zero, so the first step solves ``(X'X + 4 l2 I) w = 2 X's``."""
    x, y = RNG.normal(size=(6, 9)), np.arange(6) % 3
    problem = mh.meta.logistic_head(make_family(x, y, cross_entropy), ways=3, iterations=1)
    ones, signs = with_ones(x), 2 * np.eye(3)[y] - 1
    kernel = np.linalg.solve(ones.T @ ones + 2.0 * np.eye(10), 2 * ones.T @ signs)
    found = predictions(problem, weights(0.5), (x, y), x)
    np.testing.assert_allclose(found, ones @ kernel, rtol=1e-11)


def test_converged_logistic_gradient_is_that_of_the_implicit_function_theorem():
    """``dw / dlog l2 = -l2 H^-1 w`` at the minimum, with its Hessian H."""
    x, y = RNG.normal(size=(8, 4)), np.arange(8) % 2
    problem = mh.meta.logistic_head(make_family(x, y, cross_entropy), ways=2, iterations=12)

    def kernel(log_l2):
        adapt, _ = mh.meta.learner(problem)
        hparams = weights(1.0) | {"log_l2": log_l2}
        return adapt(hparams, Examples(x, y), KEY).kernel[:, 1]

    w, slope = jax.jit(lambda x: jax.jvp(kernel, (x,), (jnp.ones(()),)))(np.log(0.7))
    ones = with_ones(x)
    mean = 1 / (1 + np.exp(-ones @ w))
    hessian = ones.T @ ((mean * (1 - mean))[:, None] * ones) + 0.7 * np.eye(5)
    np.testing.assert_allclose(slope, -0.7 * np.linalg.solve(hessian, w), rtol=1e-9)


@pytest.mark.parametrize("make", [mh.meta.ridge_head, mh.meta.logistic_head])
def test_any_number_of_ways_shares_hyperparameters(make):
    x, y = RNG.normal(size=(6, 4)), np.arange(6)
    hparams = jax.jit(make(make_family(x, y, cross_entropy), ways=6).initial)(KEY)
    fewer = make(make_family(x, y // 3, cross_entropy), ways=2)
    assert predictions(fewer, hparams, (x, y // 3), x).shape == (6, 2)


@pytest.mark.parametrize("make", [mh.meta.ridge_head, mh.meta.logistic_head])
def test_far_apart_examples_stay_finite_in_single_precision(make):
    """Probabilities of 0 and 1 have no curvature, which nothing may be divided by."""
    x, y = np.float32(1e3 * RNG.normal(size=(6, 9))), np.arange(6) % 3
    problem = make(make_family(x, y, cross_entropy), ways=3)
    loss = mh.inner.outer_loss(problem, steps=0)
    hparams = jax.jit(problem.initial)(KEY)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(hparams))
    value, grad = jax.jit(jax.value_and_grad(lambda h: loss(KEY, h, problem.sample(KEY))[0]))(
        hparams
    )
    assert all(np.isfinite(leaf) for leaf in [value, *jax.tree.leaves(grad)])


def no_network():
    return make_family(np.eye(2), np.arange(2), cross_entropy)._replace(network=None)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ways": 1}, "ways must be a whole number of at least 2, got 1"),
        ({"initial_l2": 0.0}, "initial_l2 must be positive, got 0.0"),
        ({"form": "both"}, "'both'"),
    ],
)
def test_wrong_arguments_of_the_ridge_head_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        mh.meta.ridge_head(make_family(np.eye(2), np.arange(2), cross_entropy), **wrong)


def test_wrong_arguments_of_the_logistic_head_are_refused():
    family = make_family(np.eye(2), np.arange(2), cross_entropy)
    with pytest.raises(ValueError, match="iterations must be a whole number of at least 1, got 0"):
        mh.meta.logistic_head(family, ways=2, iterations=0)
    with pytest.raises(ValueError, match="network"):
        mh.meta.logistic_head(no_network(), ways=2)
    with pytest.raises(ValueError, match="criterion"):
        mh.meta.logistic_head(family._replace(criterion=None), ways=2)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.array([0, 1, 3]), r"0 \.\.\. 2 for 3 ways, got \[0, 1, 3\]"),
        (np.array([-1, 0, 1]), r"got \[-1, 0, 1\]"),
        (np.array([0, 1, 1]), r"no support example of class \[2\]"),
        (np.array([0.0, 1.0, 2.0]), "whole numbers"),
        (np.eye(3, dtype=int), "whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, says):
    family = make_family(np.eye(3), y, cross_entropy)
    for make in (mh.meta.ridge_head, mh.meta.logistic_head, mh.meta.prototypical):
        with pytest.raises(ValueError, match=says):
            make(family, ways=3).initial(KEY)


def test_labels_without_ways_are_refused():
    problem = mh.meta.ridge_head(make_family(np.eye(3), np.arange(3), cross_entropy))
    with pytest.raises(ValueError, match="ways"):
        problem.initial(KEY)


def test_a_traced_label_out_of_range_makes_the_loss_not_finite():
    family = make_family(np.eye(3), np.array([0, 1, 2]), cross_entropy)
    for make in (mh.meta.ridge_head, mh.meta.logistic_head):
        problem = make(family, ways=3)
        hparams, episode = jax.jit(problem.initial)(KEY), problem.sample(KEY)
        loss = jax.jit(mh.inner.outer_loss(problem, steps=0))
        assert np.isfinite(loss(KEY, hparams, episode)[0])
        support = episode.support._replace(y=np.array([0, 1, 3]))
        assert not np.isfinite(loss(KEY, hparams, episode._replace(support=support))[0])


def test_an_encoder_must_return_vectors():
    images = Network(lambda key, x: {}, lambda params, x: x[:, None, :])
    family = make_family(np.eye(3), np.arange(3), cross_entropy, images)
    with pytest.raises(ValueError, match=r"\[n, e\].*\(3, 3\) to \(3, 1, 3\)"):
        mh.meta.ridge_head(family, ways=3).initial(KEY)
