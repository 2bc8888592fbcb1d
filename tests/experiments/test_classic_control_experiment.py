"""Agents on CartPole and Acrobot: what was committed."""

import json
from pathlib import Path

import pytest

from experiments import classic_control as study

RESULTS = Path(study.__file__).parent / "results" / "classic_control" / "results.json"


def test_committed_agents_solve_both_tasks():
    results = json.loads(RESULTS.read_text())
    rows = {(row["task"], row["agent"]): row for row in results["rows"]}
    assert set(rows) == {(task, agent) for task in study.TASKS for agent in study.AGENTS}
    assert results["settings"]["seeds"] == 10 and len(results["at"]) == study.Size().stages
    assert all(90_000 < row["steps"] <= 100_000 for row in rows.values())
    pole = rows["CartPole", "PPO"]
    assert pole["seeds solved"] == 10 and pole["worst seed"] >= 475
    for agent in study.AGENTS:
        low = rows["Acrobot", agent]["return"]
        assert low["mean"] - low["half_width"] >= -100, agent


@pytest.mark.parametrize("agent", study.AGENTS)
def test_a_short_training_makes_the_steps_that_it_counts(agent):
    size = study.Size(seeds=2, steps=4096, stages=2, episodes=5)
    learned = study.learn("CartPole", agent, size)
    assert learned.curve.shape == (2, 2) and learned.steps.tolist() == [4096, 4096]
    assert ((learned.final >= 1) & (learned.final <= 500)).all()
