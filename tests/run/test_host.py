"""Driving a loop from the host gives what the compiled whole gives, whatever the chunks."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import strategies
from metahpo.run import Loop, drive, meta_loop, scan, search_loop
from metahpo.run.programs import KEPT, _kept, programs

KEY = jax.random.key(0)
ROOT = Path(__file__).parents[2]
SPACE = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(1e-3, 1.0, log=True)}


def parabola(h):
    return (h["x"] - 0.3) ** 2 + jnp.log(h["y"]) ** 2


def search(fn=parabola, make=strategies.random, **options):
    problem = mh.problems.function(fn)
    return search_loop(problem, SPACE, make(SPACE, population=6), rounds=7, steps=1, **options)


def evolution():
    return search(make=strategies.differential_evolution)


def noisy_meta(rounds=7, loss=lambda h, task: (h["x"] - task) ** 2):
    noisy = mh.problems.function(parabola)._replace(
        sample=lambda key: jax.random.normal(key),
        loss=lambda key, hparams, task, state: loss(hparams, task),
    )
    estimator = mh.hypergrad.reverse(noisy, steps=1)
    start = {"x": jnp.array(1.0)}
    return meta_loop(noisy, estimator, start, optax.adam(0.1), rounds=rounds, tasks=3)


class Record(NamedTuple):
    loss: jax.Array
    t: jax.Array


def counter(rounds=7):
    """A small loop whose carry holds a typed key, a weakly typed number and an empty array."""

    def init(key):
        return {"key": key, "t": jnp.asarray(1.0), "none": jnp.zeros((0, 2)), "count": 0}

    def step(key, carry):
        new, draw = jax.random.split(carry["key"])
        record = Record(jax.random.normal(draw), carry["t"])
        carry = {**carry, "key": new, "t": carry["t"] * 0.5, "count": carry["count"] + 1}
        return carry, record

    return Loop(init, step, lambda carry, history: (carry, history), rounds)


def as_bytes(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def blocks_of_four():
    """Blocks of rounds that chunks of 3 cut through; the numbers differ from round to round."""

    def step(inputs, carry):
        value = carry * 0.5 + inputs.sum()
        return value, Record(value, inputs[0])

    return Loop(
        init=lambda key: jnp.zeros(()),
        step=step,
        finish=lambda carry, history: (carry, history),
        rounds=8,
        keys=jax.random.fold_in,
        draw=jax.vmap(lambda key: jax.random.normal(key, (3,))),
        ahead=4,
    )


@pytest.mark.parametrize("make", [evolution, noisy_meta, blocks_of_four])
def test_every_chunk_length_gives_the_bytes_of_the_compiled_whole(make):
    key = jax.random.key(3)
    loop = make()
    whole = as_bytes(jax.jit(lambda key: scan(loop, key))(key))
    for chunk in (1, 3):
        assert as_bytes(drive(loop, key, chunk=chunk, progress=False)) == whole


def test_what_is_drawn_for_a_block_of_rounds_is_what_each_round_draws():
    loop = blocks_of_four()

    def alone(key, carry):
        return loop.step(loop.draw(key[None])[0], carry)

    key = jax.random.key(3)
    one_by_one = scan(loop._replace(step=alone, draw=None, ahead=1), key)[1]
    np.testing.assert_array_equal(scan(loop, key)[1].t, one_by_one.t)
    assert len(np.unique(one_by_one.t)) == 8


def test_a_loop_that_is_done_within_a_block_ends_there_in_every_lane():
    def blank(record):
        return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), record)

    loop = blocks_of_four()._replace(done=lambda value: value > 1.5, blank=blank)
    keys = jax.random.split(jax.random.key(3), 8)
    lanes = jax.jit(jax.vmap(lambda key: scan(loop, key)[1].loss))(keys)
    alone = jax.jit(lambda key: scan(loop, key)[1].loss)
    without_end = jax.jit(lambda key: scan(blocks_of_four(), key)[1].loss)
    ends = set()
    for losses, key in zip(lanes, keys, strict=True):
        whole = without_end(key)
        above = np.flatnonzero(np.asarray(whole) > 1.5)
        end = above[0] + 1 if len(above) else 8
        np.testing.assert_allclose(losses[:end], whole[:end], rtol=1e-6)
        assert np.isnan(losses[end:]).all()
        np.testing.assert_array_equal(losses, alone(key))
        ends.add(end)
    assert len(ends) > 3
    assert ends - {4, 8}


def test_another_key_gives_another_history():
    first, other = (drive(counter(), jax.random.key(seed), progress=False)[1] for seed in (0, 1))
    assert not np.isin(first.loss, other.loss).any()


def test_more_chunks_trace_nothing_more():
    counts = []
    for chunk in (1, 3, 7):
        loop, traces = traced(counter())
        drive(loop, jax.random.key(0), chunk=chunk, progress=False)
        counts.append(len(traces))
    assert counts[0] == counts[1] == counts[2] > 0


def traced(loop):
    """The loop, and a list that grows whenever a round is traced."""
    traces = []

    def step(key, carry):
        traces.append(1)
        return loop.step(key, carry)

    return loop._replace(step=step), traces


def test_a_loop_is_compiled_once_for_all_seeds_and_chunks():
    loop, traces = traced(search())
    first = drive(loop, jax.random.key(0), progress=False)
    (program,) = programs(loop, lanes=False).compiled.values()
    count = len(traces)
    other = drive(loop, jax.random.key(1), chunk=2, progress=False)
    again = drive(loop, jax.random.key(0), progress=False)
    assert len(traces) == count and list(programs(loop, lanes=False).compiled.values()) == [program]
    assert as_bytes(first) == as_bytes(again) != as_bytes(other)
    with jax.enable_x64(True):  # another program, and no wrong use of the first
        assert drive(loop, jax.random.key(0), progress=False).history.unit.dtype == jnp.float64
    assert drive(loop, jax.random.key(0), progress=False).history.unit.dtype == jnp.float32
    assert len(programs(loop, lanes=False).compiled) == 2


def test_programs_of_few_loops_are_kept():
    for _ in range(KEPT + 3):
        drive(counter(2), jax.random.key(0), progress=False)
    assert _kept.cache_info().currsize <= KEPT


@pytest.mark.parametrize("make", [evolution, noisy_meta, blocks_of_four])
def test_many_keys_are_many_runs_side_by_side(make, tmp_path):
    loop, keys = make(), jax.random.split(jax.random.key(3), 3)
    whole = jax.jit(jax.vmap(lambda key: scan(loop, key)))(keys)
    seen = []
    runs = drive(
        loop,
        keys,
        chunk=3,
        progress=False,
        on_chunk=lambda done, history: seen.append((done, jax.tree.leaves(history)[0].shape[:2])),
    )
    assert as_bytes(runs) == as_bytes(whole)
    assert [rows for _, rows in seen] == [(3, done) for done, _ in seen]
    alone = drive(loop, keys[1], progress=False)
    for ours, theirs in zip(jax.tree.leaves(runs), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours[1], theirs, rtol=1e-5, atol=1e-6)


def test_runs_side_by_side_end_with_the_last_and_resume_as_one(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    loop = search(stop=mh.stopping.target(0.3))
    keys = jax.random.split(jax.random.key(0), 4)
    expected = drive(loop, keys, chunk=1, progress=False)
    assert len(set(np.asarray(expected.rounds).tolist())) > 1
    for i, key in enumerate(keys):
        assert int(drive(loop, key, progress=False).rounds) == int(expected.rounds[i])

    def interrupt(done, history):
        raise KeyboardInterrupt

    options = {"chunk": 1, "directory": tmp_path, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        drive(loop, keys, on_chunk=interrupt, **options)
    assert as_bytes(drive(loop, keys, resume=True, **options)) == as_bytes(expected)


def test_one_run_of_many_with_a_finite_first_loss_is_enough():
    def first_is_nan(h):
        return jnp.where(h["x"] < 0, h["x"], jnp.nan)

    problem, keys = mh.problems.function(first_is_nan), jax.random.split(jax.random.key(0), 8)
    loop = search_loop(problem, SPACE, strategies.random(SPACE, 1), rounds=3, steps=1)
    losses = drive(loop, keys, progress=False).history.loss
    assert np.isinf(losses[:, 0]).any() and np.isfinite(losses[:, 0]).any()


def test_keys_of_two_axes_are_refused():
    with pytest.raises(ValueError, match=r"one key or key\[runs\], got the shape \(2, 3\)"):
        drive(counter(), jax.random.split(jax.random.key(0), (2, 3)))


CACHED = """
import sys, time
import jax
from test_host import as_bytes, drive, evolution

