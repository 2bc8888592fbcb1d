"""Links: inverses, extremes, slopes, and that a descent on them stays in range."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import links
from metahpo.base import Problem

LINKS = {
    "log": links.log,
    "logit": links.logit(0.0, 2.0),
    "log_logit": links.logit(1e-8, 2.0, log=True),
    "softplus": links.softplus,
}
EVERY = pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@EVERY
@DTYPES
def test_there_and_back_over_the_whole_range(link, dtype):
    values = jnp.logspace(-7.5, 0.29, 40, dtype=dtype)
    back = link.constrain(link.unconstrain(values))
    assert back.dtype == dtype
    # A number x on a log scale knows exp(x) to x eps.
    np.testing.assert_allclose(back, values, rtol=40 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("link", [links.log, links.softplus], ids=["log", "softplus"])
@DTYPES
def test_there_and_back_at_the_extremes(link, dtype):
    limits = jnp.finfo(dtype)
    values = jnp.array([1e-30, 1e-12, 1e-4, 50.0, 1e30], dtype)
    unconstrained = link.unconstrain(values)
    assert np.all(np.isfinite(unconstrained))
    back = link.constrain(unconstrained)
    np.testing.assert_allclose(back, values, rtol=100 * limits.eps)


@EVERY
@DTYPES
def test_any_number_has_a_value_in_the_range_and_a_finite_slope(link, dtype):
    x = jnp.array([-jnp.finfo(dtype).max, -1e4, -30.0, 0.0, 30.0, 1e4, jnp.finfo(dtype).max], dtype)
    value, slope = link.constrain(x), jax.vmap(jax.grad(link.constrain))(x)
    low, high = (0.0, jnp.inf) if link in (links.log, links.softplus) else (0.0, 2.0)
    assert np.all((value >= low) & (value <= high) & np.isfinite(value))
    assert np.all(np.diff(value) >= 0)
    assert np.all(np.isfinite(slope) & (slope >= 0)) and slope[3] > 0.1 * value[3]
    if link is not LINKS["logit"]:
        assert np.all(value > 0)


@pytest.mark.parametrize(
    ("link", "formula", "slope"),
    [
        (links.log, np.exp, np.exp),
        (links.softplus, lambda x: np.log1p(np.exp(x)), lambda x: 1 / (1 + np.exp(-x))),
        (
            links.logit(-1.0, 3.0),
            lambda x: 4 / (1 + np.exp(-x)) - 1,
            lambda x: 1 / np.cosh(x / 2) ** 2,
        ),
        (
            links.logit(np.exp(-6.0), 1.0, log=True),
            lambda x: np.exp(6 / (1 + np.exp(-x)) - 6),
            lambda x: np.exp(6 / (1 + np.exp(-x)) - 6) * 6 / (2 * np.cosh(x / 2)) ** 2,
        ),
    ],
    ids=["log", "softplus", "logit", "log_logit"],
)
def test_values_and_slopes_have_their_formulas(link, formula, slope):
    x = np.array([-12.0, -1.0, 0.0, 0.5, 12.0])
    np.testing.assert_allclose(link.constrain(x), formula(x), rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(link.constrain))(x), slope(x), rtol=1e-10)
    second = jax.vmap(jax.grad(jax.grad(link.constrain)))(x)
    h = 1e-5
    expected = (slope(x + h) - slope(x - h)) / (2 * h)
    np.testing.assert_allclose(second, expected, rtol=1e-6, atol=1e-8)


def test_values_out_of_range_are_refused_where_they_are_known():
    refused = [(links.log, 0.0), (links.softplus, -1.0), (links.log, jnp.inf)]
    refused += [(LINKS["logit"], 2.0), (LINKS["log_logit"], 1e-9), (links.log, jnp.nan)]
    for link, value in refused:
        with pytest.raises(ValueError, match=r"values must be in \(.*\), got"):
            links.unconstrain({"x": link}, {"x": value})
        assert not jnp.isfinite(jax.jit(link.unconstrain)(value))
    with pytest.raises(ValueError, match="a link needs a float hyperparameter, got dtype int"):
        links.unconstrain(links.log, {"x": jnp.array(1)})


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, jnp.inf), (2.0, 1.0)])
def test_bounds_that_are_none_are_refused(bounds):
    with pytest.raises(ValueError, match="logit needs finite bounds, low < high"):
        links.logit(*bounds)
    with pytest.raises(ValueError, match="bounds on a log scale must be positive"):
        links.logit(0.0, 1.0, log=True)


def test_a_prefix_of_links_converts_both_ways_and_lets_integers_pass():
    prefix = {"rates": links.log, "rest": links.identity, "share": links.logit(0.0, 1.0)}
    hparams = {
        "rates": {"a": jnp.array([0.1, 1.0]), "b": jnp.array(2.0)},
        "rest": [jnp.array(3), jnp.array(-1.0)],
        "share": jnp.array(0.25),
    }
    values = links.unconstrain(prefix, hparams)
    np.testing.assert_allclose(values["rates"]["b"], np.log(2.0), rtol=1e-15)
    np.testing.assert_allclose(values["share"], -np.log(3.0), rtol=1e-15)
    assert values["rest"] == hparams["rest"]
    chex.assert_trees_all_close(links.constrain(prefix, values), hparams, rtol=1e-14)


def exploding():
    """``w <- (1 - 5 lr) w``: the best rate is 0.2, and rate 1 gives 4^40 after 40 steps."""
    return Problem(
        sample=lambda key: None,
        init=lambda key, hparams, task: jnp.ones((), jnp.float32),
        step=lambda key, hparams, task, w: w - hparams["lr"] * 5.0 * w,
        loss=lambda key, hparams, task, w: w**2 / 2,
        describe=lambda task: jnp.zeros(0),
    )


def test_hypergradients_are_those_of_the_constrained_problem_by_the_chain_rule():
    hparams = {"lr": jnp.array(0.1)}
    run = lambda p: jax.jit(mh.hypergrad.reverse(p, 4).estimate)  # noqa: E731
    exact = run(exploding())(jax.random.key(0), hparams, None, ())[0]
    free = links.unconstrained(exploding(), links.log)
    values = links.unconstrain(links.log, hparams)
    result = run(free)(jax.random.key(0), values, None, ())[0]
    np.testing.assert_allclose(result.loss, exact.loss, rtol=1e-6)
    np.testing.assert_allclose(result.grad["lr"], 0.1 * exact.grad["lr"], rtol=1e-5)


@EVERY
def test_descent_from_1e_6_to_1_stays_positive_and_finite_and_learns(link):
    free = links.unconstrained(exploding(), {"lr": link})
    estimate = mh.hypergrad.reverse(free, 40, "none").estimate
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.3, b2=0.9))

    def round_(carry, _):
        values, state = carry
        result, _ = estimate(jax.random.key(0), values, None, ())
        updates, new = optimizer.update(result.grad, state)
        taken = (optax.apply_updates(values, updates), new)
        finite = result.info["finite"]
        carry = jax.tree.map(lambda new, old: jnp.where(finite, new, old), taken, carry)
        return carry, (links.constrain({"lr": link}, carry[0])["lr"], result.loss, finite)

    @jax.jit
    @jax.vmap
    def descend(rate):
        values = links.unconstrain({"lr": link}, {"lr": rate})
        return jax.lax.scan(round_, (values, optimizer.init(values)), length=120)[1]

    starts = jnp.logspace(-6, 0, 13, dtype=jnp.float32)
    rates, losses, finite = descend(starts)
    assert np.all((rates > 0) & np.isfinite(rates))
    assert not finite[-1].any()  # rate 1 explodes: its updates are left out
    np.testing.assert_allclose(rates[-1], 1.0, rtol=1e-6)
    assert np.all(losses[:-1].min(axis=1) < 1e-6)
    assert np.all(losses[:8, 0] > 1e-3)
