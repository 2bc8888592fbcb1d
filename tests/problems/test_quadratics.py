"""Quadratics: the known optima, and that hypergradients and evolution reach them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)
problems = mh.problems


def ratio_of(rates, kappa, **options):
    """The worst-case error ratio that the problem itself finds for a schedule."""
    problem = problems.schedule_problem(problems.quadratics(kappa=kappa, **options), len(rates))
    run = jax.jit(mh.inner.outer_loss(problem, len(rates)))
    return float(run(KEY, {"rates": rates}, problem.sample(KEY))[0])


# kappa, steps: Chebyshev's ratio, the best static rate's ratio
KNOWN = [(100, 20, 0.0361, 0.670), (10, 10, 0.00286, 0.134)]


@pytest.mark.parametrize(("kappa", "steps", "chebyshev", "static"), KNOWN)
@pytest.mark.parametrize("mu", [1.0, 0.01])
def test_known_schedules_reach_their_known_ratios(kappa, steps, chebyshev, static, mu):
    assert problems.chebyshev_ratio(kappa, steps) == pytest.approx(chebyshev, rel=2e-3)
    assert problems.static_ratio(kappa, steps) == pytest.approx(static, rel=4e-3)
    best = problems.chebyshev_rates(mu, kappa * mu, steps)
    constant = jnp.full(steps, 2 / (kappa + 1) / mu)
    exact = problems.chebyshev_ratio(kappa, steps)
    assert ratio_of(best, kappa, mu=mu) == pytest.approx(exact, rel=1e-3)
    exact = problems.static_ratio(kappa, steps)
    assert ratio_of(constant, kappa, mu=mu) == pytest.approx(exact, rel=1e-4)


def test_the_grid_misses_less_than_its_bound_of_the_maximum():
    """Ehlich & Zeller: at most the factor ``cos(pi T / (2 n - 2))``, here on random schedules."""
    steps, points = 12, 40
    grid = problems.quadratics(points).sample(KEY).eigenvalues
    dense = np.linspace(1, 100, 20_001)
    rates = np.exp(np.random.default_rng(0).uniform(np.log(0.01), 0, size=(20, steps)))

    def largest(at):
        return np.abs(np.prod(1 - rates[:, :, None] * np.asarray(at, float), axis=1)).max(axis=1)

    seen = largest(grid) / largest(dense)
    assert np.all(seen >= math.cos(math.pi * steps / (2 * points - 2)) - 1e-6)
    assert np.all(seen <= 1 + 1e-6)


def test_rotated_quadratics_are_as_hard_and_need_the_stable_order():
    rates = problems.chebyshev_rates(1.0, 100.0, 20)
    exact = problems.chebyshev_ratio(100, 20)
    assert ratio_of(rates, 100, rotated=True) == pytest.approx(exact, rel=1e-2)
    assert ratio_of(jnp.sort(rates), 100, rotated=True) > 1.0  # single precision, unlucky order
    assert ratio_of(jnp.sort(rates), 100) == pytest.approx(exact, rel=1e-3)  # diagonal


def test_random_spectra_hold_both_ends_and_are_no_harder():
    family = problems.quadratics(random=True)
    tasks = jax.vmap(family.sample)(jax.random.split(KEY, 20))
    np.testing.assert_allclose(tasks.eigenvalues[:, [0, -1]], [[1, 100]] * 20, rtol=1e-6)
    assert np.all(np.diff(tasks.eigenvalues, axis=1) >= 0)
    assert len(np.unique(tasks.eigenvalues[:, 100])) == 20
    middle = np.median(tasks.eigenvalues)
    assert 8 < middle < 12.5  # log-uniform in [1, 100]
    np.testing.assert_allclose(
        jax.vmap(family.describe)(tasks), [[0, math.log(100)]] * 20, atol=1e-6
    )
    rates = problems.chebyshev_rates(1.0, 100.0, 20)
    assert 0.03 < ratio_of(rates, 100, random=True) <= problems.chebyshev_ratio(100, 20) * 1.001


def test_support_loss_is_the_quadratic_in_every_basis():
    for rotated in (False, True):
        family = problems.quadratics(dimension=6, kappa=9.0, rotated=rotated)
        task = family.sample(KEY)
        basis = np.eye(6) if task.basis is None else np.asarray(task.basis)
        matrix = basis @ np.diag(task.eigenvalues) @ basis.T
        x = np.random.default_rng(1).normal(size=6).astype(np.float32)
        loss = family.loss(jnp.asarray(x), task, "support")
        np.testing.assert_allclose(loss, x @ matrix @ x / 2, rtol=1e-5)
        np.testing.assert_allclose(
            family.loss(jnp.asarray(x), task, "query"), np.abs(basis.T @ x).max(), rtol=1e-5
        )


@pytest.mark.parametrize("power", [2.0, 8.0, 64.0])
def test_power_norm_bounds_the_ratio_and_survives_extremes(power):
    family = problems.quadratics(16, power=power)
    task = family.sample(KEY)
    x = jnp.linspace(-1.0, 2.0, 16)
    expected = np.sum(np.abs(np.asarray(x, float)) ** power) ** (1 / power)
    for scale in (1.0, 1e-20, 1e20):
        result = float(family.loss(scale * x, task, "query"))
        assert result == pytest.approx(scale * expected, rel=1e-5)
    slope = jax.grad(family.loss)(x, task, "query")
    expected_slope = np.sign(x) * np.abs(np.asarray(x, float)) ** (power - 1)
    np.testing.assert_allclose(
        slope, expected_slope / expected ** (power - 1), rtol=1e-3, atol=1e-6
    )
    logarithm = problems.quadratics(16, power=power, log=True).loss(x, task, "query")
    assert float(logarithm) == pytest.approx(math.log(expected), rel=1e-5)


def test_rates_beyond_the_last_repeat_it():
    problem = problems.schedule_problem(problems.quadratics(4, kappa=3.0), 2)
    hparams, task = {"rates": [jnp.array(0.1), jnp.array(0.3)]}, problem.sample(KEY)
    state = mh.inner.unroll(problem, 4)(KEY, hparams, task)
    eigenvalues = np.asarray(task.eigenvalues)
    expected = task.start * (1 - 0.1 * eigenvalues) * (1 - 0.3 * eigenvalues) ** 3
    np.testing.assert_allclose(state.params, expected, atol=1e-6)


def test_chebyshev_rates_stand_inside_the_space():
    for steps in (1, 20):
        space = problems.schedule_space(steps, mu=0.5, kappa=100)
        rates = problems.chebyshev_rates(0.5, 50.0, steps)
        mh.space.check(space, {"rates": list(rates)})


# What learns the schedule at kappa = 100, T = 20 (optimum 0.0361, best static rate 0.670):
# * the target is log(ratio): with the ratio itself bad starts give gradients of 1e20, Adam's
#   averages never forget them, and no member of 16 gets below 0.33;
# * starting points uniform in the (logarithmic) unit cube of schedule_space do as well as the best
#   static rate; the latter must be perturbed, as equal rates have equal gradients;
# * Adam with cosine decay on the unit cube: at rate 0.03 and 1,000 rounds all of 16 members end
#   below 0.0425; with 200 rounds the best of 16 ends at 0.046, or at 0.042 with power=32, and the
#   smooth target's own optimum lies at 0.0370 (power=32) or 0.0410 (power=8);
# * differential evolution on the ratio itself, 300 rounds: current-to-best/1/bin with F = 0.5 and
#   CR = 0.9 ends at 0.039 to 0.042 with 64 members, at 0.037 with 128 (three seeds each); rand/1
#   and wider F stay above 0.045, as every permutation of the rates is an optimum of its own.
def test_hypergradient_descent_finds_a_nearly_optimal_schedule():
    steps, rounds, members = 20, 300, 8
    problem = problems.schedule_problem(problems.quadratics(power=32.0, log=True), steps)
    space = problems.schedule_space(steps)
    task = problem.sample(KEY)
    estimator = mh.hypergrad.reverse(problem, steps)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, rounds))

    def descend(key):
        def round_(carry, _):
            unit, state = carry
            grad = estimator.estimate(KEY, mh.space.decode(space, unit), task, ())[0].grad
            grad = mh.space.pullback(space, unit, grad)
            updates, state = optimizer.update(grad, state)
            return (jnp.clip(unit + updates, 0, 1), state), None

        unit = jax.random.uniform(key, (steps,))
        (unit, _), _ = jax.lax.scan(round_, (unit, optimizer.init(unit)), length=rounds)
        return jnp.stack(mh.space.decode(space, unit)["rates"])

    rates = jax.jit(jax.vmap(descend))(jax.random.split(KEY, members))
    ratios = [ratio_of(r, 100) for r in rates]
    assert 0.036 < min(ratios) <= 0.045
    # The learned rates are Chebyshev's, whatever their order.
    best = np.sort(rates[int(np.argmin(ratios))])
    np.testing.assert_allclose(best, np.sort(problems.chebyshev_rates(1.0, 100.0, 20)), rtol=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: problems.quadratics(dimension=1),
            "dimension must be a whole number of at least 2, got 1",
        ),
        (lambda: problems.quadratics(mu=0.0), "mu must be positive, got 0.0"),
        (lambda: problems.quadratics(kappa=1.0), "kappa must be above 1, got 1.0"),
        (
            lambda: problems.quadratics(power=0.5),
            "power must be at least 1 to give a norm, got 0.5",
        ),
        (lambda: problems.schedule_space(3, kappa=0.5), "kappa must be above 1, got 0.5"),
        (lambda: problems.schedule_space(0), "steps must be a whole number of at least 1, got 0"),
        (
            lambda: problems.chebyshev_rates(1.0, 2.0, 0),
            "steps must be a whole number of at least 1, got 0",
        ),
        (
            lambda: problems.schedule_problem(problems.quadratics(), 0),
            "steps must be a whole number of at least 1, got 0",
        ),
        (lambda: ratio_of_wrong_length(), r"needs rates of shape \(3,\), got \(2,\)"),
    ],
)
def test_refuses_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def ratio_of_wrong_length():
    problem = problems.schedule_problem(problems.quadratics(), 3)
    problem.init(KEY, {"rates": jnp.ones(2)}, problem.sample(KEY))
