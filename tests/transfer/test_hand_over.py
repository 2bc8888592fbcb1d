"""What is learned from past tasks goes into searches: their first points, and a process's mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import strategies, transfer
from metahpo.strategies.bayesian.suggestions import _trusted

SPACE = {"x": mh.Float(0.0, 1.0), "y": mh.Float(0.0, 1.0)}
HINTS = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
EVALUATIONS, SEEDS = 50, 4


def bowl(hparams):
    return (hparams["x"] - 0.8) ** 2 + (hparams["y"] - 0.3) ** 2


PROBLEM = mh.problems.function(bowl)


@pytest.mark.parametrize(
    "make",
    [
        lambda: strategies.random(SPACE, population=2),
        lambda: strategies.differential_evolution(SPACE, population=4),
        lambda: strategies.cma_es(SPACE, population=4),
        lambda: strategies.tpe(SPACE, population=2, capacity=8),
        lambda: strategies.gaussian_process(SPACE, population=2, capacity=8),
    ],
    ids=["random", "differential_evolution", "cma_es", "tpe", "gaussian_process"],
)
def test_hints_are_evaluated_before_all_else_and_learned_from(make):
    strategy = make()
    result = jax.jit(
        lambda key: mh.search(key, PROBLEM, SPACE, strategy, rounds=3, steps=1, hints=HINTS)
    )(jax.random.key(0))
    unit = result.history.unit.reshape(-1, 2)
    np.testing.assert_array_equal(unit[:3], HINTS)
    assert len(np.unique(unit, axis=0)) == len(unit)
    np.testing.assert_allclose(
        result.history.loss.reshape(-1), bowl({"x": unit[:, 0], "y": unit[:, 1]}), rtol=1e-5
    )


def test_minimize_takes_what_a_mapping_suggests():
    rows = np.linspace(0.0, 1.0, 9)[:, None]
    grid = np.stack(np.meshgrid(*[np.linspace(0.05, 0.95, 7)] * 2), -1).reshape(-1, 2)
    losses = (grid[:, 0] - rows) ** 2 + (grid[:, 1] - 0.3) ** 2
    fitted = transfer.nearest_tasks().fit(transfer.experience(SPACE, rows, grid, losses))
    hints = fitted.suggest([0.8], 3)
    strategy = strategies.random(SPACE, population=1)
    result = mh.minimize(bowl, SPACE, strategy, rounds=4, progress=False, hints=hints)
    assert result.history.loss[0, 0] == pytest.approx(bowl(hints[0]), rel=1e-4)
    assert result.history.loss[0, 0] < 0.02
    by_points = mh.minimize(
        bowl, SPACE, strategy, rounds=4, progress=False, hints=fitted.points([0.8], 3)
    )
    np.testing.assert_allclose(by_points.history.loss, result.history.loss, atol=1e-6)
    at = np.array(
        [fitted.expected([0.8])(jnp.asarray(p)[None])[0] for p in ([0.8, 0.3], [0.1, 0.9])]
    )
    assert at[0] < 0.15 < 0.4 < at[1]


@pytest.mark.slow
@pytest.mark.optimised
def test_a_good_expectation_helps_a_process_at_once_and_a_bad_one_is_outgrown():
    def valley(x, y):
        return jnp.sqrt((x - 0.8) ** 2 + 4 * (y - 0.3 * x) ** 2 + 1e-3)

    problem = mh.problems.function(lambda h: valley(h["x"], h["y"]))

    def run(key, sign):
        strategy = strategies.gaussian_process(
            SPACE,
            capacity=EVALUATIONS,
            expected=lambda points: sign * valley(points[:, 0], points[:, 1]),
        )
        result = mh.search(key, problem, SPACE, strategy, rounds=EVALUATIONS, steps=1)
        return jax.lax.cummin(result.history.loss[:, 0]) - 1e-3**0.5

    keys = jax.random.split(jax.random.key(0), SEEDS)
    signs = jnp.array([0.0, 1.0, -1.0])  # nothing is expected, the truth, its opposite
    found = jax.jit(jax.vmap(lambda sign: jax.vmap(lambda key: run(key, sign))(keys)))(signs)
    without, good, bad = np.asarray(found)
    first = 6  # evaluations, of which the process has chosen two
    assert np.median(good[:, first - 1]) < 0.5 * np.median(without[:, first - 1])
    last = mh.report.interval(np.log(bad[:, -1] + 1e-4) - np.log(without[:, -1] + 1e-4))
    assert last.mean - last.half_width <= 0, last


def test_an_expectation_counts_as_far_as_losses_bear_it_out():
    unit = jnp.linspace(0.0, 1.0, 12)[:, None]
    told = jnp.arange(12) < 10
    y = jnp.where(told, jnp.sin(9 * unit[:, 0]), 0.0)
    y = y - y[:10].mean()
    y = jnp.where(told, y / y[:10].std(), 0.0)  # higher is better, as losses are warped

    @jax.jit
    def offset(scale, shift):
        expected = lambda points: shift - scale * jnp.sin(9 * points[:, 0])  # noqa: E731
        return _trusted(expected, unit, y, told)(unit)

    np.testing.assert_allclose(offset(0.0, 5.0), 0.0, atol=1e-6)  # of nothing
    np.testing.assert_allclose(offset(70.0, 3.0)[:10], y[:10], atol=1e-4)  # whatever the units
    np.testing.assert_array_equal(offset(-1.0, 0.0), 0.0)  # the opposite


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: mh.hinted(s, np.zeros(2)), r"hints must be points \[K, D\]"),
        (
            lambda s: mh.minimize(bowl, SPACE, s, rounds=1, hints=np.zeros((1, 3))),
            r"hints must be points \[K, 2\]",
        ),
        (lambda s: mh.minimize(bowl, SPACE, s, rounds=1, hints=[]), "at least one hint"),
        (lambda s: mh.minimize(bowl, SPACE, s, rounds=1, hints=[{"x": 0.5}]), "structure"),
        (lambda s: strategies.gaussian_process(SPACE, expected=3), "expected must be a function"),
    ],
)
def test_bad_hints_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(strategies.random(SPACE, population=1))
