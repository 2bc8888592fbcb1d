"""Networks with dropout: drawn by the key of every update, and never in what is judged."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learner_table import clusters, planes

import metahpo as mh

KEY = jax.random.key(0)


class Dropping(nn.Module):
    """Its mode is a field, an argument of the call, or something else."""

    train: bool = True
    outputs: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=not self.train)(nn.tanh(nn.Dense(8)(x)))
        return nn.Dense(self.outputs, name="head")(x)


class Called(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=False):
        return nn.Dropout(0.5)(nn.Dense(3, name="head")(x), deterministic=deterministic)


class Unknown(nn.Module):
    drops: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=not self.drops)(nn.Dense(3, name="head")(x))


def family(module, sample=clusters, criterion=mh.problems.cross_entropy, **modes):
    return mh.problems.few_shot(sample, module, criterion, **modes)


LEARNERS = {
    "maml": lambda f: mh.meta.maml(f, 0.1),
    "meta_sgd": lambda f: mh.meta.meta_sgd(f, initial_rate=0.1),
    "maml_plus_plus": lambda f: mh.meta.maml_plus_plus(f, 1, initial_rate=0.1),
    "anil": lambda f: mh.meta.anil(f, 0.1),
    "imaml": lambda f: mh.meta.imaml(f, 0.1, 0.5),
    "cavia": lambda f: mh.meta.cavia(f, 1.0),
    "cavia_film": lambda f: mh.meta.cavia(
        f,
        1.0,
        conditioning=lambda net: mh.meta.film(net, mh.networks.MLP(hidden=(), bias=(0.0,) * 3)),
    ),
    "task_heads": lambda f: mh.meta.task_heads(f, 0.1, fresh=False),
    "training": lambda f: mh.problems.training(
        f, lambda h: optax.sgd(0.1), initial=lambda key: {"n": 0.0}
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_two_keys_give_two_adaptations_and_predictions_draw_nothing(name):
    problem = LEARNERS[name](family(Dropping()))

    @jax.jit
    def run(keys):
        hparams, task = problem.initial(KEY), problem.sample(KEY)
        start = problem.init(KEY, hparams, task)
        adapted = jax.vmap(lambda key: problem.step(key, hparams, task, start))(keys)
        one = jax.tree.map(lambda leaf: leaf[0], adapted)
        losses = jax.vmap(lambda key: problem.loss(key, hparams, task, one))(keys)
        outputs = jax.vmap(lambda s: problem.predict(s, task.query.x))(adapted)
        return losses, outputs

    keys = jnp.stack([jax.random.key(1), jax.random.key(2), jax.random.key(1)])
    losses, outputs = run(keys)
    assert losses[0] == losses[1]
    assert jnp.array_equal(outputs[0], outputs[2]) and not jnp.allclose(outputs[0], outputs[1])


@pytest.mark.slow
def test_an_update_is_the_one_by_hand():
    module = Dropping()
    problem = mh.meta.maml(family(module), 0.1)
    params, task, key = problem.initial(KEY), problem.sample(KEY), jax.random.key(5)

    def loss(params):
        rngs = {"dropout": jax.random.fold_in(key, 0)}
        outputs = module.apply(params, task.support.x, rngs=rngs)
        return mh.problems.cross_entropy(outputs, task.support.y)

    start = problem.init(KEY, params, task)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))
    state = problem.step(key, params, task, start)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.params, expected
    )
    judged = Dropping(train=False).apply(state.params, task.query.x)
    np.testing.assert_allclose(
        problem.loss(key, params, task, state), mh.problems.cross_entropy(judged, task.query.y)
    )


@pytest.mark.parametrize(
    ("module", "modes"),
    [
        (Called(), {}),
        (Called(), {"evaluate": {"deterministic": True}}),
        (Dropping(train=False), {"train": {"train": True}}),
        (Unknown(), {"evaluate": {"drops": False}}),
    ],
    ids=["a known argument", "a given argument", "switched on for training", "another name"],
)
def test_a_module_is_switched_by_its_fields_or_by_the_arguments_of_its_call(module, modes):
    fam = family(module, **modes)
    task = fam.sample(KEY)
    params = fam.init(KEY, task)
    one, two = (fam.loss(params, task, "support", key=jax.random.key(i)) for i in (1, 2))
    assert one != two and fam.loss(params, task, "query") == fam.loss(params, task, "query")


def test_a_module_that_draws_when_it_is_judged_is_refused():
    fam = family(Unknown())
    task = fam.sample(KEY)
    params = fam.init(KEY, task)
    with pytest.raises(ValueError, match="must not draw random numbers when it is judged"):
        fam.loss(params, task, "query")


def test_a_network_of_ones_own_is_told_the_key():
    def train(params, x, key):
        return x @ params + jax.random.normal(key)

    network = mh.Network(lambda key, x: jnp.zeros((2, 1)), lambda p, x: x @ p, train)
    problem = mh.meta.maml(family(network, planes, mh.problems.squared_error), 0.1)
    params, task = problem.initial(KEY), problem.sample(KEY)
    start = problem.init(KEY, params, task)
    one, two = (problem.step(jax.random.key(i), params, task, start).params for i in (1, 2))
    assert not jnp.allclose(one, two)
    with pytest.raises(ValueError, match="for flax modules"):
        family(network, train={"train": True})


def test_a_loss_with_a_key_draws_apart_from_the_minibatch():
    seen = []

    def loss(params, task, split, key=None):
        seen.append((split, key is None))
        return params * jnp.sum(task) + (0.0 if key is None else jax.random.normal(key) * params)

    fam = mh.TaskFamily(lambda key: jnp.ones(4), lambda key, task: jnp.ones(()), loss)
    problem = mh.problems.training(
        fam,
        lambda h: optax.sgd(1.0),
        minibatch=lambda key, task: task * jax.random.normal(key),
    )
    state = problem.init(KEY, {}, fam.sample(KEY))
    moved = problem.step(jax.random.key(1), {}, fam.sample(KEY), state).params
    drawn = jax.random.normal(jax.random.key(1))
    assert not np.isclose(1 - moved, 4 * drawn + drawn) and ("support", False) in seen
    problem.loss(KEY, {}, fam.sample(KEY), state)
    assert seen[-1] == ("query", True)
