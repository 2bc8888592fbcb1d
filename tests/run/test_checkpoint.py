"""A checkpoint is whole or absent, is believed only when intact, and brings a run back."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import killed_run
import numpy as np
import pytest

from metahpo.run import Loop, checkpoint, drive

pytestmark = pytest.mark.versions

pytest.importorskip("orbax.checkpoint")

HERE = Path(__file__).parent
KEY = jax.random.key(0)


def state(rounds=3):
    carry = {
        "key": jax.random.key(5),
        "keys": jax.random.split(jax.random.key(6, impl="rbg"), 2),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "flag": jnp.array(True),
        "none": jnp.zeros((0, 2)),
        "nested": [np.float64(0.1), jnp.array([jnp.nan, -jnp.inf, -0.0])],
    }
    return carry, jnp.zeros((rounds, 4))


def saved(folder, done=2, rounds=3, **options):
    mark = checkpoint.fingerprint(KEY, rounds, state(rounds), **options)
    return checkpoint.save(folder, done, state(rounds), mark), mark


def numbers(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), np.asarray(jax.random.key_data(leaf)).tobytes()
    return str(leaf.dtype), np.asarray(leaf).shape, np.asarray(leaf).tobytes()


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def walk(rounds=6):
    def step(key, carry):
        t, x = carry
        x = x + jax.random.normal(jax.random.fold_in(key, t), (2,))
        return (t + 1, x), x

    return Loop(lambda key: (0, jnp.zeros(2)), step, lambda carry, history: history, rounds)


def test_every_kind_of_leaf_comes_back_as_it_was(tmp_path):
    _, mark = saved(tmp_path)
    done, (carry, history) = checkpoint.restore(tmp_path, state(), mark)
    assert done == 2
    assert jax.tree.map(numbers, (carry, history)) == jax.tree.map(numbers, state())
    assert jax.random.key_impl(carry["keys"]) == "rbg"


def test_the_manifest_says_what_wrote_it(tmp_path):
    path, _ = saved(tmp_path)
    manifest = json.loads((path / "metahpo.json").read_text())
    assert manifest["metahpo"] == sys.modules["metahpo"].__version__
    assert manifest["rounds_done"] == 2


def test_the_newest_two_checkpoints_stay(tmp_path):
    for done in (1, 2, 3, 10):
        saved(tmp_path, done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_00000003", "round_00000010"]
    assert checkpoint.rounds_done(tmp_path) == 10


def test_what_a_killed_process_left_unfinished_is_not_a_checkpoint(tmp_path):
    path, _ = saved(tmp_path)
    path.rename(tmp_path / ".unfinished-round_00000002-1")
    assert checkpoint.prepare(tmp_path, resume=False) == tmp_path
    assert checkpoint.prepare(tmp_path, resume=True) == tmp_path
    assert checkpoint.rounds_done(tmp_path) == 0
    saved(tmp_path, done=3)
    assert [path.name for path in tmp_path.iterdir()] == ["round_00000003"]


def damage(how, path):
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "missing":
        path.unlink()
    elif how == "flipped":
        flipped = bytes([content[middle] ^ 1])
        path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    else:
        path.write_bytes(content[: middle if how == "truncated" else 0])


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "missing"])
def test_damage_to_any_file_is_told_and_nothing_is_touched(tmp_path, how):
    original, mark = saved(tmp_path / "original")
    files = [path.relative_to(original) for path in contents(original)]
    assert len(files) > 3
    for i, name in enumerate(files):
        folder = tmp_path / str(i)
        shutil.copytree(original.parent, folder)
        damage(how, folder / original.name / name)
        before = contents(folder)
        with pytest.raises(ValueError, match=f"checkpoint '{folder / original.name}' is damaged"):
            checkpoint.restore(folder, state(), mark)
        assert contents(folder) == before


def test_a_run_does_not_go_on_from_a_damaged_checkpoint(tmp_path):
    drive(walk(), KEY, chunk=2, directory=tmp_path, progress=False)
    damaged = tmp_path / "round_00000006"
    damage("truncated", max(contents(damaged), key=lambda path: path.stat().st_size))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="round_00000006' is damaged"):
        drive(walk(), KEY, chunk=2, directory=tmp_path, resume=True, progress=False)
    assert contents(tmp_path) == before

    shutil.rmtree(damaged)  # as the message advises
    again = drive(walk(), KEY, directory=tmp_path, resume=True, progress=False)
    np.testing.assert_array_equal(again, drive(walk(), KEY, progress=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": jax.random.key(1)}, "its key is another"),
        ({"rounds": 4}, "it has 3 rounds, this run has 4"),
        ({"about": "PBT, 8 members"}, "it is '', this run is 'PBT, 8 members'"),
        ({"start": (state()[0] | {"flag": jnp.array(False)}, state()[1])}, "its initial state"),
        (
            {"start": (state()[0] | {"flag": jnp.zeros(2)}, state()[1])},
            r"\['flag'\] bool\[\] where this run has .*\['flag'\] float32\[2\]",
        ),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, change, message):
    saved(tmp_path)
    arguments = {"key": KEY, "rounds": 3, "start": state()} | change
    mark = checkpoint.fingerprint(**arguments)
    with pytest.raises(ValueError, match=f"is of another run: .*{message}"):
        checkpoint.restore(tmp_path, arguments["start"], mark)


def test_a_new_run_needs_an_empty_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=f"empty folder, but '{tmp_path}' holds 'notes.txt'"):
        drive(walk(), KEY, directory=tmp_path, progress=False)
    with pytest.raises(ValueError, match=f"no checkpoint of a run in '{tmp_path}'"):
        drive(walk(), KEY, directory=tmp_path, resume=True, progress=False)
    assert contents(tmp_path) == {tmp_path / "notes.txt": b"mine"}


def test_an_unwritable_folder_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"

    def init(key):
        raise AssertionError("the run has started")

    with pytest.raises(ValueError, match=f"output folder must be writable, got '{folder}': Not a"):
        drive(walk()._replace(init=init), KEY, directory=folder, progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=f"must be writable, got '{tmp_path}': Permission denied"):
        checkpoint.prepare(tmp_path, resume=False)


def test_a_run_resumes_with_another_chunk_length_and_ends_the_same(tmp_path):
    class Stop(Exception):
        pass

    def stop(done, history):
        if done == 4:
            raise Stop

    with pytest.raises(Stop):
        drive(walk(), KEY, chunk=2, directory=tmp_path, on_chunk=stop, progress=False)
    assert checkpoint.rounds_done(tmp_path) == 4
    chunks = []
    resumed = drive(
        walk(),
        KEY,
        chunk=3,
        directory=tmp_path,
        resume=True,
        on_chunk=lambda done, history: chunks.append(done),
        progress=False,
    )
    assert chunks == [6]
    finished = drive(walk(), KEY, directory=tmp_path, resume=True, progress=False)
    whole = drive(walk(), KEY, progress=False)
    assert np.asarray(resumed).tobytes() == np.asarray(whole).tobytes()
    assert np.asarray(finished).tobytes() == np.asarray(whole).tobytes()


def test_resume_in_a_missing_folder_starts_a_run(tmp_path):
    folder = tmp_path / "new"
    drive(walk(), KEY, directory=folder, resume=True, progress=False)
    assert checkpoint.rounds_done(folder) == 6


def test_saving_leaves_logging_as_it_was(tmp_path, caplog):
    loggers = [logging.getLogger(name) for name in (None, "absl", "asyncio")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    saved(tmp_path)
    assert [(logger.level, logger.handlers) for logger in loggers] == before
    assert [record for record in caplog.records if record.name == "absl"] == []


@pytest.mark.slow
@pytest.mark.optimised
def test_a_killed_run_resumes_to_a_byte_identical_history(tmp_path):
    folder = tmp_path / "run"
    root = str(HERE.parents[1])
    child = subprocess.Popen(
        [sys.executable, str(HERE / "killed_run.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": root},
    )
    give_up = time.monotonic() + 120
    while not (folder / "round_00000003").exists() and child.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.005)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    done = checkpoint.rounds_done(folder)
    assert 3 <= done < killed_run.ROUNDS

    resumed = killed_run.run(folder, resume=True, chunk=killed_run.ROUNDS)
    whole = killed_run.run(chunk=killed_run.ROUNDS)
    for one, other in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert len(np.unique(whole.history.loss[done:])) > 1
