"""Bayesian optimisation that learns from hypergradients, too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.run import AskTell
from metahpo.testing import check_strategy

SPACE = {"x": mh.Float(0.0, 1.0, shape=(3,))}
TOLD, LANES = 8, 4
CENTRE, WIDTHS = [0.3, 0.6, 0.45], [1.0, 3.0, 10.0]


def bowl(x):
    return (jnp.asarray(WIDTHS) * (x - jnp.asarray(CENTRE)) ** 2).sum()


@functools.cache
def next_points(gradients, acquisition="log_ei"):
    """``(scale) -> f[LANES, 3]``: what is proposed after random points with scaled gradients."""
    strategy = mh.strategies.gaussian_process(
        SPACE, capacity=16, acquisition=acquisition, gradients=gradients
    )

    def propose(key, scale):
        points = jax.random.uniform(key, (TOLD, 3))
        loss, slopes = jax.vmap(jax.value_and_grad(bowl))(points)
        state = strategy.init(key)
        state = state._replace(
            unit=state.unit.at[:TOLD].set(points),
            loss=state.loss.at[:TOLD].set(loss),
            told=state.told.at[:TOLD].set(True),
            asked=jnp.int32(TOLD),
            grad=state.grad.at[:TOLD].set(scale * slopes) if gradients else (),
        )
        return strategy.ask(key, state)[0].unit[0]

    keys = jax.random.split(jax.random.key(0), LANES)
    program = jax.jit(jax.vmap(propose, (0, None)))
    return lambda scale=1.0: np.asarray(program(keys, scale))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.slow
def test_gradients_show_where_the_minimum_is():
    found, without = (np.mean([bowl(x) for x in next_points(steep)()]) for steep in (True, False))
    assert found < without / 3


@pytest.mark.slow
def test_gradients_that_are_missing_or_absurd_count_as_none():
    # Samples: the other way to the next point has more steps with gradients.
    without = next_points(False, "thompson")()
    for scale in (0.0, jnp.nan, jnp.inf, 1e30):
        found = next_points(True, "thompson")(scale)
        np.testing.assert_allclose(found, without, atol=1e-5)
    assert np.abs(next_points(True, "thompson")() - without).max() > 1e-3


@pytest.mark.slow
def test_gradients_are_told_to_their_points():
    strategy = mh.strategies.gaussian_process(SPACE, 2, capacity=8, gradients=True)
    key = jax.random.key(0)
    proposal, state = strategy.ask(key, strategy.init(key))
    grad = jnp.arange(6.0).reshape(2, 3)
    part = mh.Evaluation(jnp.array([1.0, jnp.inf]), grad, jnp.array([1, 0]))
    state = strategy.tell(key, state, proposal, part)
    np.testing.assert_array_equal(state.grad[:2], [grad[0], jnp.zeros(3)])
    rest = mh.Evaluation(jnp.array([jnp.inf, 2.0]), grad + 1, jnp.array([0, 1]))
    state = strategy.tell(key, state, proposal, rest)
    np.testing.assert_array_equal(state.grad[:2], [grad[0], grad[1] + 1])
    np.testing.assert_array_equal(state.loss[:2], [1.0, 2.0])


def test_gradients_need_a_float_and_a_run_that_has_them():
    with pytest.raises(ValueError, match=r"gradients=True needs a Float, got {'n': Int"):
        mh.strategies.gaussian_process({"n": mh.Int(1, 4)}, gradients=True)
    strategy = mh.strategies.gaussian_process(SPACE, gradients=True)
    assert strategy.needs.gradients and not strategy.needs.order
    with pytest.raises(ValueError, match="gradients"):
        AskTell(SPACE, strategy, rounds=4)


@pytest.mark.slow
def test_nothing_is_learned_from_slopes_of_branches_that_were_not_chosen():
    space = mh.OneOf(a={"x": mh.Float(0.0, 1.0)}, b={"y": mh.Float(0.0, 1.0)})
    strategy = mh.strategies.gaussian_process(space, 4, capacity=16, gradients=True)

    @jax.jit
    def following(strange):
        key = jax.random.key(0)
        proposal, state = strategy.ask(key, strategy.init(key))
        active = mh.space.active(space, proposal.unit)
        loss = (proposal.unit[:, 1] - 0.4) ** 2
        grad = jnp.where(active, 2 * (proposal.unit - 0.4), strange)
        state = strategy.tell(key, state, proposal, mh.Evaluation(loss, grad, jnp.ones(4, int)))
        return strategy.ask(key, state)[0].unit, active

    (plain, active), (other, _) = following(0.0), following(3.0)
    assert not active.all()
    np.testing.assert_array_equal(plain, other)


@pytest.mark.slow
@pytest.mark.optimised
def test_it_is_a_strategy_like_any_other():
    make = functools.partial(mh.strategies.gaussian_process, capacity=32, gradients=True)
    check_strategy(make, population=4, rounds=6, beats_random=False)
