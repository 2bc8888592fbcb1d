"""Hypergradient descent: projection, independence of the members, failures, a known optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.strategies import hypergradient

KEY = jax.random.key(0)
LINE = {"x": mh.Float(0.0, 1.0)}
PLANE = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}


def history(fn, space, strategy, rounds):
    problem = mh.problems.function(fn)
    run = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=rounds, steps=1))
    return jax.tree.map(np.asarray, run(KEY).history)


def test_gradient_descent_follows_the_closed_form():
    strategy = hypergradient(LINE, 2, optax.sgd(0.1), initial=jnp.array([[0.9], [0.2]]))
    path = history(lambda h: (h["x"] - 0.5) ** 2, LINE, strategy, 6).unit[..., 0]
    expected = 0.5 + np.array([0.4, -0.3]) * 0.8 ** np.arange(6)[:, None]
    np.testing.assert_allclose(path, expected, rtol=1e-5)


def test_a_member_on_a_bound_comes_back():
    # The minimum over x lies beyond the bound until y has grown.
    strategy = hypergradient(PLANE, 1, optax.sgd(0.03), initial=jnp.array([[0.05, 0.0]]))
    fn = lambda h: (h["x"] - 2 * h["y"] + 1) ** 2 + 10 * (h["y"] - 0.8) ** 2  # noqa: E731
    unit = history(fn, PLANE, strategy, 300).unit[:, 0]
    assert unit[1, 0] == 0.0
    np.testing.assert_allclose(unit[-1], [0.6, 0.8], atol=0.01)


def test_members_do_not_share_their_optimiser():
    initial = jnp.array([[0.1, 0.1], [0.9, 0.9]])
    fn = lambda h: jnp.where(h["x"] > 0.5, 1e6, 1.0) * (h["x"] - 0.4) ** 2  # noqa: E731
    # Normalising over the population would leave the first member no step at all.
    optimizer = optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1))
    both = history(fn, PLANE, hypergradient(PLANE, 2, optimizer, initial), 5).unit
    alone = history(fn, PLANE, hypergradient(PLANE, 1, optimizer, initial[:1]), 5).unit
    np.testing.assert_allclose(both[:, 0], alone[:, 0], rtol=1e-6)
    np.testing.assert_allclose(both[1] - both[0], [[0.1, 0.0], [-0.1, 0.0]], atol=1e-6)


def test_integers_and_choices_stay_where_they_started():
    space = {"c": mh.Choice(("a", "b")), "n": mh.Int(1, 9), "x": mh.Float(0.0, 1.0)}
    # Decoupled weight decay moves coordinates that have no gradient.
    strategy = hypergradient(space, 4, optax.adamw(0.1, weight_decay=1.0))
    unit = history(lambda h: h["x"] * (h["n"] + h["c"]), space, strategy, 5).unit
    assert (unit[:, :, :2] == unit[0, :, :2]).all()
    assert len(np.unique(unit[0, :, :2])) == 8
    assert (unit[1:, :, 2] != unit[0, :, 2]).all()


def test_a_member_that_left_the_finite_region_goes_half_the_way_back():
    strategy = hypergradient(LINE, 1, optax.sgd(0.4), initial=jnp.array([[0.2]]))
    fn = lambda h: jnp.where(h["x"] > 0.5, jnp.nan, -h["x"])  # noqa: E731
    path = history(fn, LINE, strategy, 6).unit[:, 0, 0]
    np.testing.assert_allclose(path, [0.2, 0.6, 0.4, 0.8, 0.6, 0.5], rtol=1e-6)


def test_a_member_that_never_was_finite_starts_again_elsewhere():
    strategy = hypergradient(LINE, 8, initial=jnp.full((8, 1), 0.9))
    fn = lambda h: jnp.where(h["x"] > 0.5, jnp.inf, h["x"] ** 2)  # noqa: E731
    out = history(fn, LINE, strategy, 12)
    assert np.isinf(out.loss[0]).all()
    assert len(np.unique(out.unit[1])) == 8
    assert np.isfinite(out.loss[-1]).all()


def test_a_failure_leaves_the_optimiser_as_it_was():
    strategy = hypergradient(LINE, 2, optax.adam(0.1))
    state = strategy.init(KEY)
    proposal, state = strategy.ask(KEY, state)
    evaluation = mh.Evaluation(jnp.array([1.0, jnp.inf]), jnp.array([[2.0], [0.0]]), ())
    after = strategy.tell(KEY, state, proposal, evaluation)
    counts = optax.tree.get(after.optimizer, "count")
    np.testing.assert_array_equal(counts, [1, 0])


def test_zero_gradients_leave_the_point_where_it_is():
    out = history(lambda h: 0.0 * h["x"], LINE, hypergradient(LINE, 3), 5)
    assert (out.unit == out.unit[0]).all()


def test_default_optimiser_forgets_a_gradient_that_nearly_diverged():
    # The first gradient is 1e24 times the second; a norm of it would overflow.
    strategy = hypergradient(LINE, 1, initial=jnp.array([[0.9]]))
    fn = lambda h: (h["x"] - 0.4) ** 2 * jnp.where(h["x"] > 0.8, 1e24, 1.0)  # noqa: E731
    unit = history(fn, LINE, strategy, 20).unit[:, 0, 0]
    np.testing.assert_allclose(unit[1], 0.7, atol=1e-5)
    assert abs(unit[-1] - 0.4) < 0.2 / (1 + 20 / 5)  # within the length of its steps by then


def test_schedule_on_quadratics_comes_close_to_chebyshev():
    # kappa = 100, 20 steps: the optimum is 0.0361, the best constant rate gives 0.670.
    family = mh.problems.quadratics(dimension=64, kappa=100.0, power=16.0)
    problem = mh.problems.schedule_problem(family, steps=20)
    space = mh.problems.schedule_space(20, kappa=100.0)
    strategy = hypergradient(space, 4)
    result = jax.jit(lambda key: mh.search(key, problem, space, strategy, rounds=300, steps=20))(
        KEY
    )
    exact = mh.problems.schedule_problem(mh.problems.quadratics(kappa=100.0), steps=20)
    ratio, _ = mh.inner.outer_loss(exact, 20)(KEY, result.best_hparams, exact.sample(KEY))
    assert mh.problems.chebyshev_ratio(100.0, 20) <= ratio <= 0.045


def test_space_without_a_float_is_refused():
    with pytest.raises(ValueError, match=r"needs a Float, got {'n': Int\(low=1, high=2"):
        hypergradient({"n": mh.Int(1, 2)}, 4)
