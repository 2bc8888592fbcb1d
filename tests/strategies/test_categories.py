"""The choices of CMA-ES: one generation by the published formulas and by cmaes, and what it is for.

``cmaes_categories.json`` is written by benchmarks/peers/catcma_cmaes.py.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import strategies
from metahpo.base import StopReason
from metahpo.strategies.cma import categories, update

ORACLE = json.loads((Path(__file__).parent / "cmaes_categories.json").read_text())
COUNTS = ORACLE["counts"]
SPACE = {f"c{i}": mh.Choice(tuple(range(count))) for i, count in enumerate(COUNTS)}
SPACE |= {"n": mh.Int(0, 9)}
CHOICES = categories.choices(SPACE)


def as_state(stored):
    return categories.Categorical(*(jnp.asarray(stored[k]) for k in categories.Categorical._fields))


def published_generation(state, values, weights, margin):
    """One generation, a choice and a value at a time; ``values`` with the best sample first."""
    p, path, expected, slowness = (np.array(part) for part in state)
    rows = [list(row[:count]) for row, count in zip(p, COUNTS, strict=True)]
    gradient = [
        [
            sum(w * (float(v[i] == k) - q) for w, v in zip(weights, values, strict=True) if w > 0)
            for k, q in enumerate(row)
        ]
        for i, row in enumerate(rows)
    ]
    steep = []  # Appendix B of Akimoto et al.: the root of the Fisher matrix without the last value
    for row, g in zip(rows, gradient, strict=True):
        last, rest = row[-1], sum(g[:-1])
        for q, slope in zip(row[:-1], g[:-1], strict=True):
            steep.append(slope / np.sqrt(q) + np.sqrt(q) * rest / (last + np.sqrt(last)))
    length = np.sqrt(sum(x**2 for x in steep))
    delta = 1.0 / slowness
    beta = delta / np.sqrt(sum(count - 1 for count in COUNTS))
    flat = [x for row, count in zip(path, COUNTS, strict=True) for x in row[: count - 1]]
    flat = [
        (1 - beta) * s + np.sqrt(beta * (2 - beta)) * x / length
        for s, x in zip(flat, steep, strict=True)
    ]
    expected = (1 - beta) ** 2 * expected + beta * (2 - beta)
    slowness *= np.exp(beta * (expected - sum(s**2 for s in flat) / 1.5))
    for i, (row, g, least) in enumerate(zip(rows, gradient, margin, strict=True)):
        moved = [max(q + delta / length * slope, least) for q, slope in zip(row, g, strict=True)]
        above = sum(moved) - least * len(moved)
        moved = [q + (1 - sum(moved)) * (q - least) / above for q in moved]
        p[i, : len(moved)] = moved
    at = np.cumsum([0, *(count - 1 for count in COUNTS)])
    for i, row in enumerate(path):
        row[: COUNTS[i] - 1] = flat[at[i] : at[i + 1]]
    return p, path, expected, slowness


@functools.cache
def ours(population):
    """``(state, values, weights) -> state``, and the weights of the best sample, the second, ..."""
    weights = update.constants(population, 1).weights
    return jax.jit(functools.partial(categories.updated, CHOICES)), weights


@pytest.mark.parametrize("population", [2, 7, 12])
def test_a_generation_equals_the_published_formulas(population):
    rng = np.random.default_rng(population)
    with jax.enable_x64(True):
        updated, weights = ours(population)
        p = np.zeros((3, 5))
        path = rng.normal(size=(3, 4))
        for i, count in enumerate(COUNTS):
            q = rng.random(count)
            p[i, :count] = CHOICES.least[i] + (1 - count * CHOICES.least[i]) * q / q.sum()
            path[i, count - 1 :] = 0
        values = np.stack([rng.integers(0, count, population) for count in COUNTS], axis=1)
        state = (p, path, 0.7, 1.9)
        order = rng.permutation(population)
        new = updated(categories.Categorical(*map(jnp.asarray, state)), values[order], weights)
        expected = published_generation(state, values[order], weights, CHOICES.least)
    for got, want in zip(new, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


def test_margin_and_generations_are_those_of_cmaes():
    np.testing.assert_allclose(CHOICES.least, ORACLE["margin"], rtol=1e-12)
    with jax.enable_x64(True):
        updated, weights = ours(ORACLE["population"])
        for generation in ORACLE["generations"]:
            before, after = as_state(generation["before"]), as_state(generation["after"])
            new = updated(before, jnp.array(generation["values"]), weights)
            for got, want in zip(new, after, strict=True):
                # cmaes adds 1e-8 to a length by which it divides.
                np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_the_first_values_are_equally_probable_and_the_margin_always_holds():
    state = categories.start(CHOICES, jnp.float32)
    np.testing.assert_allclose(state.probability[1], 0.2)
    np.testing.assert_allclose(state.probability[2], [1 / 3] * 3 + [0] * 2, rtol=1e-6)
    updated, weights = ours(6)
    rng = np.random.default_rng(0)
    for turn in range(60):  # noise first, and then always the same
        values = [[0, 4, 2]] * 6 if turn > 30 else rng.integers(0, COUNTS, (6, 3))
        state = updated(state, jnp.array(values), jnp.asarray(weights, jnp.float32))
        p = np.asarray(state.probability)
        np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
        assert (p >= CHOICES.least[:, None] * (1 - 1e-6))[CHOICES.exists].all()
        assert (p[~CHOICES.exists] == 0).all()
        assert bool(categories.settled(CHOICES, state)) == (
            np.max(1 - p.max(1) - (np.array(COUNTS) - 1) * CHOICES.least) < 1e-3
        )
    assert bool(categories.settled(CHOICES, state))


def test_the_steps_stay_finite_when_noise_is_followed_by_one_direction():
    longest = np.sqrt(CHOICES.degrees)
    state = categories.start(CHOICES, jnp.float32)._replace(
        slowness=jnp.float32(50.0), expected=jnp.float32(1.0)
    )
    updated, weights = ours(6)
    for value in [[0, 4, 2]] * 150 + [[1, 0, 0]] * 20:
        state = updated(state, jnp.array([value] * 6), jnp.asarray(weights, jnp.float32))
        assert all(np.isfinite(leaf).all() for leaf in state)
        assert float(state.slowness) >= 1 / longest * (1 - 1e-6)
    assert np.argmax(state.probability, axis=1).tolist() == [1, 0, 0]


def test_values_are_drawn_as_often_as_they_are_probable():
    p = jnp.array([[0.1, 0.9, 0, 0, 0], [0.3, 0.1, 0.2, 0.15, 0.25], [0.05, 0.05, 0.9, 0, 0]])
    state = categories.start(CHOICES, jnp.float32)._replace(probability=p)
    drawn = categories.sample(jax.random.key(0), CHOICES, state, 20_000)
    share = (np.asarray(drawn)[:, :, None] == np.arange(5)).mean(0)
    np.testing.assert_allclose(share, p, atol=0.017)  # five standard deviations


def test_points_have_the_values_and_values_are_read_from_points():
    counts = range(2, 300, 9)
    space = {f"c{i}": mh.Choice(tuple(range(i))) for i in counts} | {"x": mh.Float(0.0, 1.0)}
    found = categories.choices(space)
    top = np.stack([0 * found.counts, found.counts // 2, found.counts - 1])
    unit = categories.joined(found, jnp.full((3, 1), 0.3), jnp.asarray(top, jnp.int32))
    np.testing.assert_array_equal(categories.values(found, unit), top)
    decoded = jax.vmap(lambda u: mh.space.decode(space, u))(unit)
    names = [name for name in mh.space.names(space) if name != "x"]
    np.testing.assert_array_equal(np.stack([decoded[name] for name in names], axis=1), top)
    np.testing.assert_allclose(decoded["x"], 0.3)
    np.testing.assert_array_equal(categories.others(found, unit), np.full((3, 1), np.float32(0.3)))
    anywhere = jax.random.uniform(jax.random.key(0), (500, len(counts) + 1))
    decoded = jax.vmap(lambda u: mh.space.decode(space, u))(anywhere)
    np.testing.assert_array_equal(
        categories.values(found, anywhere), np.stack([decoded[name] for name in names], axis=1)
    )


@pytest.mark.parametrize("space", [{"x": mh.Float(0.0, 1.0)}, {"one": mh.Choice(("only",))}])
def test_without_choices_nothing_is_done(space):
    assert categories.choices(space) is None
    key, points = jax.random.key(0), jnp.ones((3, 1))
    assert categories.keys(key, None)[0] is key
    assert categories.others(None, points) is points
    assert categories.joined(None, points, None) is points
    for strategy in (strategies.cma_es(space, 4), strategies.bipop_cma_es(space, 4, doublings=1)):
        state = strategy.init(key)
        assert getattr(state, "run", state).categorical is None
        expected = 0.5 + 0.2 * jax.random.normal(jax.random.key(1), (4, 1))
        if strategy.stop is not None:  # the proposals are those of the key, as without any choices
            unit = strategy.ask(jax.random.key(1), state)[0].unit
            np.testing.assert_allclose(unit, np.clip(expected, 0, 1), rtol=1e-6)


WORTH = jnp.array([[0, 5, 4, 3, 2, 1], [3, 1, 0.5, 4, 0, 2], [1, 2, 0, 3, 4, 5.0]])
KINDS = mh.Choice(tuple("abcdef"))
MIXED = {
    "x": mh.Float(-1.0, 1.0, shape=(3,)),
    "n": mh.Int(1, 1000, log=True),
    "m": mh.Int(1, 16),
    "a": KINDS,
    "b": KINDS,
    "c": KINDS,
}


def worth(h):
    """The best value of a choice has neighbours as bad as any."""
    numbers = ((h["x"] - 0.3) ** 2).sum() + jnp.log(h["n"] / 130.0) ** 2 + 0.1 * (h["m"] - 11) ** 2
    return numbers + WORTH[0, h["a"]] + WORTH[1, h["b"]] + WORTH[2, h["c"]]


def searched(strategy, space, loss, rounds, runs=30, **options):
    def run(key):
        problem = mh.problems.function(loss)
        return mh.search(key, problem, space, strategy, rounds=rounds, steps=1, **options)

    return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), runs))


def right(strategy, population):
    h = searched(strategy, MIXED, worth, ORACLE["evaluations"] // population).best_hparams
    return int(((h["a"] == 0) & (h["b"] == 4) & (h["c"] == 2)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cma_es", "bipop_cma_es"])
def test_choices_without_order_are_found_as_often_as_by_cmaes(name):
    options = {"doublings": 3} if name == "bipop_cma_es" else {}
    ours = right(getattr(strategies, name)(MIXED, 12, **options), 12)
    others = [right(strategies.random(MIXED, 12), 12), right(strategies.snes(MIXED, 12), 12)]
    assert ours >= max(others)
    assert ours >= ORACLE["found"] == ORACLE["runs"] == 30


ALONE = {"c": mh.Choice(tuple("abcdef"), shape=(5,)), "b": mh.Choice((False, True))}


def mismatches(h):
    return (h["c"] != jnp.array([3, 1, 5, 0, 2])).sum() + 0.5 * (h["b"] != 1)


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("cma_es", {}, 28),
        ("cma_es", {"covariance": "separable"}, 28),
        ("cma_es", {"factor": "eigen"}, 28),
        ("ipop_cma_es", {"doublings": 2}, 30),
        ("bipop_cma_es", {"doublings": 2}, 30),
    ],
)
def test_spaces_of_choices_alone_are_searched(name, options, least):
    strategy = getattr(strategies, name)(ALONE, 10, **options)
    stop = mh.stopping.when(evaluations=2000)
    result = searched(strategy, ALONE, mismatches, 200, stop=stop)
    assert (result.best_loss == 0).sum() >= least  # random search: 5
    if name == "cma_es":  # it ends once the best of many generations was one and the same
        assert (result.stop_reason == StopReason.TOLERANCE).all()
        assert result.rounds.min() >= 10 + 30 * 6 / 10


def asked(strategy, seed=0):
    state = strategy.init(jax.random.key(seed))
    proposal, state = jax.jit(strategy.ask)(jax.random.key(seed + 1), state)
    return proposal, state


def told(strategy, state, proposal, unit=None, space=MIXED, loss=worth):
    unit = proposal.unit if unit is None else unit
    losses = jax.vmap(lambda u: loss(mh.space.decode(space, u)))(unit)
    evaluation = mh.Evaluation(losses, None, ())
    proposal = proposal._replace(unit=unit)
    return jax.jit(strategy.tell)(jax.random.key(9), state, proposal, evaluation)


def test_what_is_learned_are_the_values_of_the_points_that_are_told():
    strategy = strategies.cma_es(MIXED, 12)
    proposal, state = asked(strategy)
    unit = proposal.unit.at[:, 0].set(KINDS.encode(5)).at[:, 1].set(0.001)
    categorical = told(strategy, state, proposal, unit).categorical
    assert np.argmax(categorical.probability, axis=1)[:2].tolist() == [5, 0]
    own = told(strategy, state, proposal)
    same = told(strategy, state, proposal, proposal.unit + 0)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [strategies.cma_es, strategies.bipop_cma_es])
def test_given_points_are_evaluated_with_their_choices_and_learned_from(make):
    best = {"x": jnp.full(3, 0.3), "n": 130, "m": 11, "a": "a", "b": "e", "c": "c"}
    initial = mh.space.encode(MIXED, best)[None]
    options = {} if make is strategies.cma_es else {"doublings": 1}
    strategy = make(MIXED, 12, initial=initial, **options)
    proposal, state = asked(strategy)
    np.testing.assert_array_equal(proposal.unit[0], initial[0])
    run = getattr(state, "run", state)
    np.testing.assert_allclose(run.normal.mean, initial[0, 3:], rtol=1e-6)
    np.testing.assert_allclose(run.categorical.probability, 1 / 6, rtol=1e-6)
    new = told(strategy, state, proposal)
    p = np.asarray(getattr(new, "run", new).categorical.probability)
    assert (p[[0, 1, 2], [0, 4, 2]] > 0.25).all()


def test_a_run_does_not_end_before_its_choices_have_settled():
    strategy = strategies.cma_es(MIXED, 12)
    state = asked(strategy)[1]
    tiny = jnp.full_like(state.normal.sigma, 1e-30)
    moving = state._replace(normal=state.normal._replace(sigma=tiny))
    assert int(strategy.stop(moving)) == StopReason.RUNNING
    found = categories.choices(MIXED)
    top = 1 - 5 * found.least[0]
    p = jnp.full((3, 6), found.least[0]).at[:, 2].set(top)
    settled = moving._replace(categorical=moving.categorical._replace(probability=p))
    assert int(strategy.stop(settled)) != StopReason.RUNNING
    p = p.at[1].set(jnp.full(6, 1 / 6))
    one = moving._replace(categorical=moving.categorical._replace(probability=p))
    assert int(strategy.stop(one)) == StopReason.RUNNING


def test_a_run_whose_floats_have_converged_ends():
    loss = lambda h: worth(h | {"a": 0})  # noqa: E731 - a choice of no effect never settles
    stop = mh.stopping.when(evaluations=10**6)
    result = searched(strategies.cma_es(MIXED, 12), MIXED, loss, 3000, runs=6, stop=stop)
    assert (result.rounds < 3000).all()
    assert result.best_loss.max() < 0.01


@pytest.mark.parametrize("make", [strategies.ipop_cma_es, strategies.bipop_cma_es])
def test_a_restart_begins_with_all_values_equally_probable(make):
    strategy = make(ALONE, 6, doublings=2)

    def step(state, key):
        ask_key, tell_key = jax.random.split(key)
        proposal, state = strategy.ask(ask_key, state)
        losses = jax.vmap(lambda u: mismatches(mh.space.decode(ALONE, u)))(proposal.unit)
        losses = jnp.where(proposal.budget > 0, losses, jnp.inf)
        state = strategy.tell(tell_key, state, proposal, mh.Evaluation(losses, None, ()))
        return state, (state.run.schedule.restarts, state.run.categorical.probability)

    keys = jax.random.split(jax.random.key(1), 300)
    _, (restarts, p) = jax.jit(lambda s: jax.lax.scan(step, s, keys))(
        strategy.init(jax.random.key(0))
    )
    begun = np.flatnonzero(np.diff(restarts)) + 1
    assert len(begun) >= 2
    uniform = categories.start(categories.choices(ALONE), jnp.float32).probability
    for at in begun:
        np.testing.assert_array_equal(p[at], uniform)
        assert not np.allclose(p[at - 1], uniform, atol=0.1)


@pytest.mark.parametrize(
    ("make", "space"), [(strategies.cma_es, MIXED), (strategies.bipop_cma_es, ALONE)]
)
def test_a_search_that_is_saved_goes_on_as_if_nothing_had_happened(make, space, tmp_path):
    strategy = make(space, 8, **({} if make is strategies.cma_es else {"doublings": 1}))
    loss = worth if space is MIXED else mismatches
    problem = mh.problems.function(loss)

    @functools.partial(jax.jit, static_argnums=0)
    def run(rounds, state=None):
        key = jax.random.key(3)
        return mh.search(key, problem, space, strategy, rounds=rounds, steps=1, state=state)

    whole, half = run(16), run(8)
    mh.report.save_npz(tmp_path / "state.npz", half.state)
    rest = run(8, mh.report.load_npz(tmp_path / "state.npz", like=half.state))
    jax.tree.map(np.testing.assert_array_equal, rest, run(8, half.state))
    # Programs of other lengths may round otherwise.
    np.testing.assert_allclose(rest.history.unit, whole.history.unit[8:], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("space", [MIXED, ALONE], ids=["mixed", "alone"])
@pytest.mark.parametrize("make", [strategies.cma_es, strategies.bipop_cma_es])
def test_strategies_with_choices_pass_the_checks_of_all(make, space):
    mh.testing.check_strategy(make, space=space, beats_random=space is MIXED)
