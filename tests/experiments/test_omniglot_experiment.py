"""The Omniglot study in small, on made-up characters."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import metahpo as mh
from experiments import omniglot as study
from metahpo.problems.omniglot_splits import members
from metahpo.run import checkpoint
from metahpo.study import Work, redraw, write

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
    monkeypatch.setattr(study, "problem", lambda p, part, weights=None, **where: sinusoid)
    monkeypatch.setattr(study, "STAGES", 3)
    whole, told = study.train(p, KEY, Work(), "toy")
    save = checkpoint.save

    def save_and_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        study.train(p, KEY, Work(tmp_path), "toy")
    monkeypatch.setattr(checkpoint, "save", save)
    resumed, told_again = study.train(p, KEY, Work(tmp_path), "toy")
    assert len(told["losses"]) == 3 and np.isfinite(told["losses"]).all()
    np.testing.assert_array_equal(told["losses"], told_again["losses"])
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def test_rows_of_all_commands_stand_in_one_table_and_one_picture(tmp_path, monkeypatch):
    """As if the trainings of the first command had been run already."""
    trained = []

    def one_part(run, p, size, work, **where):
        trained.append(run.learner)
        accuracies = dict.fromkeys(study.MODES, np.array([0.9, 0.94, 0.98]))
        told = {"losses": [2.0, 1.0], "skipped": 0, "seconds": 60.0, "test_seconds": 6.0}
        return accuracies | told | {"device": "cpu"}

    monkeypatch.setattr(study, "one_part", one_part)
    size = study.QUICK._replace(learners=("prototypical",), seed=3)
    study.study(size, Work(tmp_path))
    found = study.study(size._replace(learners=("maml",)), Work(tmp_path))
    assert trained == ["prototypical", "maml"]
    names = ["maml 5-way 1-shot, cpu, seed 3", "prototypical 5-way 1-shot, cpu, seed 3"]
    assert list(found.results["runs"]) == names
    assert [row["published"] for row in found.rows] == [98.7, 98.8]
    assert found.rows[1]["frozen"].mean == pytest.approx(94.0)
    write(tmp_path, found)
    redraw(tmp_path, study.PICTURES)
    assert (tmp_path / "omniglot.png").stat().st_size > 10_000


def test_embeddings_tell_unseen_patterns_apart_by_frozen_statistics_too(where):
    size, run = study.QUICK._replace(chunk=50), study.Run("prototypical", 5, 1, "cpu", 3)
    part = study.one_part(run, SMALL, size, Work(), **where)
    for mode in study.MODES:
        score = mh.report.interval(100 * part[mode])
        assert score.mean - 2 * score.half_width > 20, mode  # chance


@pytest.mark.skipif(not RESULTS.exists(), reason="the study has not been run")
@pytest.mark.parametrize(("learner", "least"), [("maml", 96.0), ("prototypical", 98.0)])
def test_the_committed_accuracies_of_two_cores_reach_their_targets(learner, least):
    row = json.loads(RESULTS.read_text())["runs"][f"{learner} 5-way 1-shot, cpu, seed 0"]["row"]
    score = row["transductive"]
    assert score["mean"] - score["half_width"] >= least and score["n"] == 10_000
    assert row["minutes"] + row["minutes of test"] <= 30
    assert row["skipped"] == 0
