"""L-SHADE: its schedule against the formula, its memory, its run lengths against minionpy's."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minionpy_oracle import SPACE, medians, oracle

import metahpo as mh
from metahpo.strategies import l_shade
from metahpo.strategies.de.l_shade import reductions

KEY = jax.random.key(0)
PLANE = {"x": mh.Float(0.0, 1.0, shape=(2,))}


def formula(population, budget, spent):
    """Equation 10 of Tanabe & Fukunaga 2014, in fractions."""
    exact = Fraction(4 - population, budget) * spent + population
    return int(exact + Fraction(1, 2))  # rounded half up, as C does


@pytest.mark.parametrize(
    ("population", "budget"), [(180, 100_000), (18, 97), (5, 5), (7, 1000), (50, 50)]
)
def test_reductions_are_the_papers_formula_after_every_evaluation(population, budget):
    limits = reductions(population, budget)
    for spent in range(0, budget + 1, max(1, budget // 5000)):
        assert population - (spent >= limits).sum() == formula(population, budget, spent)


def generations(population, budget):
    """The numbers of trials that the source would make, the last cut off at the budget."""
    spent, sizes = 0, []
    while spent < budget:
        sizes.append(
            min(formula(population, budget, spent) if spent else population, budget - spent)
        )
        spent += sizes[-1]
    return sizes


def test_slots_fall_idle_as_the_schedule_says_and_the_run_stops_at_the_budget():
    strategy, rounds = l_shade(PLANE, 30, evaluations=500), 60

    @jax.jit
    @jax.vmap
    def run(key):
        def step(state, key):
            proposal, asked = strategy.ask(key, state)
            loss = jnp.sum((proposal.unit - 0.7) ** 2, axis=1)  # also for the idle: never used
            new = strategy.tell(key, asked, proposal, mh.Evaluation(loss, None, ()))
            kept = (
                jnp.sort(new.loss)[:4],
                new.loss.min()
                == jnp.minimum(
                    state.loss.min(), jnp.where(proposal.budget > 0, loss, jnp.inf).min()
                ),
            )
            return new, (proposal.budget > 0, strategy.stop(state), kept, new.archive.size)

        return jax.lax.scan(step, strategy.init(key), jax.random.split(key, rounds))

    state, (busy, reason, (best, elitist), archived) = run(jax.random.split(KEY, 3))
    sizes = generations(30, 500)
    expected = np.zeros(rounds, int)
    expected[: len(sizes)] = sizes
    assert len(sizes) < rounds
    np.testing.assert_array_equal(busy.sum(axis=2), np.broadcast_to(expected, (3, rounds)))
    np.testing.assert_array_equal(busy, np.arange(30) < expected[:, None] + 0 * busy.astype(int))
    np.testing.assert_array_equal(
        reason, np.where(np.arange(rounds) < len(sizes), 0, mh.StopReason.BUDGET) + 0 * reason
    )
    assert elitist.all() and (state.spent == 500).all()
    left = np.array([formula(30, 500, min(500, s)) for s in np.cumsum(expected)])
    assert (archived <= np.round(2.6 * left)).all() and (archived[:, 8] > 0).all()
    assert jnp.isfinite(best[:, -1]).all() and jnp.isinf(state.loss[:, 4:]).all()
    after = best[:, len(sizes) :]  # nothing happens any more
    np.testing.assert_array_equal(after, np.broadcast_to(after[:, :1], after.shape))


def told(strategy, state, key, loss):
    @jax.jit
    def run(key, state, loss):
        proposal, asked = strategy.ask(key, state)
        return proposal.note, strategy.tell(key, asked, proposal, mh.Evaluation(loss, None, ()))

    return run(key, state, loss)


def test_memory_takes_weighted_lehmer_means_and_the_terminal_value_stays():
    strategy = l_shade(PLANE, 6, evaluations=10_000, memory_size=2)
    _, state = told(strategy, strategy.init(KEY), KEY, jnp.arange(1.0, 7.0))
    losses = jnp.array([0.5, 9.0, 1.0, 9.0, 9.0, 5.0])
    used, new = told(strategy, state, jax.random.key(1), losses)
    won, gain = np.array([0, 2, 5]), np.array([0.5, 2.0, 1.0])
    for values, learned in [(used.weight, new.memory.weight), (used.rate, new.memory.rate)]:
        v = np.asarray(values)[won]
        expected = (gain * v**2).sum() / (gain * v).sum()
        np.testing.assert_allclose(learned, [expected, 0.5], rtol=1e-6)
    assert new.memory.next == 1

    ended = new._replace(memory=new.memory._replace(rate=jnp.full(2, -1.0)))
    used, after = told(strategy, ended, jax.random.key(2), jnp.full(6, 0.1))
    np.testing.assert_array_equal(used.rate, 0.0)
    np.testing.assert_array_equal(after.memory.rate, -1.0)
    assert after.memory.weight[1] != 0.5
    one_left = new._replace(memory=new.memory._replace(rate=jnp.array([0.5, -1.0])))
    _, after = told(strategy, one_left, jax.random.key(2), jnp.full(6, 0.1))
    np.testing.assert_array_equal(after.memory.rate, [0.5, -1.0])  # terminal for good


def test_infinite_losses_do_no_harm():
    strategy = l_shade(PLANE, 12, evaluations=200)
    problem = mh.problems.function(lambda h: jnp.inf + h["x"].sum())
    history = jax.jit(lambda key: mh.search(key, problem, PLANE, strategy, rounds=40, steps=1))(
        KEY
    ).history
    assert jnp.isfinite(history.unit).all() and (history.budget > 0).sum() == 200


def test_default_population_is_eighteen_times_the_dimension():
    strategy = l_shade(SPACE, evaluations=1000)
    assert jax.eval_shape(strategy.init, KEY).unit.shape == (180, 10)


@pytest.mark.optimised
@pytest.mark.slow
def test_evaluations_to_the_target_are_minionpys():
    with jax.enable_x64(True):
        strategy = l_shade(SPACE, 60, evaluations=20_000)
        ratio = medians(strategy, rounds=540, runs=31) / oracle("LSHADE, small")
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)


@pytest.mark.slow
@pytest.mark.optimised
def test_evaluations_to_the_target_are_minionpys_with_its_default_population():
    with jax.enable_x64(True):
        strategy = l_shade(SPACE, evaluations=100_000)
        ratio = medians(strategy, rounds=610, runs=31) / oracle("LSHADE")
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 7}, "at least the population 8, got 7"),
        ({"evaluations": 99.5}, "evaluations must be a whole number .*, got 99.5"),
        ({"evaluations": 99, "best_share": 0.0}, r"best_share must be in \(0, 1\], got 0.0"),
        ({"evaluations": 99, "memory_size": 0.5}, "memory_size must be a whole number .*got 0.5"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        l_shade(PLANE, 8, **options)
