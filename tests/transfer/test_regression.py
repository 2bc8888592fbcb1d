"""Best points of 40 tasks, as a search would find them, learned by an ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

SPACE = {
    "kind": mh.Choice(("a", "b", "c")),
    "rate": mh.Float(1e-3, 1e3, log=True),
    "width": mh.Int(1, 40),
}
TASKS = 40
NETWORK = mh.transfer.network(
    SPACE, {"kind": 1, "rate": 1.0, "width": 20}, mean=np.zeros(2), scale=np.ones(2)
)


def best_unit(descriptor):
    """Rate and width are smooth functions of the task, the choice depends on one threshold."""
    kind = jnp.where(descriptor[0] > 0.0, 5 / 6, 1 / 6)  # "c" or "a"
    rate = 0.5 - 0.15 * descriptor[1]
    width = jax.nn.sigmoid(descriptor[0])
    return jnp.stack([kind, rate, width])


def noisy_examples(seed):
    a, b = jax.random.split(jax.random.key(seed))
    descriptors = jax.random.normal(a, (TASKS, 2))
    noise = 0.05 * jax.random.normal(b, (TASKS, 3)).at[:, 0].set(0.0)
    return descriptors, jnp.clip(jax.vmap(best_unit)(descriptors) + noise, 0.0, 1.0)


def predict_all(weights, descriptors):
    return jax.vmap(lambda d: mh.transfer.predict(NETWORK, weights, d))(descriptors)


@pytest.fixture(scope="module")
def weights():
    fit = jax.jit(lambda key, d, u: mh.transfer.fit(key, NETWORK, d, u))
    return fit(jax.random.key(0), *noisy_examples(0))


@pytest.fixture(scope="module")
def held_out():
    return jax.random.normal(jax.random.key(9), (500, 2))


@pytest.mark.slow
def test_prediction_recovers_the_best_points_on_new_tasks(weights, held_out):
    mean, _ = predict_all(weights, held_out)
    errors = mean - jax.vmap(best_unit)(held_out)
    constant = noisy_examples(0)[1].mean(axis=0) - jax.vmap(best_unit)(held_out)
    error, of_constant = (jnp.sqrt((e[:, 1:] ** 2).mean(axis=0)) for e in (errors, constant))
    assert (error < 0.05).all()  # the noise of the examples
    assert (error < 0.4 * of_constant).all()


def test_choice_is_the_most_frequent_best_value(weights, held_out):
    clear = held_out[jnp.abs(held_out[:, 0]) > 0.3]
    mean, _ = predict_all(weights, clear)
    right = jnp.abs(mean[:, 0] - jax.vmap(best_unit)(clear)[:, 0]) < 1e-6
    assert right.mean() > 0.95


def test_uncertainty_of_a_choice_is_largest_at_its_threshold(weights):
    _, at = predict_all(weights, jnp.array([[0.0, 0.0]]))
    _, far = predict_all(weights, jnp.array([[-1.5, 0.0], [1.5, 0.0]]))
    assert at[0, 0] > 2.0 * far[:, 0].max()


def test_uncertainty_grows_away_from_the_training_tasks(weights, held_out):
    _, inside = predict_all(weights, held_out)
    _, outside = predict_all(weights, 5.0 * held_out)
    assert (outside.mean(axis=0)[1:] > 1.5 * inside.mean(axis=0)[1:]).all()


def test_uncertainty_is_as_large_as_the_error(weights, held_out):
    mean, std = predict_all(weights, held_out)
    error = jnp.sqrt(((mean - jax.vmap(best_unit)(held_out))[:, 1] ** 2).mean())
    assert 0.3 < std[:, 1].mean() / error < 3.0


def test_pure_noise_is_not_learned_by_heart(held_out):
    descriptors, _ = noisy_examples(0)
    units = 0.5 + 0.2 * jax.random.normal(jax.random.key(3), (TASKS, 3)).at[:, 0].set(0.0)
    units = jnp.clip(units, 0.0, 1.0)
    fit = jax.jit(lambda key, d, u: mh.transfer.fit(key, NETWORK, d, u))
    mean, _ = predict_all(fit(jax.random.key(0), descriptors, units), held_out)
    # The truth is 0.5 everywhere; a network that goes through the points is 0.2 off.
    assert (jnp.sqrt(((mean[:, 1:] - 0.5) ** 2).mean(axis=0)) < 0.1).all()


def test_dimensions_that_are_not_learned_stay_at_the_default(held_out):
    network = mh.transfer.network(
        SPACE,
        {"kind": 1, "rate": 1.0, "width": 20},
        np.zeros(2),
        np.ones(2),
        floats_only=True,
    )
    weights = mh.transfer.fit(jax.random.key(0), network, *noisy_examples(0), steps=5)
    mean, std = mh.transfer.predict(network, weights, held_out[0])
    assert mh.space.decode(SPACE, mean)["kind"] == 1 and mh.space.decode(SPACE, mean)["width"] == 20
    assert std[0] == 0.0 and std[2] == 0.0 and std[1] > 0.0


def test_a_single_task_is_enough_to_fit():
    descriptors, units = (x[:1] for x in noisy_examples(0))
    fit = jax.jit(lambda key: mh.transfer.fit(key, NETWORK, descriptors, units, members=2))
    mean, _ = mh.transfer.predict(NETWORK, fit(jax.random.key(0)), descriptors[0])
    np.testing.assert_allclose(mean, units[0], atol=0.05)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        network = mh.transfer.network(
            {"x": mh.Float(0.0, 1.0)}, {"x": 0.5}, np.zeros(2), np.ones(2)
        )
        descriptors = jnp.ones((3, 2))
        weights = mh.transfer.fit(
            jax.random.key(0), network, descriptors, descriptors[:, :1], steps=2
        )
        mean, std = mh.transfer.predict(network, weights, descriptors[0])
        assert {leaf.dtype for leaf in jax.tree.leaves((weights, mean, std))} == {jnp.dtype("f8")}


@pytest.mark.parametrize(
    ("descriptors", "units", "steps", "message"),
    [
        (np.zeros((4, 2)), np.zeros((4, 2)), 1, r"units \[N, 3\]"),
        (np.zeros((4, 2)), np.zeros((5, 3)), 1, "shapes"),
        (np.zeros((0, 2)), np.zeros((0, 3)), 1, "N > 0"),
        (np.zeros(4), np.zeros((4, 3)), 1, r"descriptors must be \[N, F\]"),
        (np.zeros((4, 2)), np.zeros((4, 3)), 0, "steps.*got 0"),
    ],
)
def test_bad_examples_are_refused(descriptors, units, steps, message):
    with pytest.raises(ValueError, match=message):
        mh.transfer.fit(jax.random.key(0), NETWORK, descriptors, units, steps=steps)
