"""The committed results of the comparisons hold what the documentation says of them."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
DIGITS = json.loads((RESULTS / "digits" / "results.json").read_text())
QUADRATICS = json.loads((RESULTS / "quadratics" / "results.json").read_text())["methods"]
TUNED = [name for name in DIGITS["methods"] if name != "default"]


def difference(name, other, budget):
    """The paired difference of losses at a budget, with its 95 % interval."""
    values = DIGITS["methods"][name]["loss_minus"][other][DIGITS["budgets"].index(budget)]
    return values["mean"], values["half_width"]


def test_the_comparison_is_of_the_size_that_it_claims():
    assert DIGITS["settings"]["tasks"] >= 20
    assert DIGITS["budgets"] == [1, 2, 4, 8, 16, 32]
    assert len(TUNED) == 10


@pytest.mark.parametrize("name", TUNED)
def test_every_tuned_method_beats_the_defaults_beyond_the_interval(name):
    mean, half_width = difference(name, "default", 32)
    assert mean + half_width < 0


@pytest.mark.parametrize("name", ["differential_evolution", "hypergradient"])
def test_search_with_a_model_of_the_loss_is_not_worse_than_random_search(name):
    mean, half_width = difference(name, "random", 32)
    assert mean - half_width <= 0
    assert mean <= 0


@pytest.mark.parametrize("name", ["mapping", "mapping_regression"])
def test_one_training_at_the_mapped_hyperparameters_beats_the_defaults(name):
    mean, half_width = difference(name, "default", 1)
    assert mean + half_width < 0


@pytest.mark.parametrize("name", ["hypergradient", "differential_evolution"])
def test_the_learned_schedule_is_close_to_chebyshevs(name):
    assert QUADRATICS[name]["loss"][-1]["mean"] <= 0.045


def test_the_table_in_the_documentation_is_the_committed_one():
    page = (ROOT / "docs" / "demo.md").read_text()
    assert (RESULTS / "digits" / "table.md").read_text().strip() in page
