"""The experience in the package, and what the command says with it."""

import json

import numpy as np
import pytest

from metahpo import __main__ as command
from metahpo import transfer
from metahpo.transfer import shipped


def test_there_is_experience_for_each_learner_in_one_megabyte():
    files = [shipped.FOLDER / f"{learner}.npz" for learner in shipped.LEARNERS]
    assert sum(file.stat().st_size for file in files) <= 1_000_000
    for learner in shipped.LEARNERS:
        past = transfer.shipped_experience(learner)
        assert set(past.names) == set(transfer.describe(np.eye(4), np.arange(4) % 2))
        losses = past.losses()
        assert losses.shape == (41, 32) and (losses >= 0).all() and (losses <= 1).all()
        assert (losses.max(1) > losses.min(1)).all()  # there is something to choose


def test_the_command_suggests_for_a_table_of_the_kind(tmp_path, capsys):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 3))
    y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    rows = ["a,b,c,y", *(f"{a},{b},{c},{label}" for (a, b, c), label in zip(x, y, strict=True))]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    command.suggest(tmp_path / "data.csv", "y", learner="svc", k=2, out=tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["tasks"] == 41 and "gamma" in capsys.readouterr().out
    for one in found["suggestions"]:
        assert 1e-2 <= one["C"] <= 1e3 and 1e-4 <= one["gamma"] <= 10
    # The border is crooked: a process that is next to linear is no good advice.
    assert found["suggestions"][0]["gamma"] > 1e-3
    numbers = [",".join(row.split(",")[:3]) for row in rows]
    (tmp_path / "numbers.csv").write_text("\n".join(numbers))
    with pytest.raises(ValueError, match="experience is of classification, this task is one of r"):
        command.suggest(tmp_path / "numbers.csv", "c", learner="svc")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "either --learner or --experience"),
        ({"learner": "svc", "experience": "past.npz"}, "either --learner or --experience"),
        (
            {"learner": "gbm"},
            r"learner must be one of \('mlp', 'random_forest', 'svc'\), got 'gbm'",
        ),
    ],
)
def test_one_of_the_two_is_asked_for(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        command.suggest(tmp_path / "data.csv", "y", **given)
