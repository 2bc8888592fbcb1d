"""The Omniglot study in small, on made-up characters."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import metahpo as mh
from experiments import omniglot as study
from metahpo.problems.omniglot_splits import members

RESULTS = Path(study.__file__).parent / "results" / "omniglot" / "results.json"
KEY = jax.random.key(0)
SMALL = study.protocol("prototypical", 5, 1, "cpu")._replace(filters=2, train_ways=3, rounds=3)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """Each character is a pattern of its own, and its drawings are noisy copies of it."""
    rng = np.random.default_rng(0)
    names = [f"{name}/character{i:02d}" for name in ("Greek", "ULOG") for i in range(1, 7)]
    patterns = rng.random((len(names), 1, 7, 7)) < 0.3
    pixels = np.kron(patterns, np.ones((1, 1, 4, 4))) > 0
    pixels = pixels ^ (rng.random((len(names), 20, 28, 28)) < 0.02)
    file = tmp_path_factory.mktemp("data") / "omniglot28.npz"
    np.savez(file, images=np.where(pixels, 255, 0).astype(np.uint8), names=names)
    return {"path": file, "verify": False}


@pytest.mark.parametrize("learner", study.LEARNERS)
def test_training_and_test_see_characters_of_their_own_part(learner, where):
    p = study.protocol(learner, 5, 1, "published")
    p = p._replace(ways=2, train_ways=2, train_rotations=False, test_rotations=False)
    data = mh.problems.read_omniglot(**where)
    for part in ("train", "test"):
        one = study.problem(p, part, **where)
        episode = jax.jit(one.sample)(KEY)
        known = data.images[members(data.names, p.split, part)].reshape(-1, 28 * 28)
        known = {row.tobytes() for row in known}
        for image in np.asarray(episode.query.x).reshape(-1, 28 * 28):
            assert (255 * image).astype(np.uint8).tobytes() in known


def test_a_resumed_training_ends_as_one_without_a_break(tmp_path, monkeypatch):
    """On sinusoids, which compile faster than images."""
    p = study.protocol("maml", 5, 1, "cpu")._replace(rounds=6, tasks=2)
    sinusoid = mh.meta.maml(mh.problems.sinusoid(shots=5, hidden=(4,)), 0.01)
    monkeypatch.setattr(study, "problem", lambda p, part, **where: sinusoid)
    monkeypatch.setattr(study, "STAGES", 3)
    whole = study.train(p, KEY)
    save = study.checkpoint.save

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(study.checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        study.train(p, KEY, directory=tmp_path)
    monkeypatch.setattr(study.checkpoint, "save", save)
    resumed = study.train(p, KEY, directory=tmp_path, resume=True)
    assert len(whole.losses) == 3 and np.isfinite(whole.losses).all()
    np.testing.assert_array_equal(whole.losses, resumed.losses)
    jax.tree.map(np.testing.assert_array_equal, whole.hparams, resumed.hparams)


def test_rows_of_all_commands_stand_in_one_table_and_one_picture(tmp_path):
    path = tmp_path / "results.json"
    accuracy = mh.report.interval(np.array([90.0, 94.0, 98.0]))
    row = {"seed": 3, "rounds": 10, "published": 98.8, "frozen": accuracy, "inductive": accuracy}
    note = {"loss by stage": np.array([2.0, 1.0])}
    study.merged(path, "one", row, note)
    again = study.merged(path, "another", row | {"published": None}, note)
    runs = study.merged(path, "one", row | {"seed": 4}, note)
    assert list(again) == list(runs) == ["another", "one"]
    assert [run["row"]["seed"] for run in runs.values()] == [3, 4]
    assert runs["one"]["row"]["frozen"] == accuracy
    study.plot(runs, tmp_path / "omniglot.png")
    assert (tmp_path / "omniglot.png").stat().st_size > 10_000


@pytest.mark.slow
def test_embeddings_tell_unseen_patterns_apart_by_frozen_statistics_too(where):
    settings = {"episodes": 50, "chunk": 50, "where": where}
    _, row, _ = study.study(SMALL, "cpu", 3, **settings)
    for mode in study.MODES:
        assert row[mode].mean - 2 * row[mode].half_width > 20, mode  # chance


@pytest.mark.skipif(not RESULTS.exists(), reason="the study has not been run")
@pytest.mark.parametrize(("learner", "least"), [("maml", 96.0), ("prototypical", 98.0)])
def test_the_committed_accuracies_of_two_cores_reach_their_targets(learner, least):
    row = json.loads(RESULTS.read_text())["runs"][f"{learner} 5-way 1-shot, cpu, seed 0"]["row"]
    score = row["transductive"]
    assert score["mean"] - score["half_width"] >= least and score["n"] == 10_000
    assert row["minutes"] + row["minutes of test"] <= 30
    assert row["skipped"] == 0
