"""Recommenders against loops in NumPy, on tasks whose descriptors say all, and nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import transfer
from metahpo.transfer import forest
from metahpo.transfer.conditioned import _signed_rank
from metahpo.transfer.past import past_of, scale_of, scaled, without

TASKS, CHOICES, MOST = 24, 9, 5
SPACE = {"x": mh.Int(0, CHOICES - 1)}
ROWS = [{"x": i} for i in range(CHOICES)]
NAMES = (
    "best_on_average",
    "greedy_portfolio",
    "nearest_tasks",
    "conditioned_portfolio",
    "performance_network",
)


def make(seed=0, informative=True, tasks=TASKS):
    """Tasks that lie on a line, as the configurations do; or regrets that know nothing of it."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(size=tasks)
    seen = np.stack([at, rng.uniform(size=tasks), np.exp(5 * at)], axis=1)
    if not informative:
        at = rng.uniform(size=tasks)
    losses = np.abs(at[:, None] - np.linspace(0, 1, CHOICES)) + 0.05 * rng.uniform(
        size=(tasks, CHOICES)
    )
    return transfer.experience(SPACE, seen, ROWS, losses, names=["at", "noise", "exp"])


def recommender(name):
    given = {"steps": 30} if name == "performance_network" else {}
    return getattr(transfer, name)(**given)


PAST = make()
REGRET = np.asarray(past_of(PAST).regret, float)


def oracle(name, i, k):
    """What is suggested for task ``i`` by the others, in plain loops."""
    rest = [j for j in range(TASKS) if j != i]
    others = REGRET[rest]
    if name == "best_on_average":
        return list(np.argsort(others.mean(0), kind="stable")[:k])
    if name == "greedy_portfolio":
        chosen = []
        for _ in range(k):
            free = [c for c in range(CHOICES) if c not in chosen]
            means = [others[:, [*chosen, c]].min(1).mean() for c in free]
            chosen.append(free[int(np.argmin(means))])
        return chosen
    table = PAST.descriptors[rest]
    places = [
        np.array([(c < v).mean() - (c > v).mean() for c, v in zip(table.T, row, strict=True)])
        for row in [*table, PAST.descriptors[i]]
    ]
    apart = [((place - places[-1]) ** 2).sum() for place in places[:-1]]
    chosen = []
    for j in np.argsort(apart, kind="stable")[:k]:
        row = others[j].copy()
        row[chosen] = np.inf
        chosen.append(int(row.argmin()))
    return chosen


@pytest.mark.parametrize("name", NAMES[:3])
def test_what_is_left_out_is_suggested_for_as_loops_over_the_others_say(name):
    found = transfer.evaluate(recommender(name), PAST, k=(1, 2, MOST), controls=0)
    chosen = np.array([oracle(name, i, MOST) for i in range(TASKS)])
    np.testing.assert_array_equal(found.left_out.chosen, chosen)
    wanted = [[REGRET[i, chosen[i][:k]].min() for i in range(TASKS)] for k in (1, 2, MOST)]
    np.testing.assert_allclose(found.regret, wanted, rtol=1e-6)


