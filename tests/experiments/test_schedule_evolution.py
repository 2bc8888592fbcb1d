"""Evolved schedules: what a budget counts, and that the committed ones come close to the best."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import schedule_evolution as study
from metahpo.strategies.de.l_shade import reductions

RESULTS = Path(study.__file__).parent / "results" / "schedule_evolution" / "results.json"


@pytest.mark.parametrize("budget", [1_000, 20_000])
def test_rounds_of_a_shrinking_population_spend_the_budget(budget):
    population = study.METHODS["L-SHADE"][1]
    limits, spent = reductions(population, budget), 0
    for _ in range(study.rounds_for("L-SHADE", budget)):
        spent += population - int((spent >= limits).sum())
    assert spent >= budget
    assert study.rounds_for("CMA-ES", 20_000) == 1667


def test_the_distance_is_that_of_log_rates_and_blind_to_their_order():
    rates = np.sort(mh.problems.chebyshev_rates(1.0, study.KAPPA, study.STEPS))
    assert study.distance(rates) == 0
    np.testing.assert_allclose(study.distance(1.1 * rates), np.log(1.1), rtol=1e-5)


def test_the_space_holds_the_optimum():
    rates = mh.problems.chebyshev_rates(1.0, study.KAPPA, study.STEPS)
    unit = mh.space.encode(study.SPACE, {"rates": rates})
    assert ((unit > 0) & (unit < 1)).all()
    np.testing.assert_allclose(
        mh.space.decode(study.SPACE, unit)["rates"], jnp.asarray(rates), rtol=1e-5
    )


def test_committed_evolution_reaches_chebyshevs_rates():
    results = json.loads(RESULTS.read_text())
    rows = {row["strategy"]: row for row in results["rows"]}
    assert results["settings"]["budgets"][-1] == 20_000
    assert round(rows["Chebyshev's rates"]["ratio @20,000"], 4) == 0.0361
    for name in study.Size().methods:
        assert rows[name]["times the optimum"]["n"] == 10
        assert rows[name]["times the optimum"]["mean"] > 1  # nothing beats the optimum
    best = rows["CMA-ES"]
    assert best["times the optimum"]["mean"] + best["times the optimum"]["half_width"] < 1.03
    assert best["from Chebyshev"]["mean"] < 0.03  # rates, not only their ratio
    for name in ("CMA-ES", "SNES", "DE", "PSO"):  # far better than the best constant rate
        assert (
            rows[name]["ratio @20,000"]["mean"] < 0.1 * rows["best constant rate"]["ratio @20,000"]
        )
