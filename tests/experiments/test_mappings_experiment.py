"""From descriptors to configurations on real data: verdicts, and committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import mappings as study

RESULTS = Path(study.__file__).parent / "results" / "mappings" / "results.json"


def found(regret, average, greedy=None):
    regret = np.array(regret, float)
    chosen = np.zeros((regret.shape[1], 8), int) + (greedy is None)
    nothing = np.zeros(4)
    one = study.Found(
        regret, np.array(average, float), chosen, np.array(0.9), np.array(0.0), nothing,
        nothing, regret[None], regret if greedy is None else greedy,
    )  # fmt: skip
    return one


def test_verdicts_are_paired_differences_in_standard_errors():
    average = [0.2, 0.4, 0.6]
    ours = found([[0.1, 0.3, 0.2]] * 4, average)
    greedy = found([[0.2, 0.4, 0.6]] * 2 + [[0.2, 0.3, 0.4]] * 2, average, np.zeros((4, 3)))
    size = study.Size(sets=("SVC",))
    parts = dict.fromkeys([(study.AVERAGE, "SVC"), (study.NEAREST, "SVC")], greedy)
    parts |= {(study.OURS, "SVC"): ours, (study.GREEDY, "SVC"): greedy}
    verdict = study.judged(parts, size)["SVC"]
    gain = np.array([0.1, 0.1, 0.4])
    assert verdict["saved @1"] == pytest.approx(0.5)
    assert verdict["saved @1, errors"] == pytest.approx(gain.mean() / (gain.std(ddof=1) / 3**0.5))
    assert verdict["saved @4"] == pytest.approx(1 / 3)
    assert verdict["gate closed"] == 0


def test_data_that_nobody_has_named_are_asked_for(monkeypatch):
    monkeypatch.delenv("METAHPO_DATA", raising=False)
    with pytest.raises(ValueError, match="--path or METAHPO_DATA"):
        study.folder(study.Size())


def test_committed_results_are_of_all_tasks_and_keep_to_the_protocol():
    results = json.loads(RESULTS.read_text())
    tasks = {name: verdict["tasks"] for name, verdict in results["verdicts"].items()}
    assert tasks == {"LCBench": 34, "LCBench-ce": 34, "SVC": 100, "rpart": 95}
    rows = {(row["set"], row["method"]): row for row in results["rows"]}
    assert set(rows) == {(name, method) for name in tasks for method in study.METHODS}
    for (name, _), row in rows.items():
        assert row["regret @1"]["n"] == tasks[name]
        assert row["regret @4"]["mean"] <= row["regret @1"]["mean"]
    # What the reference of the field reports of these sets.
    assert rows["SVC", study.AVERAGE]["regret @1"]["mean"] == pytest.approx(0.130, abs=0.001)
    assert rows["SVC", study.GREEDY]["regret @4"]["mean"] == pytest.approx(0.057, abs=0.001)
