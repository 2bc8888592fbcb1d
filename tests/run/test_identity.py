"""A checkpoint is of one run: whatever changes a result makes it another."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.run.identity import loop_digest, program_digest

S = mh.strategies
A = {"x": mh.Float(-1.0, 1.0), "y": mh.Float(0.1, 1.0, log=True)}
TABLE = np.arange(3.0)


def problem(offset=0.0, table=TABLE):
    return mh.Problem(
        lambda k: jax.random.normal(k, (3,)),
        lambda k, h, t: t,
        lambda k, h, t, s: s * (1 - 0.1 * h["y"]) + 0.01 * jax.random.normal(k, (3,)),
        lambda k, h, t, s: jnp.sum((s - jnp.asarray(table)) ** 2) + (h["x"] - 0.3) ** 2 + offset,
    )


def search(space=None, p=None, strategy=None, steps=3, **options):
    space = space or A
    strategy = strategy or S.differential_evolution(space, 8)
    return mh.run.search_loop(p or problem(), space, strategy, rounds=6, steps=steps, **options)


FAMILY = mh.problems.sinusoid(shots=5)
START = mh.meta.initial_params(jax.random.key(1), FAMILY)


def meta(rate=0.01, lr=1e-3, tasks=2, **options):
    p = mh.meta.maml(FAMILY, rate)
    estimator = mh.hypergrad.reverse(p, 1)
    return mh.run.meta_loop(p, estimator, START, optax.adam(lr), rounds=6, tasks=tasks, **options)


CHANGED = {
    "bounds": lambda: search({"x": mh.Float(-5.0, 5.0), "y": A["y"]}),
    "kind": lambda: search({"x": mh.Int(-1, 1), "y": A["y"]}),
    "scale": lambda: search({"x": A["x"], "y": mh.Float(0.1, 1.0)}),
    "loss": lambda: search(p=problem(1.0)),
    "data": lambda: search(p=problem(table=TABLE[::-1].copy())),
    "steps": lambda: search(steps=30),
    "strategy": lambda: search(strategy=S.differential_evolution(A, 8, weight=0.1)),
    "task": lambda: search(task=jnp.zeros(3)),
    "metrics": lambda: search(metrics=lambda k, h, t, s: s.sum()),
    "rule": lambda: search(stop=mh.stopping.when(target=0.0)),
}
META_CHANGED = {
    "optimiser": lambda: meta(lr=1.0),
    "tasks": lambda: meta(tasks=4),
    "inner rate": lambda: meta(0.5),
}


def test_whatever_changes_a_result_is_another_run():
    digests = [loop_digest(search())] + [loop_digest(make()) for make in CHANGED.values()]
    assert len(set(digests)) == 1 + len(CHANGED)
    digests = [loop_digest(meta())] + [loop_digest(make()) for make in META_CHANGED.values()]
    assert len(set(digests)) == 1 + len(META_CHANGED)


def test_where_and_in_what_pieces_a_run_is_computed_is_no_matter():
    mesh = jax.make_mesh((1,), ("members",))
    whole = loop_digest(search())
    assert loop_digest(search(chunk=2)) == loop_digest(search(mesh=mesh)) == whole
    assert loop_digest(meta(chunk=1)) == loop_digest(meta(mesh=mesh)) == loop_digest(meta())


def test_constants_within_programs_count():
    def outer(table):
        inner = jax.jit(lambda x: x + jnp.asarray(table))
        return lambda x: jax.lax.cond(x.sum() > 0, inner, lambda x: x * table[0], x)

    a, b = np.arange(1.0, 2000.0), np.arange(1.0, 2000.0)
    b[1000] = 0  # within what a text leaves out
    x = jnp.ones(1999)
    assert program_digest(outer(a), x) != program_digest(outer(b), x)
    assert program_digest(outer(a), x) == program_digest(outer(a.copy()), x)


@pytest.mark.slow
def test_a_digest_is_the_same_in_every_process():
    code = (
        "from test_identity import *\n"
        "print(loop_digest(search()), loop_digest(meta()), loop_digest(search(strategy="
        "S.cma_es(A, 8))))"
    )
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parents[1])])
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


class Stop(Exception):
    """Ends a run in its middle."""


def half(done, history):
    if done == 2:
        raise Stop


@pytest.mark.parametrize("name", ["bounds", "strategy", "steps"])
def test_the_checkpoint_of_another_run_is_refused(tmp_path, name):
    pytest.importorskip("orbax.checkpoint")

    def drive(loop, **options):
        options = {"directory": tmp_path, "progress": False, "chunk": 2} | options
        return mh.run.drive(loop, jax.random.key(0), **options)

    with pytest.raises(Stop):
        drive(search(), on_chunk=half)
    with pytest.raises(ValueError, match="of another run: it computes something else"):
        drive(CHANGED[name](), resume=True)
    resumed = drive(search(chunk=4), resume=True, chunk=1)  # in other pieces
    whole = drive(search(), directory=None)
    for a, b in zip(jax.tree.leaves(resumed.history), jax.tree.leaves(whole.history), strict=True):
        np.testing.assert_array_equal(a, b)
