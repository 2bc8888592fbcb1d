"""The rules that are shipped, and the rung that they stand on."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ladder import gradients, params_of, scanned

import metahpo as mh
from metahpo import learned_optimizers as lo

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import jax, ladder
import metahpo as mh
params, grads = ladder.params_of(jax.random.key(1)), ladder.gradients(jax.random.key(2), 3)
for name in mh.learned_optimizers.PRETRAINED:
    updates = ladder.scanned(mh.learned_optimizers.pretrained(name), params, grads)
    mh.report.save_npz({out!r} + name + ".npz", updates)
"""


def test_untrained_it_is_adamw_with_a_rate_that_falls_as_a_root():
    rule = lo.steered(rate=0.02)
    schedule = lambda t: 0.02 / jnp.sqrt(1 + t / 100)  # noqa: E731
    decay = float(jax.nn.sigmoid(-4.0))
    adamw = optax.adamw(schedule, b1=0.9, b2=0.99, eps=0.0, weight_decay=decay)
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), 30)
    run = jax.jit(scanned, static_argnums=0)
    found = run(rule.transform(rule.init(jax.random.key(0))), params, grads)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4), found, run(adamw, params, grads)
    )


@pytest.mark.parametrize("name", lo.PRETRAINED)
def test_a_shipped_rule_composes_and_knows_no_units(name):
    weights = lo.pretrained_weights(name)
    assert 100 <= sum(leaf.size for leaf in weights) <= 2000
    assert all(jnp.isfinite(leaf).all() for leaf in weights)
    chained = optax.chain(optax.clip_by_global_norm(1e9), lo.pretrained(name), optax.scale(0.5))
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), 3)

    @jax.jit
    def run(scale):
        large = jax.tree.map(lambda g: scale * g, grads)
        return scanned(lo.pretrained(name), params, large), scanned(chained, params, grads)

    (found, half), (large, _) = run(1.0), run(1e3)
    for a, b, c in zip(*map(jax.tree.leaves, (found, half, large)), strict=True):
        np.testing.assert_allclose(c, a, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(b[0], a[0] / 2, rtol=1e-5)


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"must be one of.*fit.*generalize.*got 'velo'"):
        lo.pretrained("velo")


def test_what_is_shipped_is_what_the_experiment_made():
    made = ROOT / "experiments" / "results" / "pretrained_rules" / "arrays.npz"
    shipped = ROOT / "metahpo" / "learned_optimizers" / "pretrained.npz"
    assert made.read_bytes() == shipped.read_bytes()


@pytest.mark.slow
def test_a_new_process_makes_the_same_updates(tmp_path):
    code = SCRIPT.format(folder=str(Path(__file__).parent), out=f"{tmp_path}/")
    subprocess.run([sys.executable, "-c", code], check=True)
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), 3)
    for name in lo.PRETRAINED:
        expected = scanned(lo.pretrained(name), params, grads)
        found = mh.report.load_npz(tmp_path / f"{name}.npz", like=expected)
        # The tests compile with other flags than a user's process: equal but for rounding.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
