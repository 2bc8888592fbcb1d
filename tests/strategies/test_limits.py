"""The smallest population that every strategy takes, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import NAMES, POPULATION, SIZE, SPACE, TABLE, WARM, check_history, searched


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_smallest_population_works_in_double_precision(name):
    smallest, rounds = TABLE[name].smallest, 5
    loss = lambda h: h["lr"] + h["width"]  # noqa: E731
    with jax.enable_x64(True):
        run = searched(name, SPACE, loss, smallest, rounds)
        history = jax.device_get(jax.jit(run)(jax.random.key(0)).history)
    check_history(history, (rounds, smallest), "float64")
    assert np.isfinite(history.loss[history.budget > 0]).all()


@pytest.mark.parametrize("name", WARM, scope="module")
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((129, SIZE), r"initial has 129 points, more than the (population 16|capacity \d+)"),
        ((2, 3), r"initial must be .* points of the shape \[K, 6\], got the shape \(2, 3\)"),
        ((SIZE,), r"initial must be .* points of the shape \[K, 6\], got the shape \(6,\)"),
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
def test_what_is_not_a_space_is_refused(name):
    with pytest.raises(ValueError, match="a space is a pytree whose leaves are"):
        TABLE[name].make({"lr": 0.1}, POPULATION)
