"""Folders and files of runs: one process each, whole or not at all, on this machine."""

import logging
import os
import threading

import jax
import numpy as np
import pytest

import metahpo as mh
from metahpo import report
from metahpo._files import CLAIM, atomic_write, claimed

SPACE = {"x": mh.Float(-1.0, 1.0)}
STRATEGY = mh.strategies.random(SPACE, 4)


def minimize(**options):
    return mh.minimize(lambda h: h["x"] ** 2, SPACE, STRATEGY, rounds=2, progress=False, **options)


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket/run", "file:///some/run"])
def test_a_url_is_refused_before_anything_is_evaluated(url, tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="of this machine, got the URL"):
        minimize(directory=url)
    with pytest.raises(ValueError, match="of this machine, got the URL"):
        report.save_json(f"{url}/a.json", 1)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_run_works_in_is_refused(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    loop = mh.run.search_loop(
        mh.problems.function(lambda h: h["x"] ** 2), SPACE, STRATEGY, rounds=2, steps=1
    )
    with claimed(tmp_path):
        for run in (
            lambda: minimize(directory=tmp_path, resume=True),
            lambda: mh.run.drive(
                loop, jax.random.key(0), directory=tmp_path, resume=True, progress=False
            ),
        ):
            with pytest.raises(ValueError, match="another process is at work"):
                run()
    assert not (tmp_path / CLAIM).exists()
    minimize(directory=tmp_path)
    assert not (tmp_path / CLAIM).exists()


def test_a_run_that_breaks_off_lets_go_of_its_folder(tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def failing(h):
        raise RuntimeError("no")

    with pytest.raises(mh.run.EvaluationError):
        mh.minimize(failing, SPACE, STRATEGY, rounds=2, progress=False, directory=tmp_path)
    minimize(directory=tmp_path, resume=True)


def test_threads_that_write_one_file_leave_a_whole_one(tmp_path):
    sizes, errors = (20, 40), []

    def write(count):
        tree = {f"a{i}": np.full(500, i) for i in range(count)}
        for _ in range(10):
            try:
                report.save_npz(tmp_path / "r.npz", tree)
                assert len(report.load_npz(tmp_path / "r.npz")) in sizes
            except Exception as error:  # noqa: BLE001 - told below, in the thread of the test
                errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["r.npz"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    with atomic_write(tmp_path / "a") as file:
        file.write(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_loggers_are_as_before_after_threads_have_saved(tmp_path):
    checkpoint = pytest.importorskip("metahpo.run.checkpoint")
    pytest.importorskip("orbax.checkpoint")
    mark = checkpoint.fingerprint(jax.random.key(0), 9, (np.zeros(3),))
    before = [logging.getLogger(name).level for name in ("absl", "asyncio")]

    def save(name):
        folder = checkpoint.prepare(tmp_path / name, resume=False)
        for done in range(1, 5):
            checkpoint.save(folder, done, (np.zeros(3),), mark)

    threads = [threading.Thread(target=save, args=(str(i),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [logging.getLogger(name).level for name in ("absl", "asyncio")] == before


@pytest.mark.parametrize(
    "content", [b"", b"Not Found", b"PK\x03\x04", b"[" * 100_000, b'{"a": [1,']
)
@pytest.mark.parametrize("name", ["a.npz", "a.json"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    load = report.load_json if name.endswith("json") else report.load_npz
    with pytest.raises(ValueError, match=f"{name} is damaged") as error:
        load(path)
    assert "pickle" not in str(error.value)


@pytest.mark.parametrize(
    "obj", [{1: "a", "1": "b"}, {True: 1, "True": 2}, {"a": "NaN"}, ["Infinity"]]
)
def test_json_that_would_come_back_as_something_else_is_refused(tmp_path, obj):
    with pytest.raises(ValueError, match="one text in JSON|stands for a number"):
        report.save_json(tmp_path / "a.json", obj)


@pytest.mark.parametrize("tree", [{"a\0x": np.ones(1)}, {"": np.ones(1)}])
def test_names_that_no_file_can_have_are_refused(tmp_path, tree):
    with pytest.raises(ValueError, match="cannot have an array called"):
        report.save_npz(tmp_path / "a.npz", tree)


def test_text_is_drawn_as_it_is(tmp_path):
    pytest.importorskip("matplotlib")
    curve = report.curve([[1.0, 2.0], [2.0, 3.0]])
    report.draw_curves({"cost $x_ { $": curve}, tmp_path / "a.png", title=r"$\frac{1}$")
    report.draw_bars({"50 $ and 60 _$": report.interval([1.0, 2.0])}, tmp_path / "b.png")
    assert len(os.listdir(tmp_path)) == 2
