"""The benchmark of hypergradients counts, compares and is right about its own problems."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from benchmarks import _flops, _peers, _reference, _regression, _variants
from benchmarks._variants import Effort
from benchmarks.all import topics

ROOT = Path(__file__).parents[2]
TINY = _reference.Size((3, 4, 2), batch=5, steps=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hypergrad")
    command = [sys.executable, "-m", "benchmarks.hypergrad", "--quick", "--json"]
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
    assert not any("torch" in name or "jaxopt" in name for name in names)
    assert {"hypergrad/reference, metahpo auto", "hypergrad/2 tasks, metahpo auto"} <= names
    assert "hypergrad/100 steps, metahpo 20 states" in names
    assert "hypergrad/ridge, gradient descent, metahpo cg" in names


def test_every_gradient_is_near_the_one_in_double_precision(run):
    errors = {name: row["value"] for (name, m), row in run[0].items() if m == "relative_error"}
    assert len(errors) >= 10
    assert all(error < 1e-5 for error in errors.values()), errors


def test_a_gradient_costs_more_operations_than_training_and_less_than_six(run):
    ratios = [row["ratio"] for (_, metric), row in run[0].items() if metric == "operations"]
    assert len(ratios) >= 8
    assert all(1 < ratio < 6 for ratio in ratios), ratios


def test_rivals_alone_are_compared_with_ours(run):
    compared = {name for name, metric in run[0] if metric == "seconds_by_ours"}
    assert compared and all("plain JAX" in name for name in compared)


def test_what_benchmarks_share_is_no_topic():
    assert "hypergrad" in topics() and not any(name.startswith("_") for name in topics())
    assert "peers" not in topics()


@pytest.mark.parametrize("steps", [1, 7])
def test_operations_of_a_loop_are_its_body_times_its_trips(steps):
    w, x = jnp.ones((16, 16)), jnp.ones((8, 16))

    def chain(w, x):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=steps)[0]

    # Counters of the loop apart.
    assert _flops.of(chain, w, x) == pytest.approx(steps * 2 * 8 * 16 * 16, rel=2e-3)


def test_operations_of_nested_loops_multiply():
    w = jnp.ones((16, 16))

    def nested(w):
        def inner(x, _):
            return jax.lax.scan(lambda x, _: (x @ w, None), x, length=3)[0], None

        return jax.lax.scan(inner, w, length=5)[0]

    assert _flops.of(nested, w) == pytest.approx(15 * 2 * 16**3, rel=2e-3)


def test_operations_of_a_loop_without_a_known_end_are_refused():
    def until(x):
        return jax.lax.while_loop(lambda x: x.sum() < 9.0, lambda x: x * 2, x)

    with pytest.raises(ValueError, match="does not say how often"):
        _flops.of(until, jnp.ones(3))


def test_the_reference_is_what_a_user_writes_by_hand():
    with jax.enable_x64(True):
        task = _reference.cast(_reference.data(TINY), jnp.float64)
        hparams = _reference.cast(_reference.hparams(TINY), jnp.float64)
        loss = mh.inner.outer_loss(_reference.problem(), TINY.steps)
        ours = jax.jit(jax.grad(lambda h: loss(jax.random.key(0), h, task)[0]))(hparams)
        by_hand = jax.jit(jax.grad(_reference.hand_written(TINY.steps)))(hparams, task)
        for name, value in by_hand.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", _regression.KINDS)
def test_the_truth_of_a_regression_agrees_with_finite_differences(kind):
    arrays = _regression.arrays(kind, examples=30, features=4)

    def outer(log_l2):  # by Newton's method, as far as double precision goes
        x, y, w = arrays["support_x"], arrays["support_y"], np.zeros(4)
        for _ in range(30):
            slope, hessian = _regression.derivatives(kind, w, x, y)
            w = w - np.linalg.solve(hessian + np.diag(np.exp(log_l2)), slope + np.exp(log_l2) * w)
        z, y = arrays["query_x"] @ w, arrays["query_y"]
        return np.mean((z - y) ** 2) / 2 if kind == "ridge" else np.mean(np.log1p(np.exp(-y * z)))

    step = 1e-5
    differences = [
        (outer(arrays["log_l2"] + e) - outer(arrays["log_l2"] - e)) / (2 * step)
        for e in step * np.eye(4)
    ]
    np.testing.assert_allclose(_regression.truth(kind, arrays), differences, rtol=1e-6)


def test_turns_alternate_and_end_at_the_limit():
    order = []

    def call(name):
        return lambda: order.append(name) or 1.0

    _variants.turns([call("a"), call("b")], Effort(repeats=2, compilations=1, limit=60.0))
    assert "".join(order) == "ab" + "abab"  # one to warm up
    once = _variants.turns([call("a")], Effort(repeats=9, compilations=1, limit=0.0))
    assert once == [[1.0]]


def test_a_call_that_takes_long_is_made_once():
    calls = []

    def slow():
        calls.append(time.sleep(0.25))
        return 2.0

    effort = Effort(repeats=3, compilations=1, limit=1.0)
    assert _variants.turns([slow, lambda: 1.0], effort) == [[2.0], [1.0, 1.0, 1.0]]
    assert len(calls) == 1


def test_the_error_is_the_worst_hyperparameters():
    truth = {"a": np.array([3.0, 4.0]), "b": np.array(2.0)}
    assert _variants.error({"a": [3.0, 4.5], "b": 2.1}, truth) == pytest.approx(0.1)


# A peer that needs nothing but numpy: the protocol, and what happens when it dies.
SCRIPT = """
import sys
from serve import serve
def case(arrays):
    def run():
        run.count += 1
        if run.count > 2:
            raise SystemExit("no more")
        return {"grad": 2 * arrays["x"]}
    run.count = 0
    return run
serve({"double": case}, "DEVICE")
"""


def fake(tmp_path, monkeypatch, device):
    folder = tmp_path / "peers"
    folder.mkdir()
    serve = ROOT / "benchmarks" / "peers" / "serve.py"
    (folder / "serve.py").write_text(serve.read_text())
    (folder / "fake.py").write_text(SCRIPT.replace("DEVICE", device))
    monkeypatch.setattr(_peers.install, "__file__", str(folder / "install.py"))
    monkeypatch.setattr(_peers.install, "python", lambda script: Path(sys.executable))
    return _peers.started([("fake", "fake", "double")], {"x": np.array([1.0, 2.0])})


def test_a_peer_times_itself_hands_over_its_gradients_and_may_die(tmp_path, monkeypatch, capsys):
    with fake(tmp_path, monkeypatch, jax.default_backend()) as (peer,):
        assert peer.first_seconds > 0 and peer.seconds() > 0
        gradient, grown = peer.result()
        np.testing.assert_array_equal(gradient["grad"], [2.0, 4.0])
        assert grown >= 0
        assert np.isnan(peer.seconds()) and peer.failed
    assert "fake failed: no more" in capsys.readouterr().err


def test_a_peer_on_another_device_is_left_out(tmp_path, monkeypatch, capsys):
    with fake(tmp_path, monkeypatch, "abacus") as peers:
        assert peers == []
    assert "fake is left out: it runs on abacus" in capsys.readouterr().err
