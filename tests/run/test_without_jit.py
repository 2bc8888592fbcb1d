"""``jax.disable_jit``, the switch for debugging, reaches every entry."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo import study

SPACE = {"x": mh.Float(-1.0, 1.0)}
PROBLEM = mh.problems.function(lambda h: h["x"] ** 2)
KEY = jax.random.key(0)


def loop(population=4):
    strategy = mh.strategies.random(SPACE, population)
    return mh.run.search_loop(PROBLEM, SPACE, strategy, rounds=2, steps=1)


ENTRIES = {
    "search": lambda: (
        mh.search(KEY, PROBLEM, SPACE, mh.strategies.random(SPACE, 4), rounds=2, steps=1).best_loss
    ),
    "meta_train": lambda: mh.meta_train(
        KEY,
        PROBLEM,
        mh.hypergrad.reverse(PROBLEM, 1),
        {"x": jnp.array(1.0)},
        optax.sgd(0.1),
        rounds=2,
        tasks=1,
    ).hparams["x"],
    "minimize": lambda: (
        mh.minimize(
            lambda h: h["x"], SPACE, mh.strategies.random(SPACE, 4), rounds=2, progress=False
        ).best_loss
    ),
    "drive": lambda: mh.run.drive(loop(), KEY, progress=False).best_loss,
    "footprint": lambda: mh.run.footprint(loop, (4, 8)).per_member,
    "timed": lambda: study.timed(lambda x: x + 1, jnp.zeros(2))[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_gives_the_same_without_jit(name):
    compiled = ENTRIES[name]()
    with jax.disable_jit():
        np.testing.assert_allclose(ENTRIES[name](), compiled, rtol=1e-6)
