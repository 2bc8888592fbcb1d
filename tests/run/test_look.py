"""What would be ignored in silence is found before the run."""

import jax
import jax.numpy as jnp
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)
FAMILY = mh.TaskFamily(
    lambda key: jnp.ones(3), lambda key, task: jnp.zeros(3), lambda p, t, s: ((p - t) ** 2).sum()
)
RATE = {"lr": mh.Float(1e-3, 0.1, log=True)}


def searched(problem, space):
    strategy = mh.strategies.random(space, population=4)
    return mh.search(KEY, problem, space, strategy, rounds=1, steps=2)


def test_a_hyperparameter_that_nothing_reads_is_named():
    problem = mh.problems.training(FAMILY, lambda h: optax.sgd(h["lr"]))
    space = RATE | {"momentum": mh.Float(0.0, 1.0), "deep": {"er": mh.Int(1, 3)}}
    with pytest.warns(UserWarning, match=r"nothing in the problem reads deep\.er, momentum"):
        searched(problem, space)


def test_one_that_is_computed_with_and_then_dropped_is_named():
    def optimizer(h):
        _ = jnp.sin(h["unused"]) * 2.0
        return optax.sgd(h["lr"])

    space = RATE | {"unused": mh.Float(0.0, 1.0)}
    with pytest.warns(UserWarning, match="reads unused"):
        searched(mh.problems.training(FAMILY, optimizer), space)


@pytest.mark.parametrize("where", ["init", "step", "loss"])
def test_one_that_is_read_in_one_place_is_not(where):
    problem = mh.problems.training(FAMILY, lambda h: optax.sgd(0.1))
    plain = getattr(problem, where)

    def reading(key, h, *rest):
        return jax.tree.map(lambda x: x + 0 * h["lr"].astype(x.dtype), plain(key, h, *rest))

    searched(problem._replace(**{where: reading}), RATE)


def test_a_choice_compared_with_its_text_is_refused():
    def optimizer(h):
        return optax.adam(h["lr"]) if h["kind"] == "adam" else optax.sgd(h["lr"])

    space = RATE | {"kind": mh.Choice(("sgd", "adam"))}
    with pytest.raises(ValueError, match="comparing it with 'adam' is false whatever the choice"):
        searched(mh.problems.training(FAMILY, optimizer), space)


def test_comparisons_are_as_before_after_the_look():
    searched(mh.problems.function(lambda h: h["lr"]), RATE)
    assert jax.jit(lambda x: x == 1)(1)
    assert not jax.jit(lambda x: jnp.float32(x == "text"))(1)