@pytest.fixture(scope="module")
def programs():
    """What every recommender learns of a past, chooses and expects, as one program each."""

    def program(name):
        one = recommender(name)

        @jax.jit
        def run(past, out, descriptor):
            memory = one.learn(jax.random.key(0), without(past, out))
            found = one.outcomes(memory, descriptor)
            return one.choose(memory, descriptor, MOST), found.values, found.there

        return run

    return {name: program(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_poisoned_task_that_is_left_out_changes_nothing(name, programs):
    past, out = past_of(PAST), jnp.arange(TASKS) == 3
    descriptor = past.descriptors[3]
    clean = programs[name](past, out, descriptor)
    for value in (jnp.nan, jnp.inf, -1e30):
        poisoned = past._replace(
            descriptors=past.descriptors.at[3].set(value), regret=past.regret.at[3].set(value)
        )
        for a, b in zip(clean, programs[name](poisoned, out, descriptor), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_of_more_suggestions_are_those_of_fewer_and_none_stands_twice(name, programs):
    past = past_of(PAST)
    fitted = recommender(name).fit(PAST)
    all_of_them = fitted.numbers(PAST.descriptors[0], CHOICES)
    assert sorted(all_of_them) == list(range(CHOICES))
    np.testing.assert_array_equal(fitted.numbers(PAST.descriptors[0], 2), all_of_them[:2])
    nobody = jnp.zeros(TASKS, bool)
    chosen, values, there = programs[name](past, nobody, past.descriptors[0])
    np.testing.assert_array_equal(chosen, all_of_them[:MOST])
    assert values.shape == (CHOICES, TASKS) and there.all()
    assert (values >= 0).all() and (values <= 1).all()


def test_the_conditioned_portfolio_beats_the_greedy_one_where_descriptors_say_all():
    found = transfer.evaluate(transfer.conditioned_portfolio(), make(tasks=40), k=(1, 4))
    assert found.regret[0].mean() < 0.4 * found.portfolio[0].mean()
    assert found.p_value[0] < 1e-3
    assert found.worth[0] > 4
    # Without what descriptors say there is nothing but the portfolio.
    assert (found.constant == found.portfolio).mean() > 0.9
    closed = (found.permuted[:, 0] == found.portfolio[0]).mean()
    assert closed > 0.8
    assert 0.8 <= found.coverage <= 1.0


@pytest.mark.parametrize("loss", ["regression", "ranking"])
def test_networks_learn_what_descriptors_say_of_new_tasks(loss):
    past = make(seed=1, tasks=60)
    regret = np.asarray(past_of(past).regret)
    fitted = transfer.performance_network(loss).fit(past.take(np.arange(40)))
    first = [regret[i, fitted.numbers(past.descriptors[i], 1)[0]] for i in range(40, 60)]
    assert np.mean(first) < 0.5 * regret[40:, regret[:40].mean(0).argmin()].mean()
    ends = [fitted.distribution(past.descriptors[i]).interval() for i in range(40, 60)]
    inside = [(a <= regret[40 + i]) & (regret[40 + i] <= b) for i, (a, b) in enumerate(ends)]
    # Cautious: past tasks were judged by a third of the members, new ones are by all.
    assert np.mean(inside) > 0.85
    assert np.mean([high - low for low, high in ends]) < 0.6


def test_the_gate_is_open_where_descriptors_say_something_and_closed_where_not():
    fit = transfer.conditioned_portfolio().fit
    assert fit(make(tasks=40)).memory.state.is_open
    states = [fit(make(seed, informative=False, tasks=40)).memory.state for seed in range(8)]
    assert sum(bool(state.is_open) for state in states) <= 2
    closed = next(s for s in range(8) if not states[s].is_open)
    nothing = make(closed, informative=False, tasks=40)
    a, b = (r.fit(nothing) for r in (transfer.conditioned_portfolio(), transfer.greedy_portfolio()))
    np.testing.assert_array_equal(a.numbers([0.5, 0.5, 5.0], 4), b.numbers([0.5, 0.5, 5.0], 4))


def test_the_gate_judges_by_the_signed_ranks_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    saved = np.random.default_rng(0).normal(0.3, 1.0, size=40)
    saved[:3] = 0.0
    there = np.arange(40) < 36
    found = _signed_rank(jnp.asarray(saved), jnp.asarray(there))
    wanted = stats.wilcoxon(
        saved[there], zero_method="wilcox", method="asymptotic", alternative="greater"
    )
    assert float(found) == pytest.approx(stats.norm.isf(wanted.pvalue), rel=1e-5)
    assert float(_signed_rank(jnp.zeros(5), jnp.ones(5, bool))) == 0.0


def test_intervals_cover_what_they_say_on_tasks_of_the_same_kind():
    past = make(seed=5, tasks=60)
    for name in ("greedy_portfolio", "conditioned_portfolio"):
        found = transfer.evaluate(recommender(name), past, k=(1,), controls=0)
        assert 0.8 <= found.coverage <= 0.98, name


def test_trees_split_by_what_tells_outputs_apart_and_send_equals_to_one_leaf():
    rng = np.random.default_rng(0)
    x = np.round(rng.uniform(size=(40, 6)), 2)
    side = x[:, 2] > 0.5
    alike = np.where(side[:, None] == side, 1.0, -1.0)
    bag = jnp.arange(30, dtype=jnp.int32)

    @jax.jit
    def run(key):
        tree = forest.grow(key, jnp.asarray(x), jnp.asarray(alike), bag, jnp.ones(30, bool), 8, 6)
        return tree, jax.vmap(lambda row: forest.leaf_of(tree, row))(jnp.asarray(x))

    hits = []
    for seed in range(20):
        tree, leaf = run(jax.random.key(seed))
        np.testing.assert_array_equal(leaf[:30], tree.leaf)  # whoever was seen comes back
        assert set(leaf.tolist()) <= set(tree.leaf.tolist())
        assert len(set(tree.leaf.tolist())) >= 20
        hits.append((side[np.asarray(tree.leaf)[leaf[30:]]] == side[30:]).mean())
    assert np.mean(hits) > 0.9


def test_descriptors_count_by_their_order_and_gaps_are_in_the_middle():
    past = past_of(PAST)
    moved = past._replace(descriptors=jnp.exp(3 * past.descriptors))
    for row in past.descriptors[:3]:
        np.testing.assert_allclose(
            scaled(scale_of(past), row), scaled(scale_of(moved), jnp.exp(3 * row)), atol=1e-6
        )
    gaps = past._replace(descriptors=past.descriptors.at[:20, 1].set(jnp.nan))
    place = scaled(scale_of(gaps), jnp.array([jnp.nan, 2.0, 0.0]))
    np.testing.assert_allclose(place, [0.0, 1.0, -1.0])


def test_a_task_unlike_all_others_is_far():
    fitted = transfer.greedy_portfolio().fit(PAST)
    near = [fitted.distance(row) for row in PAST.descriptors]
    assert max(near) < 1e-5
    assert fitted.distance([0.5, 0.5, np.exp(2.5)]) < 3 < fitted.distance([60.0, 0.5, np.nan])


def test_a_fitted_recommender_speaks_of_hyperparameters():
    fitted = transfer.conditioned_portfolio().fit(PAST)
    task = dict(zip(PAST.names, PAST.descriptors[4], strict=True))
    hparams = fitted.suggest(task, k=3)
    assert hparams == [ROWS[i] for i in fitted.numbers(task, 3)]
    found = fitted.distribution(task, hparams)
    everything = fitted.distribution(task)
    np.testing.assert_array_equal(found.values, everything.values[fitted.numbers(task, 3)])
    low, high = found.interval(0.9)
    assert (low <= found.mean).all() and (found.mean <= high).all()
    np.testing.assert_array_equal(
        fitted.distribution(task, fitted.points(task, 3)).values, found.values
    )


def test_missing_scores_are_what_a_process_of_the_task_itself_says():
    space = {"x": mh.Float(0.0, 1.0)}
    unit = np.linspace(0, 1, 21)[:, None]
    losses = np.stack([(unit[:, 0] - 0.3) ** 2, (unit[:, 0] - 0.7) ** 2])
    gaps = losses.copy()
    gaps[0, 1::2] = np.nan
    past = transfer.experience(space, [[0.0], [1.0]], unit, gaps)
    whole = past_of(transfer.experience(space, [[0.0], [1.0]], unit, losses))
    np.testing.assert_allclose(past_of(past).regret[0], whole.regret[0], atol=0.05)
    np.testing.assert_array_equal(past_of(past).regret[1], whole.regret[1])


def test_failures_are_as_bad_as_the_worst():
    past = transfer.experience(SPACE, [[0.0]] * 2, ROWS[:3], [[1.0, np.inf, 3.0], [0.0, 1.0, 2.0]])
    np.testing.assert_allclose(past_of(past).regret, [[0.0, 1.0, 1.0], [0.0, 0.5, 1.0]])


def test_random_search_and_its_worth_are_those_of_all_orders():
    from itertools import permutations

    from metahpo.transfer.evaluate import of_random_search, wilcoxon, worth

    regret = np.random.default_rng(0).uniform(size=(2, 5))
    orders = np.array(list(permutations(range(5))))
    wanted = np.minimum.accumulate(regret[:, orders], axis=-1).mean(1).T
    np.testing.assert_allclose(of_random_search(regret, 5), wanted, rtol=1e-12)
    means = wanted.mean(1)
    assert worth(regret, (means[1] + means[2]) / 2) == pytest.approx(2.5)
    assert worth(regret, 2.0) == 1.0 and worth(regret, -0.1) == np.inf
    stats = pytest.importorskip("scipy.stats")
    a, b = np.round(np.random.default_rng(1).normal(size=(2, 40)), 1)
    wanted = stats.wilcoxon(a, b, method="asymptotic", zero_method="wilcox", correction=False)
    assert wilcoxon(a, b) == pytest.approx(wanted.pvalue, rel=1e-10)
    assert wilcoxon(a, a) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.suggest([1.0], 1), "must have 3 numbers"),
        (lambda f: f.suggest({"at": 1.0, "other": 2.0}), "not in both: .*exp"),
        (lambda f: f.suggest([1.0, np.inf, 0.0]), "finite or NaN"),
        (lambda f: f.suggest([1.0, 0.0, 0.0], 0), "k must be"),
        (lambda f: f.suggest([1.0, 0.0, 0.0], CHOICES + 1), "at most the 9 configurations"),
        (lambda f: f.distribution([1.0, 0.0, 0.0], [{"y": 1}]), "points|shape|float"),
    ],
)
def test_what_does_not_fit_the_experience_is_refused(call, message):
    fitted = transfer.greedy_portfolio().fit(PAST)
    with pytest.raises((ValueError, TypeError), match=message):
        call(fitted)


