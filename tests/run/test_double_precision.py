"""A Python function's numbers are of double precision, whatever those of the strategy are."""

import jax
import numpy as np
import pytest

import metahpo as mh
from metahpo.base import StopReason
from metahpo.run import AskTell
from metahpo.run.single_precision import SinglePrecision

SPACE = {"x": mh.Float(-5.0, 5.0, shape=(3,))}
OFFSETS = {
    "1e6 + d": lambda d: 1e6 + d,
    "-1e9 + d": lambda d: -1e9 + d,
    "1e-50 d": lambda d: 1e-50 * d,
    "1e40 (1 + d)": lambda d: 1e40 * (1 + d),
    "-1e300 / (1 + d)": lambda d: -1e300 / (1 + d),
}
STRATEGIES = {
    "cma_es": lambda: mh.strategies.cma_es(SPACE, 8),
    "bipop_cma_es": lambda: mh.strategies.bipop_cma_es(SPACE, 8, doublings=2),
    "shade": lambda: mh.strategies.shade(SPACE, 10),
    "pso": lambda: mh.strategies.pso(SPACE, 10),
    "genetic": lambda: mh.strategies.genetic(SPACE, 10),
    "snes": lambda: mh.strategies.snes(SPACE, 8),
}


def distance(h):
    return float(((h["x"] - 1) ** 2).sum())


PAIRS = [(name, "1e6 + d") for name in STRATEGIES] + [("cma_es", text) for text in OFFSETS]


@pytest.mark.parametrize(("name", "text"), PAIRS)
def test_neither_an_offset_nor_a_scale_keeps_a_search_from_the_optimum(name, text):
    transform = OFFSETS[text]

    def found(fn):
        result = mh.minimize(fn, SPACE, STRATEGIES[name](), rounds=120, progress=False)
        return distance(result.best_hparams)

    plain, other = found(distance), found(lambda h: transform(distance(h)))
    assert other < max(100 * plain, 1e-6)


def test_losses_are_kept_as_they_were_returned():
    losses = iter([1e40, 0.1, 1e-300, 1e6 + 1e-9] * 2)
    result = mh.minimize(
        lambda h: next(losses), SPACE, mh.strategies.random(SPACE, 4), rounds=2, progress=False
    )
    assert result.history.loss.dtype == np.float64
    np.testing.assert_array_equal(result.history.loss[0], [1e40, 0.1, 1e-300, 1e6 + 1e-9])
    assert type(result.best_loss) is float and result.best_loss == 1e-300


