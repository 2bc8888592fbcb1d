"""The strategies that must be able to do what every strategy does.  A new one is one row.

A row that cannot make a claim says why.
"""

import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from metahpo import strategies
from metahpo.testing import strategy as testing

ROOT = Path(__file__).parents[2]
PROMOTED = "its points are random; who goes on is tested in test_brackets.py and test_asha.py"


def skeleton():
    """The strategy that docs/adding_a_strategy.md starts from keeps the protocol itself."""
    path = ROOT / "docs" / "skeletons" / "strategy.py"
    spec = importlib.util.spec_from_file_location("strategy_skeleton", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.hill_climbing


POPULATION, ROUNDS, LANES = 16, 30, 20


class Row(NamedTuple):
    make: Callable  # (space, population, **options) -> Strategy
    smallest: int = 1  # population
    warm: bool = False  # takes ``initial``
    not_better_than_random: str = ""  # the reason
    rounds: int = ROUNDS  # fewer where a round is costly
    duels: int = 200  # with random search of as many rounds; fewer where a round is costly
    costly: bool = False  # runs for seconds, so compile it well


TABLE = {
    "random": Row(strategies.random, not_better_than_random="it is random search"),
    "grid": Row(
        strategies.grid,
        not_better_than_random="it learns nothing; its own claim, that no point comes twice and "
        "any part is a fair sample, is tested in test_grid.py",
    ),
    "sobol": Row(
        strategies.sobol,
        not_better_than_random="it learns nothing; that its points are more even is tested in "
        "tests/quasirandom/test_sobol.py",
    ),
    "gaussian_process": Row(
        functools.partial(strategies.gaussian_process, capacity=128),
        warm=True,
        rounds=8,
        duels=20,
        costly=True,
    ),
    "differential_evolution": Row(strategies.differential_evolution, smallest=4, warm=True),
    "jade": Row(strategies.jade, smallest=4, warm=True),
    "shade": Row(strategies.shade, smallest=4, warm=True),
    "l_shade": Row(
        functools.partial(strategies.l_shade, evaluations=10_000), smallest=4, warm=True
    ),
    "cma_es": Row(strategies.cma_es, smallest=2, warm=True),
    "ipop_cma_es": Row(
        functools.partial(strategies.ipop_cma_es, doublings=2), smallest=2, warm=True
    ),
    "bipop_cma_es": Row(
        functools.partial(strategies.bipop_cma_es, doublings=2), smallest=2, warm=True
    ),
    "pbt": Row(strategies.pbt, smallest=2, warm=True),
    "pbt_tournament": Row(
        functools.partial(strategies.pbt, selection="tournament"), smallest=2, warm=True
    ),
    "pb2": Row(
        functools.partial(strategies.pb2, window=32),
        smallest=2,
        warm=True,
        rounds=20,
        duels=20,
        costly=True,
    ),
    # The fewest rungs: what these save is training, and here there is none.
    "successive_halving": Row(
        functools.partial(strategies.successive_halving, max_steps=2, eta=2),
        smallest=2,
        not_better_than_random=PROMOTED,
    ),
    "hyperband": Row(
        functools.partial(strategies.hyperband, max_steps=2, eta=2),
        smallest=2,
        not_better_than_random=PROMOTED,
    ),
    "asha": Row(
        functools.partial(strategies.asha, max_steps=2, eta=2, workers=2),
        smallest=2,
        not_better_than_random=PROMOTED,
    ),
    "tpe": Row(
        functools.partial(strategies.tpe, capacity=160),
        warm=True,
        rounds=10,
        duels=20,
        costly=True,
    ),
    "turbo": Row(
        functools.partial(strategies.turbo, capacity=64),
        warm=True,
        rounds=4,
        duels=40,
        costly=True,
    ),
    "hypergradient": Row(strategies.hypergradient, warm=True),
    "open_es": Row(strategies.open_es, smallest=2, warm=True),
    "snes": Row(strategies.snes, smallest=2, warm=True),
    "xnes": Row(strategies.xnes, smallest=2, warm=True),
    "genetic": Row(strategies.genetic, smallest=2, warm=True),
    "pso": Row(strategies.pso, smallest=2, warm=True),
    "spso2011": Row(functools.partial(strategies.pso, variant="spso2011"), smallest=2, warm=True),
    "skeleton": Row(skeleton(), warm=True),
}
NAMES = list(TABLE)
WARM = [name for name, row in TABLE.items() if row.warm]

FLOATS = {f"x{i}": mh.Float(-2.0, 2.0) for i in range(6)}
SPACE = {
    "lr": mh.Float(1e-3, 1.0, log=True),
    "drop": mh.Float(0.0, 0.5),
    "momentum": mh.Float(0.0, 1.0),
    "smoothing": mh.Float(0.0, 1.0),
    "width": mh.Int(1, 9),
    "act": mh.Choice(("a", "b", "c")),
}
SIZE = 6


def mixed(h, best_drop, holes):
    """With ``holes`` not a number in half of the cube."""
    smooth = (
        (jnp.log10(h["lr"]) / 3 + 0.35) ** 2
        + 4 * (h["drop"] - best_drop) ** 2
        + (h["momentum"] - 0.65) ** 2
        + (h["smoothing"] - 0.65) ** 2
    )
    loss = 4 * smooth + 0.02 * (h["width"] - 3) ** 2 + 0.1 * (h["act"] != 1)
    return jnp.where(holes & (h["smoothing"] < 0.5), jnp.nan, loss)


def sphere(h):
    return sum((x / 2 - 0.3) ** 2 for x in h.values())


def rosenbrock(h):
    x = list(h.values())
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:], strict=False))


