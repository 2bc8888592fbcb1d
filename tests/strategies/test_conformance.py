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
import xla

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
    costly: bool = False  # runs for seconds, so compile it well


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
    "pb2": Row(
        functools.partial(strategies.pb2, window=32), smallest=2, warm=True, duels=40, costly=True
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

POPULATION, ROUNDS, LANES = 16, 30, 20
# These programs compile for seconds and run for milliseconds.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
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


def searched(name, space, fn, population=POPULATION, rounds=ROUNDS, **options):
    """``(key, *numbers) -> SearchResult`` of ``fn(hparams, *numbers)``."""

    def run(key, *numbers):
        problem = mh.problems.function(lambda hparams: fn(hparams, *numbers))
        strategy = TABLE[name].make(space, population, **options)
        return mh.search(key, problem, space, strategy, rounds=rounds, steps=1)

    return run


class Program:
    """``(seed, *numbers) -> SearchResult`` of ``LANES`` keys, on the host, and its traces."""

    def __init__(self, run, costly):
        self.traces = 0

        def lanes(keys, *numbers):
            self.traces += 1
            return jax.vmap(lambda key: run(key, *numbers))(keys)

        self.run = jax.jit(lanes, compiler_options=xla.LONG_RUN if costly else xla.SHORT_RUN)

    def __call__(self, seed, *numbers):
        keys = jax.random.split(jax.random.key(seed), LANES)
        return jax.tree.map(np.asarray, self.run(keys, *numbers))


@functools.cache
def program(name, fn):
    return Program(searched(name, {mixed: SPACE, floats: FLOATS}[fn], fn), TABLE[name].costly)


@functools.cache
def rough_run(name, x64=False):
    """With losses that are not finite."""
    with jax.enable_x64(x64):
        return program(name, mixed)(0, 0.325, True)


@pytest.mark.parametrize("name", NAMES, scope="module")
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


@pytest.mark.parametrize("name", NAMES, scope="module")
@pytest.mark.parametrize("x64", [False, True])
def test_history_stays_in_bounds_with_known_parents(name, x64):
    history = rough_run(name, x64).history
    dtype = np.dtype("float64" if x64 else "float32")
    assert history.unit.dtype == history.loss.dtype == dtype
    assert history.unit.shape == (LANES, ROUNDS, POPULATION, SIZE)
    assert ((history.unit >= 0) & (history.unit <= 1)).all()
    assert ((history.parent >= -1) & (history.parent < POPULATION)).all()
    assert (history.parent[:, 0] == -1).all()  # nobody to inherit from in the first round
    assert ((history.budget >= 0) & (history.budget <= FULL_BUDGET)).all()


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_nonfinite_losses_are_survived(name):
    result = rough_run(name)
    nonfinite = np.isinf(result.history.loss)
    assert nonfinite[:, 0].any(axis=1).mean() > 0.8  # the test is not vacuous
    assert np.isfinite(result.best_loss).all()
    last, first = nonfinite[:, 9:12].mean(), nonfinite[:, 0].mean()
    if TABLE[name].not_better_than_random:
        assert last == pytest.approx(0.5, abs=0.15)  # the half of the cube that it is
    else:
        assert last < 0.6 * first


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_same_key_gives_the_same_history_and_another_key_another(name):
    result, again = rough_run(name), program(name, mixed)(0, 0.325, True)
    jax.tree.map(np.testing.assert_array_equal, again, result)
    assert not np.array_equal(result.history.unit[0], result.history.unit[1])


@functools.cache
def warm_program(name):
    """``(key, initial) -> f[P, D]``, the first proposals, and how often that was traced."""
    traces = []

    @jit
    def first(key, initial):  # traced, so its values may be anything
        traces.append(name)
        strategy = TABLE[name].make(SPACE, POPULATION, initial=initial)
        return strategy.ask(key, strategy.init(key))[0].unit

    return first, traces


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_one_trace_serves_all_numbers(name):
    one, run = rough_run(name), program(name, mixed)
    count = run.traces
    other = run(1, 0.1, True)
    assert run.traces == count > 0
    assert not np.array_equal(one.history.loss, other.history.loss)
    if TABLE[name].warm:
        first, traces = warm_program(name)
        one, other = (first(jax.random.key(0), jnp.full((2, SIZE), x)) for x in (0.2, 0.7))
        assert len(traces) == 1
        assert not np.array_equal(one, other)
        # The whole search takes points that are not known yet, too.
        points = jax.ShapeDtypeStruct((2, SIZE), jnp.float32)
        run = lambda key, x: searched(name, SPACE, mixed, initial=x)(key, 0.1, False)  # noqa: E731
        assert jax.eval_shape(run, jax.random.key(0), points).best_loss.shape == ()


@pytest.mark.parametrize("name", WARM, scope="module")
def test_warm_start_is_evaluated_first(name):
    initial = jnp.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [-3.0, 5.0, jnp.nan, 1.0, 0.9, jnp.inf]])
    unit = np.asarray(warm_program(name)[0](jax.random.key(0), initial))
    np.testing.assert_array_equal(unit[0], initial[0])
    np.testing.assert_array_equal(unit[1, [0, 1, 3]], [0.0, 1.0, 1.0])  # moved into the cube
    assert ((unit[1, [2, 5]] > 0) & (unit[1, [2, 5]] < 1)).all()
    drawn = unit[2:]
    inside = drawn[(drawn > 0) & (drawn < 1)]  # normal samples beyond a bound are moved onto it
    assert len(np.unique(inside)) == inside.size > 0.6 * drawn.size