loop, compiled = evolution(), []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(seconds) if "backend_compile" in name else None
)
result = drive(loop, jax.random.key(3), progress=False, compilation_cache=sys.argv[1])
print(hash(tuple(as_bytes(result))), round(1e3 * sum(compiled)))
"""


@pytest.mark.slow
def test_a_folder_keeps_the_program_for_other_processes(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    env |= {"PYTHONHASHSEED": "0", "JAX_ENABLE_COMPILATION_CACHE": "false"}

    def run():
        command = [sys.executable, "-c", CACHED, str(tmp_path)]
        out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        result, milliseconds = out.split()
        return result, int(milliseconds)

    first, compiling = run()
    (file,) = tmp_path.iterdir()
    again, less = run()
    assert first == again and less < compiling
    file.write_bytes(b"damaged")
    assert run()[0] == first and file.stat().st_size > 1000


def test_a_program_that_calls_back_is_not_kept(tmp_path):
    seen = []

    def told(h):
        jax.debug.callback(lambda x: seen.append(float(x)), h["x"])
        return h["x"]

    drive(search(told), jax.random.key(0), progress=False, compilation_cache=tmp_path)
    assert len(seen) == 7 * 6 and list(tmp_path.iterdir()) == []


def test_chunks_are_seen_with_the_rows_so_far_and_stay_as_they_were():
    seen = []
    _, whole = drive(
        counter(),
        jax.random.key(0),
        chunk=3,
        progress=False,
        on_chunk=lambda done, history: seen.append((done, history)),
    )
    assert [done for done, _ in seen] == [3, 6, 7]
    for done, history in seen:
        np.testing.assert_array_equal(history.loss, whole.loss[:done])
        assert isinstance(history.loss, np.ndarray)


def test_arrays_of_the_caller_survive():
    mine = jnp.arange(3.0)
    twice = Loop(
        init=lambda key: (mine, mine),
        step=lambda key, carry: ((carry[0] + 1, carry[1]), carry[0].sum()),
        finish=lambda carry, history: history,
        rounds=3,
    )
    np.testing.assert_array_equal(drive(twice, jax.random.key(0), progress=False), [3, 6, 9])
    np.testing.assert_array_equal(mine, [0, 1, 2])


def test_keys_weak_types_and_empty_arrays_may_be_carried():
    carry, history = drive(counter(), jax.random.key(1), progress=False)
    assert carry["count"] == 7
    np.testing.assert_array_equal(history.t, 0.5 ** np.arange(7))
    key = jax.random.split(jax.random.key(1))[0]  # loop_keys: the key of init
    for draw in history.loss:
        key, this = jax.random.split(key)
        np.testing.assert_allclose(draw, jax.random.normal(this), rtol=1e-6)
    assert jnp.array_equal(jax.random.key_data(carry["key"]), jax.random.key_data(key))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: search(lambda h: h["x"] * bad),
        lambda bad: noisy_meta(loss=lambda h, task: h["x"] * bad),
    ],
    ids=["search", "meta_train"],
)
def test_a_first_round_without_a_finite_loss_is_refused_with_its_values(make, bad):
    seen = []
    with pytest.raises(ValueError, match=r"first round must be finite, got .*(inf|nan)"):
        drive(
            make(bad),
            jax.random.key(0),
            chunk=2,
            progress=False,
            on_chunk=lambda *args: seen.append(args),
        )
    assert seen == []


def test_one_finite_loss_in_the_first_round_is_enough():
    half = search(lambda h: jnp.where(h["x"] < 0, h["x"], jnp.nan))
    result = drive(half, jax.random.key(0), progress=False)
    assert np.isinf(result.history.loss[0]).any()
    assert -1 <= result.best_loss < 0


@pytest.mark.parametrize("chunk", [0, -1, 1.5])
def test_chunk_must_be_positive(chunk):
    with pytest.raises(ValueError, match=f"chunk .* at least 1, got {chunk}"):
        drive(counter(), jax.random.key(0), chunk=chunk)


def test_progress_is_a_line_on_standard_error(capsys):
    loop = counter()
    _, history = drive(loop, jax.random.key(0), name="tune")
    out, err = capsys.readouterr()
    assert out == ""
    compiling, done = err.splitlines()
    assert compiling == "tune: compiling"
    told = re.fullmatch(r"tune: 7/7 rounds, lowest loss (\S+), (\S+) s, (\S+) s of .*", done)
    assert told[1] == f"{history.loss.min():.6g}"
    assert float(told[2]) >= float(told[3]) > 0  # what compiling took is part of the time
    drive(loop, jax.random.key(0), name="tune")  # compiled by now
    assert re.fullmatch(r"tune: 7/7 rounds, lowest loss \S+, \S+ s\n", capsys.readouterr().err)


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    drive(counter(), jax.random.key(0), name="tune")
    shown = sys.stderr.getvalue()
    assert "tune" in shown and "7/7" in shown and "lowest loss" in shown


def test_no_progress_is_silent(capsys):
    drive(counter(), jax.random.key(0), progress=False)
    assert capsys.readouterr() == ("", "")


ON_A_MESH = """
import jax, numpy as np
from test_host import as_bytes, drive, search

