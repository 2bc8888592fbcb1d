"""From a file with a table to suggestions, on the command line."""

import json

import numpy as np
import pytest

import metahpo as mh
from metahpo import __main__ as command
from metahpo import transfer


@pytest.fixture
def files(tmp_path):
    rows = [{"n_rows": float(10 * i), "missing": 0.01 * i} for i in range(1, 13)]
    losses = np.abs(np.arange(12)[:, None] / 11 - np.linspace(0, 1, 4))
    space = {"depth": mh.Int(1, 4), "kind": mh.Constant("tree")}
    configurations = [{"depth": i, "kind": "tree"} for i in range(1, 5)]
    past = transfer.experience(space, rows, configurations, losses)
    transfer.save(tmp_path / "past.npz", past)
    lines = ["color,size,y", "red,1.5,yes", "blue,?,no", "red,2,no", ",3,yes"]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_file_is_read_with_its_gaps_and_kinds(files):
    x, y = transfer.read_csv(files / "data.csv", "y")
    assert x.tolist() == [["red", 1.5], ["blue", None], ["red", 2.0], [None, 3.0]]
    assert y.tolist() == ["yes", "no", "no", "yes"]
    found = transfer.describe(x, y)
    assert found["missing"] == 0.25 and found["n_categorical"] == 1


def test_the_command_prints_suggestions_in_their_units_and_writes_json(files, capsys):
    out = files / "found.json"
    command.suggest(files / "data.csv", "y", files / "past.npz", k=2, out=out)
    shown = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert len(found["suggestions"]) == 2 and found["tasks"] == 12
    for one in found["suggestions"]:
        assert one["depth"] in (1, 2, 3, 4) and one["low"] <= one["regret"] <= one["high"]
        assert one["kind"] == "tree" and "depth" in shown
    assert "Distance to what was seen" in shown and found["distance"] > 1


@pytest.mark.parametrize(
    ("target", "text", "message"),
    [
        ("z", "a,b\n1,2\n", "line of names with 'z'"),
        ("a", "a,b\n", "rows behind it"),
        ("a", "a,b\n1\n", "line 2 must have 2 values"),
        ("a", "a\n1\n", "columns beside 'a'"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, target, text, message):
    (tmp_path / "odd.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        transfer.read_csv(tmp_path / "odd.csv", target)


def test_experience_with_other_descriptors_is_refused():
    past = transfer.experience({"x": mh.Int(0, 1)}, [{"mine": 1.0}] * 3, [{"x": 0}], [[1.0]] * 3)
    with pytest.raises(ValueError, match="descriptors of mh.transfer.describe, not so: .*mine"):
        transfer.advise(np.eye(2), np.array([0, 1]), past)
