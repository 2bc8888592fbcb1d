"""What is not the record that an argument wants is refused by the argument's name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)
SPACE = {"x": mh.Float(-1.0, 1.0)}
PROBLEM = mh.problems.function(lambda h: h["x"] ** 2)
FAMILY = mh.problems.sinusoid(shots=5)
REVERSE = mh.hypergrad.reverse(PROBLEM, 1)


def search(problem=PROBLEM, strategy=None, **options):
    strategy = mh.strategies.random(SPACE, 4) if strategy is None else strategy
    return mh.search(KEY, problem, SPACE, strategy, rounds=1, steps=1, **options)


def meta(problem=PROBLEM, estimator=REVERSE, hparams=None, optimizer=None):
    hparams = {"x": jnp.array(1.0)} if hparams is None else hparams
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    return mh.meta_train(KEY, problem, estimator, hparams, optimizer, rounds=1, tasks=1)


DESCENT = mh.strategies.hypergradient(SPACE, 2)
CALLS = {
    "strategy, not called": lambda: search(strategy=mh.strategies.random),
    "strategy of text": lambda: search(strategy="random"),
    "problem that is a function": lambda: search(lambda h: h["x"] ** 2),
    "problem that is a family": lambda: search(FAMILY),
    "stop that is a number": lambda: search(stop=0.1),
    "rule in a list": lambda: mh.stopping.any_of([mh.stopping.target(0.0)]),
    "mesh of devices": lambda: search(mesh=jax.devices()),
    "metrics of one argument": lambda: search(metrics=lambda h: 1.0),
    "estimator of text": lambda: search(strategy=DESCENT, estimator="reverse"),
    "estimator without gradients": lambda: search(estimator=REVERSE),
    "problem and estimator swapped": lambda: meta(REVERSE, PROBLEM),
    "optimizer, not called": lambda: meta(optimizer=optax.sgd),
    "hparams of a space": lambda: meta(hparams=SPACE),
    "loop that is a result": lambda: mh.run.drive(search(), KEY),
    "optimizer that is no function": lambda: mh.problems.training(FAMILY, optax.sgd(0.1)),
    "optimizer of a name": lambda: mh.strategies.hypergradient(SPACE, 2, optimizer="adam"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_argument_is_named(name):
    with pytest.raises(ValueError, match=name.split(maxsplit=1)[0].strip(",")):
        CALLS[name]()


def test_a_function_that_cannot_be_traced_is_sent_to_minimize():
    problem = mh.problems.function(lambda h: float(h["x"]))
    with pytest.raises(jax.errors.ConcretizationTypeError) as error:
        search(problem)
    assert "mh.minimize" in " ".join(error.value.__notes__)


@pytest.mark.parametrize("other", [
    {"y": mh.Float(-1.0, 1.0)}, {"x": mh.Int(-1, 1)}, {"x": mh.Float(-2.0, 1.0)},
    {"x": mh.Float(-1.0, 1.0, shape=(2,))},
])  # fmt: skip
def test_a_strategy_of_another_space_is_refused(other):
    strategy = mh.strategies.random(other, 4)
    with pytest.raises(ValueError, match="made for another space"):
        search(strategy=strategy)
    with pytest.raises(ValueError, match="made for another space"):
        mh.minimize(lambda h: 0.0, SPACE, strategy, rounds=1, progress=False)


def shaped(step):
    return mh.Problem(
        lambda key: None, lambda key, h, t: jnp.arange(3.0), step, lambda key, h, t, s: s.sum()
    )


@pytest.mark.parametrize("step", [lambda k, h, t, s: s.mean(), lambda k, h, t, s: s[:1]])
@pytest.mark.parametrize("strategy", [mh.strategies.random(SPACE, 2), DESCENT])
def test_a_step_that_changes_a_shape_is_refused(step, strategy):
    with pytest.raises(ValueError, match=r"a problem's step must keep shapes, got .* for \(3,\)"):
        search(shaped(lambda k, h, t, s: step(k, h, t, s) * h["x"]), strategy)


def test_an_update_of_another_shape_is_refused():
    optimizer = optax.GradientTransformation(
        lambda p: (), lambda g, s, p: (jax.tree.map(jnp.mean, g), s)
    )
    problem = mh.problems.function(lambda h: (h["w"] ** 2).sum())
    with pytest.raises(ValueError, match="an optimiser's update must keep shapes"):
        mh.meta_train(
            KEY, problem, mh.hypergrad.reverse(problem, 1), {"w": jnp.ones(3)}, optimizer,
            rounds=1, tasks=1,
        )  # fmt: skip


def test_old_keys_give_what_typed_ones_give():
    maml = mh.meta.maml(FAMILY, 0.01)
    start = mh.meta.initial_params(jax.random.key(1), FAMILY)

    def train(key):
        return mh.meta_train(
            key, maml, mh.hypergrad.reverse(maml, 1), start, optax.sgd(0.1), rounds=4, tasks=4
        ).history.loss

    np.testing.assert_array_equal(train(jax.random.PRNGKey(0)), train(jax.random.key(0)))