@pytest.mark.parametrize("name", WARM, scope="module")
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((17, SIZE), "initial has 17 points, more than the population 16"),
        ((2, 3), r"initial must have shape \[K, 6\] for this space, got \(2, 3\)"),
        ((SIZE,), r"initial must have shape \[K, 6\] for this space, got \(6,\)"),
    ],
)
def test_warm_start_of_a_wrong_shape_is_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        TABLE[name].make(SPACE, POPULATION, initial=jnp.zeros(shape))


@pytest.mark.parametrize("name", WARM, scope="module")
def test_warm_start_outside_the_bounds_is_refused(name):
    message = r"initial must lie in the unit cube \[0, 1\]\^6, got 1.5 for drop in point 1"
    with pytest.raises(ValueError, match=message):
        TABLE[name].make(SPACE, POPULATION, initial=np.array([[0.5] * 6, [0.5, 1.5, *[0.5] * 4]]))


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_population_that_is_too_small_is_refused(name):
    row = TABLE[name]
    row.make(SPACE, row.smallest)
    for population in {0, -1, row.smallest - 1, row.smallest + 0.5}:
        message = rf"population .* at least {row.smallest}, got {population}"
        with pytest.raises(ValueError, match=message):
            row.make(SPACE, population)


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_smallest_population_works(name):
    run = searched(name, SPACE, lambda h: h["lr"] + h["width"], TABLE[name].smallest, rounds=5)
    assert bool(jnp.isfinite(jit(run)(jax.random.key(0)).history.loss).all())


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_what_is_not_a_space_is_refused(name):
    with pytest.raises(ValueError, match="a space is a pytree whose leaves are"):
        TABLE[name].make({"lr": 0.1}, POPULATION)


@functools.cache
def best_losses(name, function):
    """Of many seeds."""
    fn, *numbers = {
        "sphere": (floats, False),
        "rosenbrock": (floats, True),
        "mixed": (mixed, 0.325, False),
    }[function]
    batches = range(1, 1 + TABLE[name].duels // LANES)
    return np.concatenate([program(name, fn)(seed, *numbers).best_loss for seed in batches])


@pytest.mark.parametrize("function", ["sphere", "rosenbrock", "mixed"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "pb2" else ())
        for name in NAMES
        if not TABLE[name].not_better_than_random
    ],
    scope="module",
)
def test_beats_random_search_with_p_below_one_in_ten_thousand(name, function):
    duels = TABLE[name].duels
    losses = best_losses(name, function)
    wins = int((losses < best_losses("random", function)[:duels]).sum())
    # One-sided sign test: the chance of so many wins if each were the toss of a coin.
    p = sum(math.comb(duels, k) for k in range(wins, duels + 1)) / 2**duels
    assert p < 1e-4, f"{wins} wins of {duels}"
