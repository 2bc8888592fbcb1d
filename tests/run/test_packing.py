"""A run that knows the sizes of its rounds gives the same result, and trains nobody for nothing."""

import collections

import jax
import numpy as np
import pytest
from minibatch_sinusoid import FAMILY, PROBLEM
from test_population import KEY, SPACE, adding, run, scripted

import metahpo as mh
from metahpo.base import Needs, RoundSize
from metahpo.strategies import successive_halving

LR = {"lr": mh.Float(1e-3, 1e-1, log=True)}
SIZES = (RoundSize(2, 3), RoundSize(2, 2, scratch=True), RoundSize(1, 3, scratch=False))
PARENTS = [[-1] * 4, [-1, 1, 2, 3], [-1, -1, -1, -1], [0, 1, 0, 3], [0, 1, 2, 3], [3, 1, 2, 3]]
BUDGETS = [[3, 0, 2, 1], [0, 0, 3, 0], [0, 2, 0, 1], [1, 0, 0, 2], [0, 0, 0, 0], [1, 1, 2, 0]]


def script(sizes=SIZES):
    return scripted(PARENTS, BUDGETS)._replace(needs=Needs(sizes=sizes))


@pytest.mark.parametrize("options", [{}, {"chunk": 3}, {"chunk": 1}])
def test_sizes_change_nothing(options):
    options = {"rounds": 6, "steps": 3, **options}
    options["metrics"] = lambda key, h, task, state: {"double": 2 * state}
    plain, packed = run(script(()), **options), run(script(), **options)
    jax.tree.map(np.testing.assert_array_equal, packed, plain)


def test_members_of_a_round_are_trained_and_no_others():
    seen = collections.Counter()
    run(script(), adding(seen), rounds=6, steps=3)
    jax.effects_barrier()
    begun = {n: count for (what, n), count in seen.items() if what == "init"}
    # Three rounds have three members and no size (in one of them a member becomes a copy), so all
    # four begin; of the others one has two members from scratch, one a member that goes on.
    assert begun == {1: 3, 2: 3 + 1, 3: 3, 4: 3 + 1}
    made = {n: count for (what, n), count in seen.items() if what == "step"}
    assert made == {1: 3 + 2 + 2, 2: 3 + 2 + 2 + 2, 3: 3 + 3 + 2 + 2, 4: 3 + 2 + 2 + 2}


def test_lanes_take_a_size_that_holds_all_of_them():
    def one(key, which):
        budgets = np.array([[[2, 1, 0, 0]], [[0, 0, 0, 2]]])
        strategy = scripted([[-1] * 4], [[0] * 4])
        ask = strategy.ask

        def asked(key, state):
            proposal, state = ask(key, state)
            return proposal._replace(budget=jax.numpy.asarray(budgets)[which, 0]), state

        strategy = strategy._replace(ask=asked, needs=Needs(sizes=SIZES))
        return mh.search(key, adding(), SPACE, strategy, rounds=1, steps=3).history.loss[0]

    losses = jax.jit(jax.vmap(one, (None, 0)))(KEY, np.arange(2))
    inf = np.inf
    np.testing.assert_allclose(16 * losses, [[2, 2, inf, inf], [inf, inf, inf, 8]])


def trained(strategy, rounds, sizes):
    if not sizes:
        strategy = strategy._replace(needs=strategy.needs._replace(sizes=()))
    task = FAMILY.sample(jax.random.key(1))
    return jax.jit(
        lambda key: mh.search(key, PROBLEM, LR, strategy, rounds=rounds, steps=27, task=task)
    )(KEY)


@pytest.mark.slow
@pytest.mark.optimised
def test_promoted_members_are_uninterrupted_trainings_to_the_bit():
    rungs = trained(successive_halving(LR, 9, 27, min_steps=3), 3, True)
    whole = trained(successive_halving(LR, 9, 27, min_steps=27), 1, False)
    np.testing.assert_array_equal(rungs.history.unit[0], whole.history.unit[0])
    (winner,) = np.flatnonzero(rungs.history.budget[2])
    assert rungs.state.trainings.steps[winner] == whole.state.trainings.steps[winner] == 27
    pick = lambda tree: jax.tree.map(lambda x: x[winner], tree)  # noqa: E731
    jax.tree.map(
        np.testing.assert_array_equal, pick(rungs.state.trainings), pick(whole.state.trainings)
    )
    assert rungs.history.loss[2, winner] == whole.history.loss[0, winner]
