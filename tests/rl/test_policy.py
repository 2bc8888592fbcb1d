import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh


@pytest.fixture
def policy(descent, space):
    environment = mh.rl.tuning_environment(descent, space, 1, segments=2)
    return mh.rl.softmax_policy(environment, hidden=(4,))


@pytest.fixture
def weights(policy):
    # Far from the nearly uniform start, so that the actions' probabilities differ.
    return jax.tree.map(lambda w: 10.0 * w + 0.2, policy.init(jax.random.key(0)))


OBSERVATION = jnp.linspace(-1.0, 1.0, 7)
ACTIONS = jnp.array(list(itertools.product(range(3), repeat=2)))


def probabilities(policy, weights):
    return np.exp([policy.log_prob(weights, OBSERVATION, action) for action in ACTIONS])


def test_probabilities_of_all_actions_sum_to_one(policy, weights):
    assert probabilities(policy, weights).sum() == pytest.approx(1.0, abs=1e-6)


def test_untrained_policy_is_nearly_uniform(policy):
    untrained = policy.init(jax.random.key(0))
    np.testing.assert_allclose(probabilities(policy, untrained), 1 / 9, rtol=0.5)


def test_samples_follow_log_prob(policy, weights):
    keys = jax.random.split(jax.random.key(1), 20_000)
    samples = jax.vmap(policy.sample, (0, None, None))(keys, weights, OBSERVATION)
    counts = np.bincount(np.asarray(samples[:, 0] * 3 + samples[:, 1]), minlength=9)
    expected = probabilities(policy, weights)
    error = np.sqrt(expected * (1.0 - expected) / len(keys))
    assert (np.abs(counts / len(keys) - expected) < 4.0 * error).all()
    assert expected.max() > 2.0 * expected.min()  # else a uniform sampler would pass


def test_mode_is_the_most_probable_action(policy, weights):
    best = ACTIONS[probabilities(policy, weights).argmax()]
    np.testing.assert_array_equal(policy.mode(weights, OBSERVATION), best)
