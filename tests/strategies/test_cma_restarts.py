"""Restarts: the published schedules, idle slots, and problems that one run does not solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from metahpo.base import FULL_BUDGET, StopReason
from metahpo.strategies import bipop_cma_es, ipop_cma_es
from metahpo.strategies.cma import schedule as schedules
from metahpo.strategies.cma.cma_es import cma_es

SIZE, POPULATION, SEEDS = 5, 8, 4
SPACE = {"x": mh.Float(-5.0, 5.0, shape=(SIZE,))}


def rastrigin(x, shift):
    z = x - shift
    return (z**2 + 10 - 10 * jnp.cos(2 * jnp.pi * z)).sum(-1)


@functools.cache
def searched(make, seeds=SEEDS, rounds=6000, **options):
    """What happened to ``seeds`` runs, and how often the program was traced."""
    traces = []

    def run(key, sigma):
        traces.append(make)
        shift_key, init_key, run_key = jax.random.split(key, 3)
        shift = jax.random.uniform(shift_key, (SIZE,), minval=-2.0, maxval=2.0)
        strategy = make(SPACE, POPULATION, sigma=sigma, **options)

        def step(carry, _):
            state, t = carry
            ask_key, tell_key = jax.random.split(jax.random.fold_in(run_key, t))
            before = getattr(state, "run", None)
            proposal, state = strategy.ask(ask_key, state)
            busy = proposal.budget > 0
            loss = jnp.where(busy, rastrigin(10 * proposal.unit - 5, shift), jnp.inf)
            state = strategy.tell(tell_key, state, proposal, mh.Evaluation(loss, None, ()))
            schedule = () if before is None else before.schedule
            return (state, t + 1), (loss.min(), proposal.budget, schedule)

        (state, _), record = jax.lax.scan(step, (strategy.init(init_key), 0), length=rounds)
        return state, record

    with jax.enable_x64(True):
        # Whether a run of luck ends well is decided by its last bits.
        run = jax.jit(jax.vmap(run, (0, None)), compiler_options=xla.FULL)
        keys = jax.random.split(jax.random.key(0), seeds)
        run(keys, 0.1)
        result = jax.device_get(run(keys, 0.2))
    return result, len(traces)


@pytest.mark.slow
def test_restarts_solve_what_one_run_does_not():
    (_, (plain, _, _)), _ = searched(cma_es, rounds=1000)
    (_, (restarted, _, _)), _ = searched(bipop_cma_es, doublings=6)
    (_, (doubled, _, _)), _ = searched(ipop_cma_es, doublings=6)
    assert (plain.min(axis=1) < 1e-8).sum() == 0
    assert (restarted.min(axis=1) < 1e-8).all()
    assert (doubled.min(axis=1) < 1e-8).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", [bipop_cma_es, ipop_cma_es])
def test_one_trace_serves_all_restarts_and_step_sizes(make):
    (state, _), traces = searched(make, doublings=6)
    assert traces == 1
    assert (state.run.schedule.restarts >= 3).all()
    assert np.isin(state.last_reason, [r for r in StopReason if r != StopReason.RUNNING]).all()


@pytest.mark.parametrize("make", [bipop_cma_es, ipop_cma_es])
def test_budgets_fill_generations_exactly_and_are_all_counted(make):
    (state, (_, budget, schedule)), _ = searched(make, doublings=6)
    # IPOP's populations are multiples of the first one, so its slots are never idle.
    assert set(np.unique(budget)) == ({0, FULL_BUDGET} if make is bipop_cma_es else {FULL_BUDGET})
    busy = (budget > 0).sum(axis=2)
    final = state.run.schedule
    np.testing.assert_array_equal(busy.sum(axis=1), final.spent.sum(axis=1) + final.used)
    for lane in range(len(busy)):
        for number in range(int(final.restarts[lane])):  # the finished runs
            rounds = schedule.restarts[lane] == number
            population = int(schedule.population[lane][rounds][0])
            per_generation = -(-population // POPULATION)
            assert rounds.sum() % per_generation == 0
            each = busy[lane][rounds].reshape(-1, per_generation).sum(axis=1)
            assert (each == population).all()


def test_ipop_doubles_up_to_its_largest_population():
    (_, (_, _, schedule)), _ = searched(ipop_cma_es, doublings=6)
    for lane in range(SEEDS):
        found = [
            int(schedule.population[lane][schedule.restarts[lane] == number][0])
            for number in range(int(schedule.restarts[lane, -1]) + 1)
        ]
        assert found == [POPULATION * 2 ** min(k, 6) for k in range(len(found))]


def test_bipop_follows_an_independent_simulation_of_its_regimes():
    (_, (_, budget, schedule)), _ = searched(bipop_cma_es, doublings=6)
    busy = (budget > 0).sum(axis=2)
    kinds = set()
    for lane in range(SEEDS):
        spent = {"small": 0, "large": 0}
        kind, doublings = "small", 0  # the first run
        for number in range(int(schedule.restarts[lane, -1]) + 1):
            rounds = schedule.restarts[lane] == number
            population = int(schedule.population[lane][rounds][0])
            sigma, allowed = schedule.sigma[lane][rounds][0], schedule.allowed[lane][rounds][0]
            longest = population * int(100 + 50 * (SIZE + 3) ** 2 / np.sqrt(population))
            if number:
                kind = "small" if spent["small"] < spent["large"] else "large"
            if kind == "large":
                doublings = min(doublings + 1, 6)
                assert population == POPULATION * 2**doublings
                assert (sigma, allowed) == (0.2, longest)
            elif number:
                assert POPULATION <= population <= POPULATION * 2 ** (doublings - 1)
                assert 0.002 <= sigma <= 0.2
                assert allowed == min(longest, spent["large"] // 2)
            spent[kind] += busy[lane][rounds].sum()
            kinds.add(kind)
    assert kinds == {"small", "large"}


def test_small_populations_and_step_sizes_have_the_published_distribution():
    with jax.enable_x64(True):
        sigma0 = jnp.asarray(0.2)
        schedule = schedules.first(8, SIZE, sigma0)._replace(
            doublings=jnp.int32(5), spent=jnp.array([10, 10_000], jnp.int32)
        )
        following = schedules.bipop(8, 9, SIZE)
        keys = jax.random.split(jax.random.key(0), 4000)
        drawn = jax.jit(jax.vmap(lambda key: following(key, schedule, sigma0)))(keys)
    assert drawn.small.all()
    assert (drawn.doublings == 5).all()
    # log(population / 8) / log(16) = u^2 up to the floor, log(0.2 / sigma) / log(100) = v.
    v = np.log(0.2 / np.asarray(drawn.sigma)) / np.log(100)
    grid = np.linspace(0.05, 0.95, 19)
    assert np.abs((v[:, None] < grid).mean(0) - grid).max() < 0.035  # 2.2 / sqrt(4000)
    for population in (9, 16, 32, 64, 128):
        share = np.sqrt(np.log(population / 8) / np.log(16))
        found = np.mean(np.asarray(drawn.population) < population)
        assert found == pytest.approx(share, abs=0.035)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="doublings must be a whole number of at least 0, got -1"):
        bipop_cma_es(SPACE, 8, doublings=-1)
    with pytest.raises(ValueError, match=r"starts must be a range within \[0, 1\], got"):
        ipop_cma_es(SPACE, 8, starts=(0.5, 1.5))
    with pytest.raises(ValueError, match="BIPOP-CMA-ES needs a population .* at least 2, got 1"):
        bipop_cma_es(SPACE, 1)
