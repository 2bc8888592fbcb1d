"""What is shipped is what the experiment makes, on tables that anyone can make again."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from experiments import shipped_experience as study
from experiments import table_learners as learners
from experiments.tables import ROWS, tables
from metahpo import transfer
from metahpo.transfer import shipped

RESULTS = Path(study.__file__).parent / "results" / "shipped_experience" / "results.json"


def test_tables_are_the_same_at_every_call_and_differ_from_one_another():
    first, again = list(tables()), list(tables())
    assert len({table.name for table in first}) == len(first) == 41
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)
        assert one.x.shape[0] == len(one.y) <= ROWS and np.bincount(one.y).min() >= 12


def test_halves_share_no_row_and_keep_the_classes():
    x, y = np.arange(40.0)[:, None], np.arange(40) % 3
    split = learners.halves(x, y, 0)
    assert len(split.y) + len(split.y_valid) == 40
    assert not set(split.x[:, 0]) & set(split.x_valid[:, 0])
    assert abs(np.bincount(split.y) - np.bincount(split.y_valid)).max() <= 1
    assert split.x.mean() == pytest.approx(0) and split.x.std() == pytest.approx(1)


def test_the_loss_is_the_balanced_error_of_scikit_learn():
    rng = np.random.default_rng(0)
    y, said = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    assert learners.balanced_error(said, y) == pytest.approx(1 - balanced_accuracy_score(y, said))


def test_a_perceptron_learns_what_is_no_plane_and_needs_its_units():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    split = learners.halves(x, (np.linalg.norm(x, axis=1) > 1.2).astype(int), 0)
    default = learners.LEARNERS["mlp"].default | {"learning_rate": 1e-2}
    tried = [default, default | {"learning_rate": 1e-4}, default | {"weight_decay": 1e3}]
    good, slow, decayed = learners.perceptron_losses(split, tried, 0)
    assert good < 0.12 < slow and decayed > 0.3


@pytest.mark.parametrize("learner", shipped.LEARNERS)
def test_what_is_shipped_is_made_again(learner):
    past = transfer.shipped_experience(learner)
    table = next(table for table in tables() if table.name == "wine")
    row = past.tasks.index("wine")
    described = transfer.describe(table.x, table.y)
    np.testing.assert_allclose(
        past.descriptors[row], [described[name] for name in past.names], rtol=1e-6
    )
    tried = study.configurations(learner, len(past.unit))
    assert learners.LEARNERS[learner].space == past.space
    some = slice(0, 4)
    made = learners.LEARNERS[learner].losses(learners.halves(table.x, table.y, 0), tried[some], 0)
    # Other versions and machines may tell a row or two in a hundred differently.
    np.testing.assert_allclose(past.scores[row, some, 0, 0], made, atol=0.03)


def test_committed_results_are_of_all_learners_and_methods():
    results = json.loads(RESULTS.read_text())
    rows = {(row["learner"], row["method"]): row for row in results["rows"]}
    wanted = {(learner, method) for learner in study.LEARNERS for method in study.METHODS}
    assert set(rows) == wanted | {(learner, "default") for learner in study.LEARNERS}
    assert all(row["regret @1"]["n"] == 41 for row in rows.values())
    assert sum(results["bytes"].values()) <= 1_000_000
