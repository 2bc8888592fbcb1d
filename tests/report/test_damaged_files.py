"""A damaged file is refused by its name, and nobody is told to load it unsafely."""

import numpy as np
import pytest

from metahpo import report

DAMAGED = {
    "cut.npz": lambda good: good[: len(good) // 2],
    "empty.npz": lambda good: b"",
    "text.npz": lambda good: b"Not Found",
    "head.npz": lambda good: b"PK\x03\x04",
    "cut.json": lambda good: b'{"a": [1,',
    "empty.json": lambda good: b"",
    "latin.json": lambda good: b'"\xe4"',
    "nested.json": lambda good: b"[" * 100_000,
}


def refused(path):
    load = report.load_json if path.suffix == ".json" else report.load_npz
    with pytest.raises(ValueError, match=path.name) as caught:
        load(path)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, name):
    good = tmp_path / "good.npz"
    report.save_npz(good, {"loss": np.ones(30)})
    (tmp_path / name).write_bytes(DAMAGED[name](good.read_bytes()))
    refused(tmp_path / name)


def test_files_of_other_kinds_are_refused_by_their_names(tmp_path):
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    refused(tmp_path / "array.npz")
    np.savez(tmp_path / "object.npz", a=np.array([object()], dtype=object))
    refused(tmp_path / "object.npz")
