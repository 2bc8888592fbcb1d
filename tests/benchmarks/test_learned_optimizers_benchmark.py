"""The benchmark of learned optimisers runs, and counts what it says."""

import jax.numpy as jnp
import optax

from benchmarks import learned_optimizers as study


def test_every_rule_has_its_rows():
    rows = list(study.measure(quick=True))
    names = {row.name.split("/")[1] for row in rows}
    assert names == {"outer step, 2 tasks", *study.rules(jnp.zeros(1))}
    assert all(row.value > 0 for row in rows)
    assert all(row.baseline is not None for row in rows if not row.name.endswith("tasks"))


def test_bytes_are_those_of_reading_and_writing_every_array_once():
    n = 2**16
    params = jnp.ones(n)
    counted = study._compiled(optax.sgd(0.1), params, params)["bytes"] / n
    assert 8 <= counted < 8.1  # a gradient is read, an update written
