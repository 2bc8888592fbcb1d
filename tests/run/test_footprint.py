"""The memory of a population, predicted from two small ones, against what the compiler says."""

import jax
import jax.numpy as jnp
import pytest
from copying_strategy import copying

import metahpo as mh
from metahpo.run import footprint, scan, search_loop
from metahpo.run.footprint import Footprint

pytestmark = pytest.mark.versions

SPACE = {"lr": mh.Float(1e-3, 1.0, log=True)}
WIDTH, EXAMPLES = 32, 64
PARAMETERS = WIDTH * WIDTH + WIDTH


def training():
    """A network of one hidden layer on a task of ``EXAMPLES`` rows."""

    def loss(params, task):
        return jnp.mean((jnp.tanh(task @ params[0]) @ params[1] - 1.0) ** 2)

    return mh.Problem(
        sample=lambda key: jax.random.normal(key, (EXAMPLES, WIDTH)),
        init=lambda key, h, task: (0.1 * jax.random.normal(key, (WIDTH, WIDTH)), jnp.ones(WIDTH)),
        step=lambda key, h, task, s: jax.tree.map(
            lambda p, g: p - h["lr"] * g, s, jax.grad(loss)(s, task)
        ),
        loss=lambda key, h, task, s: loss(s, task),
        describe=lambda task: jnp.zeros(0),
    )


def loop(population, make=copying, chunk=None):
    strategy = make(SPACE, population)
    return search_loop(training(), SPACE, strategy, rounds=3, steps=2, chunk=chunk)


def compiled(population, **options):
    made = loop(population, **options)
    stats = jax.jit(lambda key: scan(made, key)).lower(jax.random.key(0)).compile()
    stats = stats.memory_analysis()
    return (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        + stats.temp_size_in_bytes
        - stats.alias_size_in_bytes
    )


@pytest.mark.slow
def test_memory_grows_with_the_population_as_predicted():
    found = footprint(loop, populations=(16, 32))
    for population in (4, 256):
        assert found.total(population) == pytest.approx(compiled(population), rel=0.01)
    # At the very least, a member's parameters and its hidden layer.
    assert found.per_member > 4 * (PARAMETERS + EXAMPLES * WIDTH)


def test_chunks_leave_the_training_states_of_those_who_go_on_from_them():
    found = footprint(lambda population: loop(population, chunk=8), populations=(16, 32))
    assert found.total(256) == pytest.approx(compiled(256, chunk=8), rel=0.01)
    # The states before and after a round, and the history; but no member's activations.
    assert 8 * PARAMETERS < found.per_member < 8 * PARAMETERS + 2000


def test_members_that_start_from_scratch_need_no_more_than_a_chunk():
    def make(population):
        return loop(population, make=mh.strategies.random, chunk=8)

    found = footprint(make, populations=(16, 32))
    assert found.total(256) == pytest.approx(
        compiled(256, make=mh.strategies.random, chunk=8), 0.01
    )
    assert 3 * 17 <= found.per_member < 400  # the history of three rounds, not PARAMETERS


def test_the_largest_population_that_fits():
    found = Footprint(fixed=1000.0, per_member=10.0)
    assert (found.total(5), found.largest(1055), found.largest(999)) == (1050, 5, 0)


@pytest.mark.parametrize("sizes", [(8, 8), (0, 8), (8, 2.5)])
def test_two_different_sizes_are_needed(sizes):
    with pytest.raises(ValueError, match=r"(two different|at least 1)"):
        footprint(loop, populations=sizes)