mesh = jax.make_mesh((3,), ("members",))
key = jax.random.key(3)
alone = drive(search(), key, progress=False)
runs = [drive(search(mesh=mesh), key, chunk=chunk, progress=False) for chunk in (2, 7)]
assert len(jax.devices()) == 3
assert as_bytes(runs[0]) == as_bytes(runs[1])
np.testing.assert_allclose(runs[0].history.loss, alone.history.loss, rtol=1e-5)
"""


@pytest.mark.slow
def test_chunks_on_several_devices_give_the_same_bytes():
    env = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_A_MESH], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def meta(rounds=6):
    problem = mh.problems.function(lambda h: h["x"] ** 2)
    return meta_loop(
        problem,
        mh.hypergrad.reverse(problem, 1),
        {"x": jnp.array(1.0)},
        optax.sgd(0.25),
        rounds=rounds,
        tasks=1,
    )


def test_a_callback_sees_what_is_learned_and_may_end_the_run():
    seen = []

    def validate(done, history, state):
        seen.append((done, float(state.hparams["x"])))
        return done == 4

    result = drive(meta(), KEY, chunk=2, progress=False, on_chunk=validate)
    assert seen == [(2, 0.25), (4, 0.0625)]
    assert result.history.loss.shape == (4,) and result.hparams["x"] == 0.0625


def test_resuming_without_a_folder_is_refused():
    with pytest.raises(ValueError, match="resume=True needs the directory"):
        drive(meta(), KEY, resume=True, progress=False)
