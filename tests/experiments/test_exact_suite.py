"""Agents on exact processes: what they are measured against, and what was committed."""

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import exact_suite as study

RESULTS = Path(study.__file__).parent / "results" / "exact_suite" / "results.json"
TINY = study.QUICK._replace(steps=2048, short=1024, updates=3, instances=50)


def test_the_optima_of_the_portfolios_are_the_published_ones():
    published = {
        "n 50, powers of 2": 974.885,
        "n 100, evenly 7": 4427.4,
        "n 100, evenly 15": 4171.4,
        "n 100, evenly 20": 4121.8,
    }
    for name, steps in published.items():
        assert study.leading_ones(name, TINY).optimal == pytest.approx(-steps, rel=2e-5)


def test_the_rates_of_chebyshev_are_the_best_of_continuous_ones():
    case = study.quadratics("condition 100", TINY)
    middle, half = 0.505, 0.495
    rates = 1 / (middle + half * np.cos((np.arange(20) + 0.5) * math.pi / 20))
    assert case.judge(rates) == pytest.approx(case.optimal, rel=1e-6)
    assert case.optimal == pytest.approx(-0.0361, abs=5e-5)
    # The process says the same of them in single precision.
    state, total = case.environment.reset(None, None), 0.0
    for rate in rates:
        state, transition = case.environment.step(None, state, jnp.float32(rate))
        total += float(transition.reward)
    assert math.exp(-total) == pytest.approx(0.0361, rel=0.01) and bool(transition.terminated)


@pytest.mark.parametrize(("family", "name"), [("Luby", "L 8"), ("quadratics", "condition 100")])
def test_a_few_updates_of_a_family_run(family, name):
    case = study.FAMILIES[family][0](name, TINY)
    part = study.train(case, TINY)
    assert part["values"].shape == (2,) and not part["skipped"].any()
    assert (part["values"] <= case.optimal).all()


def test_the_committed_agents_reach_their_targets():
    results = json.loads(RESULTS.read_text())
    assert results["settings"]["seeds"] == 10
    rows = {row["case"]: row for row in results["rows"]}
    assert set(rows) == {name for _, names in study.FAMILIES.values() for name in names}
    for name in study.LEADING_ONES:
        assert rows[name]["regret"]["mean"] < 0.01
    most = rows["n 200, evenly 7"]["regret"]
    assert most["mean"] + most["half_width"] < 0.02
    for name, least in {"1D3M": 9.12, "2D3M": 8.32, "3D3M": 7.5, "5D3M": 6.0}.items():
        assert rows[name]["agent"]["mean"] >= least
    for length in study.LENGTHS:
        assert rows[f"L {length}"]["agent"]["mean"] == 0
    assert rows["condition 100"]["worst seed"] >= -0.045
