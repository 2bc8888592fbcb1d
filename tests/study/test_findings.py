"""What a study found is written whole, with pictures where matplotlib is there."""

import sys

import numpy as np

from metahpo import report
from metahpo.study import Findings, write

ROWS = [{"method": "grid", "loss": 0.25}, {"method": "ours", "loss": report.interval([0.1, 0.2])}]


def draw(path):
    path.write_bytes(b"picture")


def test_settings_notes_rows_arrays_and_pictures_are_written(tmp_path):
    found = Findings(
        ROWS,
        formats={"loss": ".1f"},
        settings={"rate": 0.5},
        notes={"found": [1, 2]},
        arrays={"curve": np.arange(3)},
        pictures={"one.png": draw},
    )
    write(tmp_path, found, {"seeds": 3})
    saved = report.load_json(tmp_path / "results.json")
    assert list(saved) == ["settings", "found", "rows"]
    assert saved["settings"] == {"seeds": 3, "rate": 0.5}
    assert saved["rows"][1]["loss"]["n"] == 2
    assert "| grid" in (tmp_path / "table.md").read_text()
    assert report.load_npz(tmp_path / "arrays.npz")["curve"].tolist() == [0, 1, 2]
    assert (tmp_path / "one.png").read_bytes() == b"picture"


def test_results_of_a_study_of_its_own_shape_stand_as_they_are(tmp_path):
    write(tmp_path, Findings(ROWS, results={"runs": {"a": 1}}), {"seeds": 3})
    assert report.load_json(tmp_path / "results.json") == {"runs": {"a": 1}}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "table.md"]


def test_without_matplotlib_a_line_says_so_and_all_else_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    write(tmp_path, Findings(ROWS, pictures={"one.png": draw}))
    out = capsys.readouterr().out
    assert out.startswith("no pictures: ") and "[plot]'" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "table.md"]
