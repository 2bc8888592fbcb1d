"""The genetic algorithm's defaults: precise, global, on bounds, and alive on mixed spaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.strategies import generational, genetic
from metahpo.strategies.genetic_algorithms import crossover, mutation, replacement, selection

KEY = jax.random.key(0)


def searched(strategy, space, fn, rounds, seeds):
    problem = mh.problems.function(fn)
    run = jax.jit(
        jax.vmap(lambda k: mh.search(k, problem, space, strategy, rounds=rounds, steps=1)),
    )
    return run(jax.random.split(KEY, seeds))


def test_defaults_are_the_named_operators():
    space = {"x": mh.Float(-1.0, 1.0, shape=(3,))}
    named = generational(
        space,
        10,
        select=selection.tournament(2),
        cross=crossover.sbx(space, 5),
        mutate=mutation.breeder(space),
        replace=replacement.plus(),
    )
    runs = [
        searched(strategy, space, lambda h: (h["x"] ** 2).sum(), 5, 1).history.unit
        for strategy in (genetic(space, 10), named)
    ]
    np.testing.assert_array_equal(*runs)


def test_most_runs_find_the_global_optimum_of_rastrigin_among_10_to_the_10_local_ones():
    space = {"x": mh.Float(-5.0, 5.0, shape=(10,))}

    def rastrigin(h):
        z = h["x"] - 0.7
        return (z**2 + 10 - 10 * jnp.cos(2 * jnp.pi * z)).sum()

    best = searched(genetic(space, 40), space, rastrigin, 500, 8).best_loss
    assert (np.asarray(best) < 1e-3).sum() >= 7  # the next best local optimum is at 0.99


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_optimum_in_a_corner_is_reached_exactly(corner):
    space = {"x": mh.Float(0.0, 1.0, shape=(5,))}
    result = searched(genetic(space, 20), space, lambda h: abs(h["x"] - corner).sum(), 100, 4)
    assert float(result.best_loss.max()) == 0.0


def test_integers_and_choices_are_found_from_a_population_that_has_collapsed():
    space = {"c": mh.Choice(tuple("abcd")), "n": mh.Int(0, 20), "x": mh.Float(0.0, 1.0, shape=(3,))}
    start = mh.space.encode(space, {"c": 0, "n": 2, "x": jnp.full(3, 0.2)})
    strategy = genetic(space, 10, jnp.tile(start, (10, 1)))

    def fn(h):
        return (h["c"] != 3) + 0.1 * jnp.abs(h["n"] - 17) + ((h["x"] - 0.8) ** 2).sum()

    result = searched(strategy, space, fn, 200, 8)
    assert (result.best_hparams["c"] == 3).all() and (result.best_hparams["n"] == 17).all()
    assert float(result.best_loss.max()) < 1e-3