def floats(h, valley):
    return jnp.where(valley, rosenbrock(h), sphere(h))


def searched(name, space, fn, population=POPULATION, rounds=None, **options):
    """``(key, *numbers) -> SearchResult`` of ``fn(hparams, *numbers)``."""

    def run(key, *numbers):
        problem = mh.problems.function(lambda hparams: fn(hparams, *numbers))
        strategy = TABLE[name].make(space, population, **options)
        steps = strategy.needs.steps
        return mh.search(
            key, problem, space, strategy, rounds=rounds or TABLE[name].rounds, steps=steps
        )

    return run


class Program:
    """``(seed, *numbers) -> SearchResult`` of some keys, on the host, and its traces."""

    def __init__(self, run, costly):
        self.traces, self.lanes = 0, 4 if costly else LANES

        def lanes(keys, *numbers):
            self.traces += 1
            return jax.vmap(lambda key: run(key, *numbers))(keys)

        self.run = jax.jit(lanes, compiler_options=xla.LONG_RUN if costly else None)

    def __call__(self, seed, *numbers):
        keys = jax.random.split(jax.random.key(seed), self.lanes)
        return jax.tree.map(np.asarray, self.run(keys, *numbers))


@functools.cache
def program(name, fn):
    return Program(searched(name, {mixed: SPACE, floats: FLOATS}[fn], fn), TABLE[name].costly)


@functools.cache
def rough_run(name):
    """With losses that are not finite."""
    return program(name, mixed)(0, 0.325, True)


def check_history(history, shape, dtype):
    assert history.unit.dtype == history.loss.dtype == np.dtype(dtype)
    assert history.unit.shape == (*shape, SIZE)
    testing.check_history(history, shape[-1])


@functools.cache
def best_losses(name, function, rounds):
    """Of many seeds, after some rounds."""
    fn, *numbers = {
        "sphere": (floats, False),
        "rosenbrock": (floats, True),
        "mixed": (mixed, 0.325, False),
    }[function]
    batches = range(1, 1 + TABLE[name].duels // program(name, fn).lanes)
    losses = [program(name, fn)(seed, *numbers).history.loss for seed in batches]
    return np.concatenate([loss[:, :rounds].min(axis=(1, 2)) for loss in losses])


def check_beats_random_search(name, function):
    rounds, duels = TABLE[name].rounds, TABLE[name].duels
    losses = best_losses(name, function, rounds)
    wins = int((losses < best_losses("random", function, rounds)[:duels]).sum())
    # One-sided sign test: the chance of so many wins if each were the toss of a coin.
    p = sum(math.comb(duels, k) for k in range(wins, duels + 1)) / 2**duels
    assert p < 1e-4, f"{wins} wins of {duels}"


def duelists(costly):
    return pytest.mark.parametrize(
        "name",
        [n for n, row in TABLE.items() if row.costly == costly and not row.not_better_than_random],
        scope="module",
    )
