"""The command line of an experiment: sizes, the results folder, resuming, and one-line errors."""

import sys
from typing import Literal, NamedTuple

import pytest

from metahpo import report
from metahpo.study import Findings, command

pytestmark = pytest.mark.versions


class Size(NamedTuple):
    """How much is computed."""

    seeds: int = 3
    seed: int = 0
    rounds: int | None = None
    rate: float = 0.5
    only: tuple[Literal["a", "b"], ...] = ("a", "b")


class Counted:
    """A study that counts what it computes."""

    def __init__(self):
        self.computed = []

    def __call__(self, size, work):
        def compute(name):
            self.computed.append(name)
            return {"loss": size.rate * len(name)}

        parts = work.each([(name, i) for name in size.only for i in range(size.seeds)], compute)
        rows = [{"method": f"{a}{i}", **part} for (a, i), part in parts.items()]
        return Findings(rows, formats={"loss": ".2f"}, settings={"own": 1})


def draw(results, path):
    """A picture of what ``results.json`` holds."""
    path.write_text(str(len(results["rows"])))


def call(*arguments, study=None):
    study = study or Counted()
    command(
        "experiments.toy", "A toy.\n\nMore.", study, Size(), Size(seeds=1), {"rows.png": draw},
        choices=["only"], arguments=list(map(str, arguments)),
    )  # fmt: skip
    return study


def test_the_table_is_printed_and_the_files_are_written(tmp_path, capsys):
    study = call("--out", tmp_path / "new", "--rate", 0.25)
    out = capsys.readouterr().out
    assert "method  loss" in out and "b2      0.50" in out and str(tmp_path / "new") in out
    saved = report.load_json(tmp_path / "new" / "results.json")
    assert saved["settings"] == {"seeds": 3, "seed": 0, "rounds": None, "rate": 0.25, "own": 1}
    assert len(saved["rows"]) == len(study.computed) == 6
    assert "| b2" in (tmp_path / "new" / "table.md").read_text()


def test_pictures_are_drawn_by_a_run_and_again_without_one(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    call("--out", tmp_path)
    picture = tmp_path / "rows.png"
    assert picture.read_text() == "6"
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    picture.unlink()
    assert call("--redraw", "--out", tmp_path).computed == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert "rows.png" in capsys.readouterr().out.splitlines()[-1]


def test_redrawing_needs_results(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call("--redraw", "--out", tmp_path / "none")
    assert "there must be a results.json in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    report.save_json(tmp_path / "results.json", {"runs": {}})
    with pytest.raises(SystemExit, match="2"):
        call("--redraw", "--out", tmp_path)
    assert "holds other results: rows.png needs 'rows'" in capsys.readouterr().err


def test_quick_has_other_defaults_and_every_field_can_be_given(tmp_path):
    call("--quick", "--out", tmp_path / "a")
    assert report.load_json(tmp_path / "a" / "results.json")["settings"]["seeds"] == 1
    call("--quick", "--seeds", 2, "--rounds", 7, "--seed", 0, "--out", tmp_path / "b")
    settings = report.load_json(tmp_path / "b" / "results.json")["settings"]
    assert (settings["seeds"], settings["rounds"], settings["rate"]) == (2, 7, 0.5)


def test_the_folder_is_named_after_the_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("--quick")
    assert (tmp_path / "results" / "toy" / "results.json").exists()


def test_a_run_is_resumed_with_other_choices_but_not_with_other_settings(tmp_path, capsys):
    call("--out", tmp_path, "--only", "a")
    assert len(call("--out", tmp_path, "--resume").computed) == 3  # those of b
    assert call("--out", tmp_path, "--resume").computed == []
    with pytest.raises(SystemExit, match="2"):
        call("--out", tmp_path, "--resume", "--rate", 0.1)
    assert "rate is 0.5 there, 0.1 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "seeds must be a whole number of at least 1, got 0"),
        (["--rounds", "0"], "rounds must be a whole number of at least 1, got 0"),
    ],
)
def test_a_wrong_input_ends_with_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        call("--out", tmp_path, *arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_resuming_before_anything_was_begun_begins(tmp_path):
    assert len(call("--quick", "--resume", "--out", tmp_path).computed) == 2


def test_an_unknown_option_or_choice_ends_with_status_2(tmp_path):
    for wrong in (["--typo", "1"], ["--only", "c"], ["--seeds", "many"]):
        with pytest.raises(SystemExit, match="2"):
            call("--out", tmp_path, *wrong)


def test_help_shows_the_first_line_and_every_field(capsys):
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    out = capsys.readouterr().out
    assert "A toy." in out and "More." not in out and "python -m experiments.toy" in out
    for option in ("--out", "--quick", "--resume", "--redraw", "--seeds", "--only"):
        assert option in out


def test_a_missing_extra_ends_with_one_line_that_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)  # an import of it fails
    with pytest.raises(SystemExit, match="2"):
        call("--out", tmp_path)
    assert "[cli]'" in capsys.readouterr().err
