"""Bowls whose best rate is 1 / c, learned from nothing but training with the rates that it says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

SPACE = {"rate": mh.Float(1e-3, 1e3, log=True), "kind": mh.Choice(("a", "b", "c"))}
DEFAULT = {"rate": 0.1, "kind": 2}
STEPS = 2
INSIDE = jnp.exp(jnp.linspace(-2.0, 2.0, 9))[:, None]  # c between 0.14 and 7.4


def make_network(**arguments):
    arguments = {"floats_only": True} | arguments
    return mh.transfer.network(SPACE, DEFAULT, np.zeros(1), np.array([1.3]), **arguments)


@pytest.fixture(scope="module")
def trained(bowls):
    """A network, the problem, and an ensemble of 4 trained members."""
    network = make_network()
    problem = mh.problems.training(bowls, optimizer=lambda h: optax.sgd(h["rate"]))
    learner = mh.transfer.mapping(problem, network)
    estimator = mh.hypergrad.reverse(learner, STEPS)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.03, 300))
    )

    def train(key, weights):
        result = mh.meta_train(key, learner, estimator, weights, optimizer, rounds=300, tasks=16)
        return result.hparams

    untrained = mh.transfer.ensemble_init(jax.random.key(0), network, members=4)
    weights = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(1), 4), untrained)
    return network, problem, learner, weights


def predict_all(network, weights, descriptors):
    return jax.vmap(lambda d: mh.transfer.predict(network, weights, d))(descriptors)


@pytest.mark.slow
def test_learned_rates_are_the_best_ones(trained):
    network, _, _, weights = trained
    mean, _ = predict_all(network, weights, jnp.log(INSIDE))
    rates = jax.vmap(lambda unit: mh.space.decode(SPACE, unit)["rate"])(mean)
    np.testing.assert_allclose(rates * INSIDE[:, 0], 1.0, atol=0.1)


def test_mapping_beats_the_best_constant_on_new_tasks(trained):
    _, problem, learner, weights = trained
    evaluate = jax.jit(
        lambda problem, h: mh.run.fresh_losses(
            jax.random.key(5), problem, h, steps=STEPS, tasks=100
        ),
        static_argnums=0,
    )
    member = jax.tree.map(lambda w: w[0], weights)
    constants = [
        evaluate(problem, {"rate": rate, "kind": 2}).mean()
        for rate in 10.0 ** np.linspace(-2, 1, 31)
    ]
    assert evaluate(learner, member).mean() < 0.01 * min(constants)


def test_uncertainty_grows_away_from_the_training_tasks(trained):
    network, _, _, weights = trained
    _, inside = predict_all(network, weights, jnp.log(INSIDE))
    _, outside = predict_all(network, weights, jnp.array([[-9.0], [-6.0], [6.0], [9.0]]))
    assert outside[:, 1].min() > 2.0 * inside[:, 1].max()


def test_dimensions_without_a_gradient_stay_at_the_default(trained):
    network, _, learner, weights = trained
    mean, std = predict_all(network, weights, jnp.log(INSIDE))
    np.testing.assert_allclose(mean[:, 0], 5 / 6, rtol=1e-6)  # the middle of the third of three
    assert (std[:, 0] == 0.0).all()


def test_mapping_trains_with_the_hyperparameters_that_the_network_says(trained):
    network, problem, learner, weights = trained
    member = jax.tree.map(lambda w: w[1], weights)
    unit = mh.transfer.unit_point(network, member, jnp.log(jnp.array([3.0])))
    hparams = mh.space.decode(SPACE, unit)
    key, task = jax.random.key(4), jnp.array(3.0)
    said = mh.inner.outer_loss(problem, 1)(key, hparams, task)[0]
    assert float(mh.inner.outer_loss(learner, 1)(key, member, task)[0]) == pytest.approx(
        float(said), rel=1e-3
    )


def test_hypergradient_agrees_with_finite_differences(bowls):
    with jax.enable_x64(True):
        network = make_network(hidden=(3,))
        problem = mh.problems.training(bowls, optimizer=lambda h: optax.sgd(h["rate"]))
        learner = mh.transfer.mapping(problem, network)
        weights, task = network.init(jax.random.key(0)), jnp.array(2.0)
        key, estimator = jax.random.key(1), mh.hypergrad.reverse(learner, STEPS)
        grad = jax.jit(estimator.estimate)(key, weights, task, ())[0].grad
        direction = optax.tree.random_like(jax.random.key(2), weights)
        direction["prior"] = jax.tree.map(jnp.zeros_like, direction["prior"])  # is not learned
        loss = jax.jit(mh.inner.outer_loss(learner, STEPS))
        ahead, behind = (
            loss(key, optax.tree.add_scale(weights, h, direction), task)[0] for h in (1e-6, -1e-6)
        )
        assert abs(ahead - behind) > 1e-8
        np.testing.assert_allclose(
            optax.tree.vdot(grad, direction), (ahead - behind) / 2e-6, rtol=1e-6
        )


def test_untrained_network_says_the_default():
    network = make_network(prior=0.0)
    units = jax.vmap(
        lambda key: mh.transfer.unit_point(network, network.init(key), jnp.array([0.7]))
    )(jax.random.split(jax.random.key(0), 20))
    encoded = mh.space.encode(SPACE, DEFAULT)
    np.testing.assert_allclose(units, jnp.tile(encoded, (20, 1)), atol=0.1)


def test_a_network_that_predicts_choices_is_refused(bowls):
    problem = mh.problems.training(bowls, optimizer=lambda h: optax.sgd(h["rate"]))
    with pytest.raises(ValueError, match=r"Float dimensions only.*\['kind'\].*floats_only=True"):
        mh.transfer.mapping(problem, make_network(floats_only=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default": {"rate": 1e4, "kind": 0}}, "rate must be in"),
        ({"mean": np.zeros(2)}, "one length"),
        ({"mean": np.zeros(()), "scale": np.ones(())}, "one length"),
        ({"scale": np.zeros(1)}, "scale must be positive"),
        ({"prior": -1.0}, "prior must be at least 0, got -1.0"),
        ({"space": {"kind": mh.Choice(("a", "b"))}, "default": {"kind": 0}}, "Float dimension"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = dict(
        space=SPACE, default=DEFAULT, mean=np.zeros(1), scale=np.ones(1), floats_only=True
    )
    with pytest.raises(ValueError, match=message):
        mh.transfer.network(**arguments | change)


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="members.*got 0"):
        mh.transfer.ensemble_init(jax.random.key(0), make_network(), members=0)
