"""The public checks pass what is right, and name the rule that a wrong one breaks."""

import jax
import jax.numpy as jnp
import optax
import pytest

import metahpo as mh
from metahpo.testing.strategy import MIXED

SMALL = {"population": 8, "rounds": 6, "seeds": 60}


@pytest.mark.slow
@pytest.mark.parametrize("make", [mh.strategies.differential_evolution, mh.strategies.snes])
def test_strategies_of_ours_pass(make):
    mh.testing.check_strategy(make, **SMALL)


def changed(**functions):
    """A strategy of ours, of which some functions are wrong."""

    def make(space, population):
        right = mh.strategies.random(space, population)
        return right._replace(**{name: fn(right) for name, fn in functions.items()})

    return make


def proposes(change):
    def ask(right):
        def wrong(key, state):
            proposal, state = right.ask(key, state)
            return change(key, proposal), state

        return wrong

    return ask


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (lambda space, population: "random", "it makes an mh.Strategy"),
        (changed(ask=proposes(lambda key, p: p._replace(unit=p.unit[:, :2]))), "unit has shape"),
        (
            changed(ask=proposes(lambda key, p: p._replace(unit=p.unit.astype("float16")))),
            "unit is float",
        ),
        (
            changed(tell=lambda right: lambda key, state, proposal, evaluation: evaluation.loss),
            "tell keeps the shapes",
        ),
        (
            changed(ask=proposes(lambda key, p: p._replace(unit=2 * p.unit - 0.5))),
            "points stay in",
        ),
        (
            changed(ask=proposes(lambda key, p: p._replace(parent=jnp.full(8, 8, jnp.int32)))),
            "parents are members",
        ),
        (
            changed(ask=proposes(lambda key, p: p._replace(unit=jnp.full_like(p.unit, 0.25)))),
            "another key gives another history",
        ),
        (mh.strategies.random, "lower losses than random search"),
    ],
)
def test_a_wrong_strategy_is_told_its_rule(wrong, rule):
    with pytest.raises(AssertionError, match=rule):
        mh.testing.check_strategy(wrong, **SMALL)


def test_random_search_passes_where_it_need_not_beat_itself():
    mh.testing.check_strategy(mh.strategies.random, beats_random=False, **SMALL, space=MIXED)


@pytest.mark.parametrize("make", [mh.hypergrad.reverse, mh.hypergrad.forward])
def test_estimators_of_ours_pass(make):
    mh.testing.check_estimator(make)


def test_a_biased_estimator_passes_as_what_it_is():
    mh.testing.check_estimator(mh.hypergrad.first_order, exact=False)
    with pytest.raises(AssertionError, match="the gradient of lr is the derivative"):
        mh.testing.check_estimator(mh.hypergrad.first_order)


def estimates(change):
    """An estimator of ours, whose estimates are changed."""

    def make(problem, steps):
        right = mh.hypergrad.reverse(problem, steps)

        def estimate(key, hparams, task, memory):
            result, memory = right.estimate(key, hparams, task, memory)
            return change(result), memory

        return right._replace(estimate=estimate)

    return make


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda r: r._replace(grad=r.grad["lr"]), "structure of the hyperparameters"),
        (lambda r: r._replace(loss=2 * r.loss), "the loss is that of the training"),
        (lambda r: r._replace(grad=r.grad | {"power": jnp.ones(())}), "no float is zero"),
        (lambda r: r._replace(loss=r.loss + jnp.nan), "are finite"),
    ],
)
def test_a_wrong_estimator_is_told_its_rule(change, rule):
    with pytest.raises(AssertionError, match=rule):
        mh.testing.check_estimator(estimates(change))


RIGHT = mh.problems.training(mh.problems.quadratics(), lambda h: optax.sgd(h["lr"]))
SPACE = {"lr": mh.Float(1e-3, 1e-2, log=True)}


def test_a_problem_of_ours_passes():
    mh.testing.check_problem(RIGHT, space=SPACE)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (RIGHT._replace(step=lambda key, h, task, state: state.params), "step keeps the shapes"),
        (RIGHT._replace(loss=lambda key, h, task, state: h["lr"] * jnp.ones(2)), "one float"),
        (RIGHT._replace(loss=lambda key, h, task, state: h["lr"] * jnp.nan), "loss is finite"),
        (
            RIGHT._replace(loss=lambda key, h, task, state: jnp.sqrt(h["lr"] * 0)),
            "the derivative of the loss is finite",
        ),
        (RIGHT._replace(describe=lambda task: jnp.zeros(())), "describe gives"),
    ],
)
def test_a_wrong_problem_is_told_its_rule(wrong, rule):
    with pytest.raises(AssertionError, match=rule):
        mh.testing.check_problem(wrong, space=SPACE)


def test_a_problem_without_hyperparameters_is_refused_by_name():
    with pytest.raises(ValueError, match="needs a space or hparams"):
        mh.testing.check_problem(RIGHT)


def test_unread_hyperparameters_are_warned_of():
    with pytest.warns(UserWarning, match="reads more"):
        mh.testing.check_problem(RIGHT, space=SPACE | {"more": mh.Float(0.0, 1.0)})


def test_halves_that_differ_from_the_whole_are_found():
    calls = []

    def step(key, hparams, task, state):  # reads what is no state
        calls.append(1)
        params = jax.tree.map(lambda p: p + float(len(calls) > 3), state.params)
        return state._replace(params=params)

    with pytest.raises(AssertionError, match="a training in segments"):
        mh.testing.check_problem(RIGHT._replace(step=step), hparams={"lr": jnp.array(0.01)})
