"""The benchmark of few-shot learning compares programs that compute the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xla

from benchmarks import _few_shot_images, _few_shot_sinusoid, _few_shot_tables, few_shot
from benchmarks._variants import error
from benchmarks.all import topics

ROOT = Path(__file__).parents[2]
IMAGES = few_shot.QUICK.images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few_shot")
    command = [sys.executable, "-m", "benchmarks.few_shot", "--quick", "--json"]
    done = subprocess.run(
        [*command, str(folder / "rows.json")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "METAHPO_PEERS": str(folder / "none"), "XLA_FLAGS": xla.HASTE},
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "rows.json").read_text())
    return {(row["name"], row["metric"]): row for row in rows}, done


def test_without_peers_it_measures_ours_and_says_in_one_line_how_to_get_them(run):
    rows, done = run
    assert "python benchmarks/peers/install.py" in done.stderr.splitlines()[0]
    names = {name for name, _ in rows}
    assert not any("torch" in name for name in names)
    case = "few_shot/2 tasks, 1 convolutions, 2 steps"
    assert rows[f"{case}, metahpo, second order", "seconds_by_first_order"]["ratio"] > 0
    for rival in (f"{case}, plain JAX, scan", "few_shot/sinusoid, 1 step, plain JAX"):
        assert rows[rival, "seconds_by_ours"]["value"] > 0
    assert ("few_shot/gradients of 2 tasks, im2col, scan", "run_seconds") in rows


def test_a_shorter_training_is_multiplied_up_and_compilation_added_once(run):
    rows, _ = run
    name = "few_shot/sinusoid, 1 step, metahpo"
    parts = [rows[name, metric]["value"] for metric in ("run_seconds", "compile_seconds")]
    assert rows[name, "total_seconds"]["value"] == pytest.approx(sum(parts))


def test_the_gradient_is_near_the_one_in_double_precision(run):
    errors = [row["value"] for (_, metric), row in run[0].items() if metric == "relative_error"]
    assert errors and max(errors) < 1e-4


def test_the_full_sizes_are_the_published_ones():
    images, trainings = few_shot.FULL.images, few_shot.FULL.sinusoid
    assert (images.ways * images.shots, images.ways * images.queries) == (25, 75)
    assert (images.tasks, images.steps, images.filters, images.layers) == (32, 5, 64, 3)
    assert [setting.steps for setting in trainings] == [1, 3]
    assert all((s.rounds, s.measured, s.tasks) == (70_000, 70_000, 25) for s in trainings)
    assert "few_shot" in topics()


def test_both_loops_by_hand_have_the_same_gradient():
    data = _few_shot_images.episodes(IMAGES)
    params = _few_shot_images.network(IMAGES).init(jax.random.key(0), data.support.x[0])

    def gradient(loop):
        program = jax.jit(_few_shot_images.by_hand(IMAGES, loop).fn)
        return _few_shot_images.flat(program(params, data)[1])

    assert error(gradient("scan"), gradient("unrolled")) < 1e-4


def test_a_user_s_sinusoid_is_the_library_s():
    # The same parameters and rate: the mean query losses of the first round over many tasks agree.
    setting = _few_shot_sinusoid.Setting(steps=2, measured=1, tasks=4000, hidden=(8,))
    by_hand, ours = _few_shot_sinusoid.by_hand(setting), _few_shot_sinusoid.ours(setting)
    params = _with(ours.arguments[1], by_hand.arguments[1])
    first = jax.jit(ours.fn)(ours.arguments[0], params)[1]
    second = jax.jit(by_hand.fn)(*by_hand.arguments)[1]
    np.testing.assert_allclose(first[0], second[0], rtol=0.08)


def _with(params, layers):
    """The library's tree with the weights and biases of the list ``layers``."""
    values = [leaf for weight, bias in layers for leaf in (weight, bias)]
    by_shape = {value.shape: value for value in values}
    return jax.tree.map(lambda leaf: by_shape[leaf.shape], params)


def test_the_tables_of_the_guide_are_the_committed_results():
    page = _few_shot_tables.PAGE.read_text()
    command = "python -m benchmarks._few_shot_tables"
    assert page == _few_shot_tables.render(page), f"run `{command}`"
