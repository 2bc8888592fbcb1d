"""The generational scheme: any operator can be swapped, and each is called as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import StopReason
from metahpo.strategies import generational
from metahpo.strategies.genetic_algorithms import crossover, mutation, replacement, selection
from metahpo.strategies.genetic_algorithms.replacement import Members

KEY = jax.random.key(0)
PLANE = {"x": mh.Float(0.0, 1.0, shape=(2,))}


def assembled(space=PLANE, population=8, initial=None, **swapped):
    operators = {
        "select": selection.tournament(2),
        "cross": crossover.sbx(space),
        "mutate": mutation.polynomial(space),
        "replace": replacement.generational(),
    }
    return generational(space, population, initial, **(operators | swapped))


def rounds(strategy, fn, count, key=KEY):
    """The final state, and every round's points and losses."""

    def step(state, key):
        ask_key, tell_key = jax.random.split(key)
        proposal, state = strategy.ask(ask_key, state)
        loss = jax.vmap(fn)(proposal.unit)
        state = strategy.tell(tell_key, state, proposal, mh.Evaluation(loss, None, ()))
        return state, (proposal.unit, loss)

    first, *_ = keys = jax.random.split(key, count + 1)
    return jax.jit(lambda: jax.lax.scan(step, strategy.init(first), keys[1:]))()


def identity(key, x):
    return x


def test_user_operators_are_called_in_turn_with_what_they_are_promised():
    seen = {}

    def select(key, loss, count):
        seen["select"] = loss.shape, count
        return jnp.argsort(loss)[jnp.arange(count) % 2].astype(jnp.int32)  # the two best in turn

    def cross(key, parents):
        seen["cross"] = parents.shape
        return jnp.broadcast_to(parents.mean(axis=0), parents.shape)

    def mutate(key, unit):
        seen["mutate"] = unit.shape
        return unit + 0.01

    def replace(key, old, new):
        seen["replace"] = old.unit.shape, new.unit.shape
        return Members(new.unit[:3], new.loss[:3])

    initial = jnp.array([[0.1, 0.1], [0.5, 0.3], [0.2, 0.4], [0.9, 0.9], [0.8, 0.7]])
    strategy = generational(
        PLANE, 5, initial, select=select, cross=cross, mutate=mutate, replace=replace
    )
    _, (unit, _) = rounds(strategy, lambda u: u.sum(), 3)

    # Of five, three live on, selected for three pairs: six parents, and five children.
    assert seen == {
        "select": ((3,), 6),
        "cross": (2, 3, 2),
        "mutate": (5, 2),
        "replace": ((3, 2), (5, 2)),
    }
    np.testing.assert_array_equal(unit[0], initial)
    best, second = np.array([0.1, 0.1]), np.array([0.2, 0.4])  # the parents of each pair differ
    one = np.stack([best, second])[np.arange(3) % 2]
    two = np.stack([best, second])[(np.arange(3) + 3) % 2]
    mean = (one + two) / 2 + 0.01
    np.testing.assert_allclose(unit[1], np.concatenate([mean, mean])[:5], atol=1e-6)


@pytest.mark.parametrize(
    "swapped",
    [
        {"select": selection.truncation(0.5)},
        {"select": selection.ranking(1.8)},
        {"cross": crossover.uniform()},
        {"cross": crossover.points(2)},
        {"mutate": mutation.gaussian(PLANE, 0.03)},
        {"replace": replacement.plus()},
        {"replace": replacement.comma(4)},
        {"replace": replacement.steady(3)},
    ],
    ids=lambda swapped: " ".join(f"{k} {v.__qualname__.split('.')[0]}" for k, v in swapped.items()),
)
def test_one_operator_can_be_swapped(swapped):
    state, (unit, loss) = rounds(assembled(**swapped), lambda u: ((u - 0.3) ** 2).sum(), 30)
    assert unit.shape == (30, 8, 2)
    assert float(loss[-5:].min()) < float(loss[0].min())
    kept = 4 if "comma" in str(swapped) else 8
    assert state.members.loss.shape == (kept,)


def test_without_variation_and_with_plus_selection_the_best_take_over():
    strategy = assembled(cross=identity, mutate=identity, replace=replacement.plus())
    state, (_, loss) = rounds(strategy, lambda u: u.sum(), 20)
    np.testing.assert_array_equal(state.members.loss, np.full(8, loss[0].min()))
    assert strategy.stop(state) == StopReason.COLLAPSE


def test_first_round_lives_on_whole_whatever_the_replacement():
    strategy = assembled(replace=replacement.steady(1))
    state, (unit, loss) = rounds(strategy, lambda u: u.sum(), 1)
    np.testing.assert_array_equal(state.members.unit, unit[0])
    np.testing.assert_array_equal(state.members.loss, loss[0])
    assert strategy.stop(state) == StopReason.RUNNING
    assert strategy.stop(strategy.init(KEY)) == StopReason.RUNNING


def test_failed_members_are_not_kept_for_long():
    strategy = assembled(replace=replacement.plus())
    state, (_, loss) = rounds(strategy, lambda u: jnp.where(u[0] > 0.4, jnp.nan, u.sum()), 12)
    assert np.isnan(loss[0]).any() and np.isfinite(state.members.loss).all()


def test_on_a_plateau_the_population_does_not_drift():
    space = {"x": mh.Float(0.0, 1.0, shape=(30,))}
    for replace in (replacement.plus(), replacement.generational()):
        strategy = assembled(space, 20, replace=replace)
        state, (unit, _) = rounds(strategy, lambda u: jnp.zeros(()), 60)
        # A centre of 30 independent coordinates, each of standard deviation below 0.3.
        assert abs(float(unit[-1].mean()) - 0.5) < 5 * 0.3 / 30**0.5
        assert np.isfinite(state.members.unit).all()


def test_what_a_user_mutation_puts_outside_the_cube_is_clipped():
    _, (unit, _) = rounds(assembled(mutate=lambda key, u: u + 0.6), lambda u: u.sum(), 4)
    assert float(unit.max()) == 1.0


def test_odd_populations_drop_the_last_child():
    _, (unit, _) = rounds(
        assembled(population=5, select=clones_of_first, cross=identity, mutate=identity),
        lambda u: u.sum(),
        2,
    )
    assert unit.shape == (2, 5, 2)


def clones_of_first(key, loss, count):
    return jnp.zeros(count, jnp.int32)


def test_a_replacement_whose_size_depends_on_the_old_ones_is_refused():
    def shrinking(key, old, new):
        kept = max(old.loss.shape[0] // 2, 1)
        return Members(new.unit[:kept], new.loss[:kept])

    with pytest.raises(ValueError, match="must depend on the new ones alone"):
        assembled(replace=shrinking)
    with pytest.raises(ValueError, match="cannot keep 9 of 8 members"):
        assembled(replace=replacement.comma(9))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        assembled(population=1)