def test_targets_and_tolerances_are_those_of_the_function():
    def run(fn, rule):
        strategy = mh.strategies.random(SPACE, 4)
        return mh.minimize(fn, SPACE, strategy, rounds=9, stop=rule, progress=False)

    losses = (1e6 + 1e-3 * (9 - i // 4) for i in range(36))
    found = run(lambda h: next(losses), mh.stopping.target(1e6 + 4e-3))
    assert (found.stop_reason, found.rounds) == (StopReason.TARGET, 6)
    flat = (1e6 + 1e-6 * i for i in range(36))
    found = run(lambda h: next(flat), mh.stopping.tolerance(1e-6))
    assert (found.stop_reason, found.rounds) == (StopReason.BUDGET, 9)
    better = (1e6 - 1e-6 * i for i in range(36))
    found = run(lambda h: next(better), mh.stopping.stagnation(rounds=2))
    assert found.stop_reason == StopReason.BUDGET


def test_no_value_lies_outside_its_bounds():
    space = {
        "a": mh.Float(0.1, 0.3),
        "b": mh.Float(1e-4, 0.7, log=True),
        "c": mh.Float(0.1, 0.7, shape=(2,)),
    }
    ends = mh.space.decoder(space)(np.array([[0.0] * 4, [1.0] * 4], np.float32))
    for h, a, b, c in zip(ends, (0.1, 0.3), (1e-4, 0.7), (0.1, 0.7), strict=True):
        assert h["a"] == a and h["b"] == pytest.approx(b, rel=1e-15)
        assert 1e-4 <= h["b"] <= 0.7
        np.testing.assert_array_equal(h["c"], [c, c])
    decoded = jax.vmap(lambda u: mh.space.decode(space, u))(np.ones((1, 4), np.float32))
    shown = mh.space.readable(space, jax.tree.map(lambda x: x[0], decoded))
    assert (shown["c"] <= 0.7).all()


def test_a_candidate_in_the_table_is_what_the_function_got():
    seen = []
    result = mh.minimize(
        lambda h: seen.append(h) or distance(h),
        SPACE,
        mh.strategies.random(SPACE, 4),
        rounds=2,
        progress=False,
    )
    for row, h in zip(mh.report.candidates(SPACE, result), seen, strict=True):
        np.testing.assert_array_equal(row["x"], h["x"])
        assert row["loss"] == distance(h)


# In 32 bits.


def test_ordinary_losses_are_rounded():
    losses = np.random.default_rng(0).normal(size=(20, 8)) * 10.0 ** np.arange(-10, 10)[:, None]
    single = SinglePrecision()
    for row in losses:
        np.testing.assert_array_equal(single.told(row), row.astype(np.float32))
    told = single.told(np.array([np.nan, np.inf, -np.inf, 0.0]))
    np.testing.assert_array_equal(told, np.array([np.inf, np.inf, np.inf, 0], np.float32))


HARD = {
    "converging on an offset": lambda rng, t: 1e6 + rng.random(16) * 0.7**t,
    "converging from below": lambda rng, t: -1e6 - 1e-5 * t + 1e-6 * rng.random(16),
    "tiny": lambda rng, t: 1e-50 * rng.random(16) * 0.8**t,
    "below the normal numbers": lambda rng, t: rng.random(16) * 10.0 ** (-t),
    "huge": lambda rng, t: 1e40 * (1 + rng.random(16) * 0.8**t),
    "both signs": lambda rng, t: rng.choice([-1, 1], 16) * 10.0 ** rng.uniform(-300, 300, 16),
    "a first round of equals": lambda rng, t: 1e6 + rng.random(16) * (t > 0),
    "one penalty": lambda rng, t: np.append(1e6 + rng.random(15) * 0.8**t, 1e300),
}


@pytest.mark.parametrize("draw", HARD.values(), ids=HARD)
def test_the_order_of_all_losses_survives(draw):
    rng, single = np.random.default_rng(0), SinglePrecision()
    losses = [draw(rng, t) for t in range(60)]
    told = np.concatenate([single.told(row) for row in losses])
    losses = np.concatenate(losses)
    assert told.dtype == np.float32 and np.isfinite(told).all()
    smallest = np.finfo(np.float32).tiny
    assert ((told == 0) | (np.abs(told) >= smallest)).all()  # XLA takes the others for 0
    order = np.argsort(losses, kind="stable")
    ahead, behind = told[order][:-1], told[order][1:]
    assert (ahead <= behind).all()
    same = losses[order][:-1] == losses[order][1:]
    assert (ahead == behind)[same].all()
    # Floats run out where a first round says nothing of how near to each other losses will lie.
    assert (ahead == behind)[~same].mean() < 0.15


def test_differences_survive_an_offset_and_a_scale():
    d = np.random.default_rng(0).random(64)
    for offset, scale in ((1e6, 1.0), (0.0, 1e-50), (1e40, 1e38), (-3e8, 0.1)):
        told = SinglePrecision().told(offset + scale * d).astype(float)
        slope = (told.max() - told.min()) / (d.max() - d.min())
        np.testing.assert_allclose(told - told[0], slope * (d - d[0]), atol=1e-4 * slope)


def test_a_saved_tuner_tells_its_strategy_the_same_again(tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def step(tuner, rounds):
        for _ in range(8 * rounds):
            candidate = tuner.ask()
            tuner.tell(candidate.number, 1e6 + distance(candidate.hparams))

    tuner, restored = (AskTell(SPACE, mh.strategies.cma_es(SPACE, 8)) for _ in range(2))
    step(tuner, 40)
    tuner.save(tmp_path)
    restored.restore(tmp_path)
    assert restored.ask().hparams["x"].tolist() == tuner.ask().hparams["x"].tolist()
