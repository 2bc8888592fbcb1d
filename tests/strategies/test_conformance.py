"""What every strategy must be able to do.  A new strategy is one row of ``TABLE``.

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

import metahpo as mh
from metahpo import strategies
from metahpo.base import FULL_BUDGET

ROOT = Path(__file__).parents[2]


def skeleton():
    """The strategy that docs/adding_a_strategy.md starts from keeps the protocol itself."""
    path = ROOT / "docs" / "skeletons" / "strategy.py"
    spec = importlib.util.spec_from_file_location("strategy_skeleton", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.hill_climbing


class Row(NamedTuple):
    make: Callable  # (space, population, **options) -> Strategy
    smallest: int = 1  # population
    warm: bool = False  # takes ``initial``
    not_better_than_random: str = ""  # the reason
    duels: int = 200  # with random search; fewer where a round is costly


TABLE = {
    "random": Row(strategies.random, not_better_than_random="it is random search"),
    "grid": Row(
        strategies.grid,
        not_better_than_random="it learns nothing; its own claim, that no point comes twice and "
        "any part is a fair sample, is tested in test_grid.py",
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
    "pb2": Row(functools.partial(strategies.pb2, window=32), smallest=2, warm=True, duels=100),
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

POPULATION, ROUNDS, SEEDS = 8, 12, 16
# These programs compile for seconds and run for milliseconds.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SPACE = {
    "lr": mh.Float(1e-3, 1.0, log=True),
    "drop": mh.Float(0.0, 0.5),
    "width": mh.Int(2, 9),
    "act": mh.Choice(("a", "b", "c")),
}
SIZE = 4


def rough(hparams):
    """Not a number where ``drop`` lies in the upper half of its range, so in half of the cube."""
    smooth = jnp.log(hparams["lr"] / 0.1) ** 2 + 0.1 * hparams["width"] + (hparams["act"] == 1)
    return jnp.where(hparams["drop"] > 0.25, jnp.nan, smooth + hparams["drop"])


def searched(name, space, fn, population, rounds):
    """``(key, *constants) -> SearchResult`` of ``fn(hparams, *constants)``."""
    strategy = TABLE[name].make(space, population)

    def run(key, *constants):
        problem = mh.problems.function(lambda hparams: fn(hparams, *constants))
        return mh.search(key, problem, space, strategy, rounds=rounds, steps=1)

    return run


@functools.cache
def rough_run(name, x64=False):
    """A search with non-finite losses: jitted, vmapped over seeds, scanned over rounds."""
    with jax.enable_x64(x64):
        run = jit(jax.vmap(searched(name, SPACE, rough, POPULATION, ROUNDS)))
        return run, run(jax.random.split(jax.random.key(0), SEEDS))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("x64", [False, True])
def test_proposals_keep_the_protocol_and_the_default_float_type(name, x64):
    with jax.enable_x64(x64):
        strategy = TABLE[name].make(SPACE, POPULATION)
        state = jax.eval_shape(strategy.init, jax.random.key(0))
        proposal, asked = jax.eval_shape(strategy.ask, jax.random.key(1), state)
        assert proposal.unit.shape == (POPULATION, SIZE)
        assert proposal.unit.dtype == jnp.result_type(float)
        assert proposal.parent.shape == proposal.budget.shape == (POPULATION,)
        assert proposal.parent.dtype == proposal.budget.dtype == jnp.int32
        assert asked == state  # the same structure, shapes and types


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("x64", [False, True])
def test_history_stays_in_bounds_with_known_parents(name, x64):
    history = jax.tree.map(np.asarray, rough_run(name, x64)[1].history)
    dtype = np.dtype("float64" if x64 else "float32")
    assert history.unit.dtype == history.loss.dtype == dtype
    assert history.unit.shape == (SEEDS, ROUNDS, POPULATION, SIZE)
    assert ((history.unit >= 0) & (history.unit <= 1)).all()
    assert ((history.parent >= -1) & (history.parent < POPULATION)).all()
    assert (history.parent[:, 0] == -1).all()  # nobody to inherit from in the first round
    assert ((history.budget >= 0) & (history.budget <= FULL_BUDGET)).all()


@pytest.mark.parametrize("name", NAMES)
def test_nonfinite_losses_are_survived(name):
    result = rough_run(name)[1]
    nonfinite = np.isinf(result.history.loss)
    assert nonfinite[:, 0].any(axis=1).mean() > 0.8  # the test is not vacuous
    assert bool(jnp.isfinite(result.best_loss).all())
    last, first = nonfinite[:, -3:].mean(), nonfinite[:, 0].mean()
    if TABLE[name].not_better_than_random:
        assert last == pytest.approx(0.5, abs=0.15)  # the half of the cube that it is
    else:
        assert last < 0.6 * first


@pytest.mark.parametrize("name", NAMES)
def test_same_key_gives_the_same_history_and_another_key_another(name):
    run, result = rough_run(name)
    again = run(jax.random.split(jax.random.key(0), SEEDS))
    jax.tree.map(np.testing.assert_array_equal, again, result)
    assert not np.array_equal(result.history.unit[0], result.history.unit[1])


@pytest.mark.parametrize("name", NAMES)
def test_one_trace_serves_all_numbers(name):
    traces = []
    options = {"initial": None} if TABLE[name].warm else {}

    @jit
    def run(key, centre, initial):
        traces.append(name)
        if options:
            options["initial"] = initial
        space = {"x": mh.Float(-1.0, 1.0), "n": mh.Int(1, 5)}
        problem = mh.problems.function(lambda h: (h["x"] - centre) ** 2 + h["n"])
        strategy = TABLE[name].make(space, 6, **options)
        return mh.search(key, problem, space, strategy, rounds=3, steps=1).history

    histories = [
        run(jax.random.key(seed), centre, jnp.full((2, 2), point))
        for seed, centre, point in [(0, 0.1, 0.2), (0, 0.3, 0.2), (0, 0.3, 0.7), (1, 0.3, 0.7)]
    ]

    assert len(traces) == 1
    assert not np.array_equal(histories[0].loss, histories[1].loss)
    assert TABLE[name].warm != np.array_equal(histories[1].unit[0], histories[2].unit[0])


@pytest.mark.parametrize("name", WARM)
def test_warm_start_is_evaluated_first(name):
    initial = jnp.array([[0.1, 0.2, 0.3, 0.4], [-3.0, 5.0, jnp.nan, 1.0]])

    @jit
    def first(key, initial):  # traced, so its values may be anything
        strategy = TABLE[name].make(SPACE, POPULATION, initial=initial)
        return strategy.ask(key, strategy.init(key))[0].unit

    unit = np.asarray(first(jax.random.key(0), initial))
    np.testing.assert_array_equal(unit[0], initial[0])
    np.testing.assert_array_equal(unit[1, [0, 1, 3]], [0.0, 1.0, 1.0])  # moved into the cube
    assert 0 < unit[1, 2] < 1
    drawn = unit[2:]
    inside = drawn[(drawn > 0) & (drawn < 1)]  # normal samples beyond a bound are moved onto it
    assert len(np.unique(inside)) == inside.size > 0.6 * drawn.size


@pytest.mark.parametrize("name", WARM)
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, SIZE), "initial has 9 points, more than the population 8"),
        ((2, 3), r"initial must have shape \[K, 4\] for this space, got \(2, 3\)"),
        ((SIZE,), r"initial must have shape \[K, 4\] for this space, got \(4,\)"),
    ],
)
def test_warm_start_of_a_wrong_shape_is_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        TABLE[name].make(SPACE, POPULATION, initial=jnp.zeros(shape))


@pytest.mark.parametrize("name", WARM)
def test_warm_start_outside_the_bounds_is_refused(name):
    message = r"initial must lie in the unit cube \[0, 1\]\^4, got 1.5 for drop in point 1"
    with pytest.raises(ValueError, match=message):
        TABLE[name].make(SPACE, POPULATION, initial=np.array([[0.5] * 4, [0.5, 1.5, 0.5, 0.5]]))


@pytest.mark.parametrize("name", NAMES)
def test_population_that_is_too_small_is_refused(name):
    row = TABLE[name]
    row.make(SPACE, row.smallest)
    for population in {0, -1, row.smallest - 1, row.smallest + 0.5}:
        message = rf"population .* at least {row.smallest}, got {population}"
        with pytest.raises(ValueError, match=message):
            row.make(SPACE, population)


@pytest.mark.parametrize("name", NAMES)
def test_smallest_population_works(name):
    run = searched(name, SPACE, lambda h: h["lr"] + h["width"], TABLE[name].smallest, 5)
    assert bool(jnp.isfinite(jit(run)(jax.random.key(0)).history.loss).all())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_space_is_refused(name):
    with pytest.raises(ValueError, match="a space is a pytree whose leaves are"):
        TABLE[name].make({"lr": 0.1}, POPULATION)


def sphere(h):
    return sum((x - 0.3) ** 2 for x in h.values())


def rosenbrock(h):
    x = list(h.values())
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:], strict=False))


def mixed(h):
    smooth = sum((h[f"x{i}"] - 0.3) ** 2 for i in range(4))
    return smooth + 0.02 * (h["n"] - 3) ** 2 + 0.1 * (h["c"] != 1)


FUNCTIONS = {
    "sphere": (sphere, {f"x{i}": mh.Float(-1.0, 1.0) for i in range(6)}),
    "rosenbrock": (rosenbrock, {f"x{i}": mh.Float(-2.0, 2.0) for i in range(4)}),
    "mixed": (
        mixed,
        {f"x{i}": mh.Float(-1.0, 1.0) for i in range(4)}
        | {"n": mh.Int(1, 9), "c": mh.Choice(("a", "b", "c"))},
    ),
}


@functools.cache
def best_losses(name):
    """The best losses of many seeds on the three functions, in one compilation."""

    def run(key):
        return {
            label: searched(name, space, fn, 16, 40)(key).best_loss
            for label, (fn, space) in FUNCTIONS.items()
        }

    return jit(jax.vmap(run))(jax.random.split(jax.random.key(2), TABLE[name].duels))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "pb2" else ())
        for name in NAMES
        if not TABLE[name].not_better_than_random
    ],
)
def test_beats_random_search_with_p_below_one_in_ten_thousand(name, function):
    duels = TABLE[name].duels
    wins = int((best_losses(name)[function] < best_losses("random")[function][:duels]).sum())
    # One-sided sign test: the chance of so many wins if each were the toss of a coin.
    p = sum(math.comb(duels, k) for k in range(wins, duels + 1)) / 2**duels
    assert p < 1e-4, f"{wins} wins of {duels}"
