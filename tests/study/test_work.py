"""Parts are kept one by one, taken up again, and refused where they are damaged or another's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.run import checkpoint
from metahpo.study import Work, prepare

pytestmark = pytest.mark.versions


class Part(NamedTuple):
    """Arrays, and a number."""

    losses: np.ndarray
    skipped: int


class Counted:
    """Computes parts, and counts them."""

    def __init__(self):
        self.names = []

    def __call__(self, name, seed=0):
        self.names.append((name, seed) if seed else name)
        return Part(np.arange(3.0) + seed, 2)


def test_a_part_is_the_same_computed_kept_and_taken_up_again(tmp_path):
    found = [
        work.each(["a", ("b", 5)], Counted(), Part)
        for work in (Work(), Work(tmp_path), Work(tmp_path))
    ]
    for parts in found:
        assert list(parts) == ["a", ("b", 5)]
        np.testing.assert_array_equal(parts["a"].losses, [0.0, 1.0, 2.0])
        assert parts["a"].skipped == 2 and isinstance(parts["a"].skipped, np.integer)
    assert Work(tmp_path).kept() == ["a", "b-5"]
    assert Work().kept() == []


def test_what_is_finished_is_not_computed_again(tmp_path):
    first, second = Counted(), Counted()
    Work(tmp_path).each(["a"], first)
    parts = Work(tmp_path).each(["a", "b"], second)
    assert (first.names, second.names) == (["a"], ["b"])
    assert set(parts["a"]) == {"losses", "skipped"}


def test_what_was_finished_before_an_interruption_is_kept(tmp_path):
    def fails(name):
        if name == "b":
            raise KeyboardInterrupt
        return {"x": 1}

    with pytest.raises(KeyboardInterrupt):
        Work(tmp_path).each("abc", fails)
    assert Work(tmp_path).kept() == ["a"]


def test_seeds_are_stacked_and_kept_one_by_one(tmp_path):
    first, more = Counted(), Counted()
    Work(tmp_path).each_seed(["a"], 1, first)
    parts = Work(tmp_path).each_seed(["a", "b"], 2, more, Part)
    np.testing.assert_array_equal(parts["b"].losses, [[0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(parts["a"].skipped, [2, 2])
    assert more.names == [("a", 1), "b", ("b", 1)]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 9])
def test_a_damaged_part_is_refused_and_left_alone(tmp_path, damage):
    Work(tmp_path).each(["a"], Counted())
    path = tmp_path / "parts" / "a.npz"
    path.write_bytes(damage(path.read_bytes()))
    before, again = path.read_bytes(), Counted()
    with pytest.raises(ValueError, match=r"a\.npz is damaged.*delete it to compute"):
        Work(tmp_path).each(["a"], again)
    assert path.read_bytes() == before and again.names == []


def test_a_part_of_another_kind_is_damaged(tmp_path):
    Work(tmp_path).each(["a"], lambda name: {"losses": 1.0})
    with pytest.raises(ValueError, match=r"a\.npz is damaged"):
        Work(tmp_path).each(["a"], Counted(), Part)


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"name is that of a file, got 'a/b'"):
        Work(tmp_path).each(["a/b"], Counted())


def test_seconds_count_those_before_an_interruption(tmp_path):
    mh.report.save_npz(tmp_path / "parts" / "a.npz", {"x": 1.0, "seconds taken": 100.0})
    work = Work(tmp_path)
    assert work.seconds < 50
    work.each("a", Counted())
    assert 100 <= work.seconds < 150


def test_progress_is_told_on_the_error_stream_alone(tmp_path, capsys):
    Work(tmp_path, shown=True).each(["a", "b"], Counted())
    Work(tmp_path, shown=True).each(["b"], Counted())
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "1/2 a" and lines[1].startswith("1/2 a: ") and lines[1].endswith(" s")
    assert lines[-1] == "1/1 b: taken from the results folder"
    Work(tmp_path).each(["c"], Counted())
    assert capsys.readouterr().err == ""


def doubling(rounds=6):
    """A loop whose state and history tell how often it went on."""
    return mh.run.Loop(
        init=lambda key: jnp.float32(1.0),
        step=lambda key, x: (2 * x, x),
        finish=lambda x, history: {"x": x, "history": history},
        rounds=rounds,
    )


def test_a_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    key, save = jax.random.key(0), checkpoint.save
    expected, _ = Work().drive(doubling(), key, "doubling")

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        Work(tmp_path).drive(doubling(), key, "doubling")
    monkeypatch.setattr(checkpoint, "save", save)
    assert any((tmp_path / "checkpoints" / "doubling").iterdir())
    mh.report.save_json(tmp_path / "checkpoints" / "doubling.json", 1000.0)
    result, seconds = Work(tmp_path).drive(doubling(), key, "doubling")
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert 1000 <= seconds < 1100  # those before the interruption count


def test_a_folder_is_made_or_goes_on_with_the_same_settings(tmp_path):
    out = prepare(tmp_path / "new" / "run", {"seeds": 3, "methods": ("a", "b")}, resume=False)
    assert out.is_absolute() and out.is_dir()
    assert prepare(out, {"seeds": 3, "methods": ["a", "b"]}, resume=True) == out


@pytest.mark.parametrize(
    ("there", "settings", "resume", "message"),
    [
        ({"seeds": 3}, {"seeds": 3}, False, r"is not empty \(see --resume\)"),
        ({"seeds": 3}, {"seeds": 4}, True, "another run.*seeds is 3 there, 4 here"),
        ({"seeds": 3}, {"rounds": 4}, True, "rounds is None there, 4 here, seeds is 3 there"),
        ([1, 2], {"seeds": 3}, True, r"settings\.json is damaged"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, there, settings, resume, message):
    mh.report.save_json(tmp_path / "settings.json", there)
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, settings, resume)


def test_a_folder_with_something_else_is_not_resumed(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has no settings\.json to resume from"):
        prepare(tmp_path, {}, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
