"""What every strategy must be able to do.  A new strategy is one row of ``TABLE``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import (
    NAMES,
    POPULATION,
    SIZE,
    SPACE,
    TABLE,
    WARM,
    check_beats_random_search,
    check_history,
    duelists,
    mixed,
    program,
    rough_run,
    searched,
)

import metahpo as mh
from metahpo.run.agreement import ANY_ORDER
from metahpo.testing.strategy import check_protocol


@pytest.mark.parametrize("name", NAMES, scope="module")
@pytest.mark.parametrize("x64", [False, True])
def test_proposals_keep_the_protocol_and_the_default_float_type(name, x64):
    with jax.enable_x64(x64):
        check_protocol(TABLE[name].make(SPACE, POPULATION), POPULATION, SIZE)


@pytest.mark.slow
def test_those_that_take_losses_in_any_order_are_named_where_others_are_refused():
    patient = [n for n in NAMES if not TABLE[n].make(SPACE, POPULATION).needs.order]
    assert sorted(patient) == sorted(ANY_ORDER)


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_history_stays_in_bounds_with_known_parents(name):
    shape = program(name, mixed).lanes, TABLE[name].rounds, POPULATION
    check_history(rough_run(name).history, shape, "float32")


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_nonfinite_losses_are_survived(name):
    result = rough_run(name)
    history = result.history
    nonfinite, active = np.isinf(history.loss), history.budget > 0
    assert (nonfinite & active)[:, :2].any(axis=(1, 2)).mean() > 0.8  # the test is not vacuous
    assert np.isfinite(result.best_loss).all()
    if TABLE[name].not_better_than_random:
        begun = active & (history.parent < 0)
        share = nonfinite[begun].mean()
        assert share == pytest.approx(0.5, abs=0.15)  # the half of the cube that it is
    else:
        last, first = nonfinite[:, -3:].mean(), nonfinite[:, 0].mean()
        assert last < 0.6 * first


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_same_key_gives_the_same_history_and_another_key_another(name):
    result, again = rough_run(name), program(name, mixed)(0, 0.325, True)
    jax.tree.map(np.testing.assert_array_equal, again, result)
    assert not np.array_equal(result.history.unit[0], result.history.unit[1])


@functools.cache
def warm_program(name):
    """``(key, initial) -> f[P, D]``, the first proposals, and how often that was traced."""
    traces = []

    @jax.jit
    def first(key, initial):  # traced, so its values may be anything
        traces.append(name)
        strategy = TABLE[name].make(SPACE, POPULATION, initial=initial)
        return strategy.ask(key, strategy.init(key))[0].unit

    return first, traces


@pytest.mark.parametrize("name", NAMES, scope="module")
def test_one_trace_serves_all_numbers(name):
    one, run = rough_run(name), program(name, mixed)
    count = run.traces
    other = run(1, 0.1, True)
    assert run.traces == count > 0
    assert not np.array_equal(one.history.loss, other.history.loss)
    if TABLE[name].warm:
        first, traces = warm_program(name)
        one, other = (first(jax.random.key(0), jnp.full((2, SIZE), x, "f4")) for x in (0.2, 0.7))
        assert len(traces) == 1
        assert not np.array_equal(one, other)
        # The whole search takes points that are not known yet, too.
        points = jax.ShapeDtypeStruct((2, SIZE), jnp.float32)
        run = lambda key, x: searched(name, SPACE, mixed, initial=x)(key, 0.1, False)  # noqa: E731
        assert jax.eval_shape(run, jax.random.key(0), points).best_loss.shape == ()


@pytest.mark.parametrize("name", WARM, scope="module")
def test_warm_start_is_evaluated_first(name):
    initial = jnp.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [-3.0, 5.0, jnp.nan, 1.0, 0.9, jnp.inf]])
    unit = np.asarray(warm_program(name)[0](jax.random.key(0), initial))
    np.testing.assert_array_equal(unit[0], initial[0])
    np.testing.assert_array_equal(unit[1, [0, 1, 3]], [0.0, 1.0, 1.0])  # moved into the cube
    assert ((unit[1, [2, 5]] > 0) & (unit[1, [2, 5]] < 1)).all()
    # Whole numbers and choices may lie at one point of their cells.
    drawn = unit[2:, mh.space.is_continuous(SPACE)]
    inside = drawn[(drawn > 0) & (drawn < 1)]  # normal samples beyond a bound are moved onto it
    assert len(np.unique(inside)) == inside.size > 0.6 * drawn.size


@duelists(costly=False)
def test_beats_random_search_on_mixed_spaces_with_p_below_one_in_ten_thousand(name):
    check_beats_random_search(name, "mixed")
