"""Learned rates against the best fixed one, from every first rate."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from experiments import online_rates as study  # noqa: E402

RESULTS = Path(study.__file__).parent / "results" / "online_rates" / "results.json"


@pytest.mark.parametrize(("batch", "rule"), [("full", "additive"), ("100", "multiplicative")])
@pytest.mark.optimised
def test_sgd_comes_within_2_percent_of_the_best_fixed_rate_from_every_first_rate(
    batch, rule, monkeypatch
):
    monkeypatch.setattr(study, "HYPER_RATES", {rule: study.HYPER_RATES[rule]})
    grid = np.array([0.13, 0.18, 1.0])  # the best of the whole grid
    rows, _ = study.compare(batch, study.STEPS[batch], 1, study.Size().l2, grid=grid)
    above = {method: [] for method in ("fixed", rule)}
    for row in rows[1:]:
        above[row["SGD"]].append(row[f"worst of {study.LAST}, %"])
    assert len(above[rule]) == len(study.STARTS) and max(above[rule]) < 2.0
    assert above["fixed"][0] > 100.0


def test_the_committed_results_say_the_same():
    rows = json.loads(RESULTS.read_text())["rows"]
    learned = [row for row in rows if row["SGD"] in study.HYPER_RATES]
    assert len(learned) == 4 * len(study.STARTS)
    assert all(row["above the best, %"] < 2.0 for row in learned)