def test_too_little_experience_is_refused():
    with pytest.raises(ValueError, match="at least two tasks"):
        transfer.greedy_portfolio().fit(PAST.take([0]))
    twins = PAST.take([0, 1])._replace(groups=np.zeros(2, int))
    with pytest.raises(ValueError, match="no near-duplicates"):
        transfer.greedy_portfolio().fit(twins)
    flat = transfer.experience(SPACE, [[0.0], [1.0]], ROWS, np.ones((2, CHOICES)))
    with pytest.raises(ValueError, match="scores that differ"):
        transfer.greedy_portfolio().fit(flat)
    with pytest.raises(ValueError, match="at least three tasks"):
        transfer.evaluate(transfer.greedy_portfolio(), PAST.take([0, 1]))
    with pytest.raises(ValueError, match="at most 9 configurations"):
        transfer.evaluate(transfer.greedy_portfolio(), PAST, k=(1, 10))


def test_an_interval_spends_nothing_on_what_no_regret_can_be():
    count = jnp.ones(99, bool)
    inside = jnp.linspace(0.01, 0.99, 99)
    values = jnp.stack([inside, jnp.clip(inside - 0.2, 0.0, 1.0), jnp.clip(inside + 0.2, 0.0, 1.0)])
    low, high = transfer.Distribution(values, count).interval(0.9)
    # Of 99 values in order, level p is at place 100 p, which is the value p.
    np.testing.assert_allclose(low, [0.05, 0.0, 0.1 + 0.2], atol=1e-6)
    np.testing.assert_allclose(high, [0.95, 0.9 - 0.2, 1.0], atol=1e-6)


def test_intervals_cover_tasks_like_those_before_whatever_is_cut_off():
    rng = np.random.default_rng(0)
    for shift in (-0.3, 0.0, 0.3):
        drawn = jnp.asarray(np.clip(rng.normal(0.5 + shift, 0.2, (4000, 60)), 0.0, 1.0))
        low, high = transfer.Distribution(drawn[:, 1:], jnp.ones(59, bool)).interval(0.9)
        inside = (drawn[:, 0] >= low) & (drawn[:, 0] <= high)
        assert abs(float(inside.mean()) - 0.9) < 0.02
