"""What every strategy must be able to do where dimensions exist only in branches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import NAMES, TABLE, searched

import metahpo as mh
from metahpo import strategies

SPACE = {
    "rate": mh.Float(0.0, 1.0),
    "model": mh.OneOf(
        svm={"C": mh.Float(0.0, 1.0), "kernel": mh.OneOf(rbf={"gamma": mh.Float(0.0, 1.0)}, no={})},
        forest={
            "depth": mh.Int(1, 9),
            "leaves": mh.Float(0.0, 1.0),
            "rule": mh.Choice(("a", "b", "c")),
            "size": mh.Choice((16, 32, 64, 128), ordered=True),
        },
        naive={"bias": mh.Constant(0.8)},
    ),
}


def loss(h):
    """Lowest, 0.0, in a corner of one branch; decoded or read, as it takes either."""
    return (h["rate"] - 0.3) ** 2 + h["model"].switch(
        svm=lambda h: (
            0.3
            + (h["C"] - 0.8) ** 2
            + h["kernel"].switch(rbf=lambda h: (h["gamma"] - 0.2) ** 2, no=lambda h: 0.1)
        ),
        forest=lambda h: 0.03 * abs(h["depth"] - 7) + (h["leaves"] - 0.6) ** 2 + 0.1 * rest(h),
        naive=lambda h: h["bias"],
    )


def rest(h):
    """How many of the choices of a forest are wrong, in a program or on the host."""
    rule = "abc".index(h["rule"]) if isinstance(h["rule"], str) else h["rule"]
    size = {16: 0, 32: 1, 64: 2, 128: 3}[h["size"]] if isinstance(h["size"], int) else h["size"]
    return (rule != 1) + abs(size - 2.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_sees_and_shows_what_is_active_and_nothing_else(name):
    run = jax.jit(searched(name, SPACE, loss, population=8, rounds=3))
    result = jax.device_get(run(jax.random.key(0)))
    rows = mh.report.candidates(SPACE, result)
    assert name == "grid" or len({row["model"] for row in rows}) > 1  # most of a grid is a forest
    active = np.asarray(mh.space.active(SPACE, result.history.unit))
    active = active[result.history.budget > 0]
    names = list(mh.space.dimensions(SPACE))
    for row, own in zip(rows, active, strict=True):
        assert [row[name] is not None for name in names] == own.tolist()
    # The traced loss is that of the active values alone.
    units = result.history.unit[result.history.budget > 0]
    told = result.history.loss[result.history.budget > 0]
    read = [loss(h) for h in mh.space.decoder(SPACE)(units)]
    np.testing.assert_allclose(told, read, rtol=1e-4, atol=1e-6)
    assert isinstance(mh.space.readable(SPACE, result.best_hparams)["model"], mh.space.Branch)


@pytest.mark.parametrize(
    "name", ["differential_evolution", "jade", "shade", "l_shade", "pbt", "pb2"]
)
def test_children_have_their_parents_coordinates_where_they_are_not_active(name):
    strategy = TABLE[name].make(SPACE, 12)
    state = strategy.init(jax.random.key(0))
    pool, count = None, 0
    for t in range(3):
        ask_key, tell_key = jax.random.split(jax.random.key(t))
        proposal, state = strategy.ask(ask_key, state)
        unit = np.asarray(proposal.unit)
        if pool is not None:
            off = ~np.asarray(mh.space.active(SPACE, unit))
            known = np.array([np.isin(unit[:, d], pool[:, d]) for d in range(unit.shape[1])]).T
            assert known[off].all()
            count += off.sum()
        pool = unit if pool is None else np.concatenate([pool, unit])
        losses = jax.vmap(lambda u: loss(mh.space.decode(SPACE, u)))(proposal.unit)
        evaluation = mh.Evaluation(losses, None, jnp.full(12, 3))
        state = strategy.tell(tell_key, state, proposal, evaluation)
    assert count > 20


def test_mutation_moves_one_active_coordinate_in_the_mean_and_no_other():
    unit = jax.random.uniform(jax.random.key(0), (20_000, mh.space.size(SPACE)))
    for mutation in (strategies.mutation.polynomial, strategies.mutation.breeder):
        moved = mutation(SPACE)(jax.random.key(1), unit) != unit
        active = mh.space.active(SPACE, unit)
        assert not bool((moved & ~active).any())
        assert float(moved.sum(1).mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_a_gaussian_process_does_not_try_again_what_differs_only_where_it_is_not_active():
    space = mh.OneOf(a={"n": mh.Int(0, 2)}, b={"m": mh.Int(0, 2)}, c={})  # 7 different points
    strategy = strategies.gaussian_process(space, capacity=64)
    values = mh.OneOf(a=lambda h: h["n"], b=lambda h: h["m"], c=lambda h: 0.5)
    fn = mh.problems.function(lambda h: h.switch({n: values[n] for n in values.names}))
    run = jax.jit(lambda key: mh.search(key, fn, space, strategy, rounds=11, steps=1))
    for seed in range(3):
        rows = mh.report.candidates(space, run(jax.random.key(seed)))
        seen = [tuple(row.values())[5:] for row in rows]
        first = len(set(seen[:4]))
        assert len(set(seen[: 4 + 7 - first])) == 7
