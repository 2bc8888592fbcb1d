"""REINFORCE against a process of two states whose every episode can be written down."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

STEPS = 3
# [state, action] -> probability that the next state is 1, and reward.
TO_ONE = np.array([[0.2, 0.7], [0.5, 0.9]])
REWARD = np.array([[1.0, 0.0], [2.0, 3.5]])
WEIGHTS = np.array([[0.3, -0.2], [-0.5, 0.4]])


def two_states(bonus=0.0):
    def reset(key, task):
        return jnp.zeros((), jnp.int32)

    def step(key, state, action):
        reward = jnp.asarray(REWARD)[state, action[0]] + bonus
        after = jax.random.bernoulli(key, jnp.asarray(TO_ONE)[state, action[0]])
        transition = mh.rl.Transition(reward, jnp.array(False), jnp.array(False))
        return after.astype(jnp.int32), transition

    def observe(state):
        return jax.nn.one_hot(state, 2)

    actions, observations = mh.Choice((0, 1), shape=(1,)), mh.Float(0.0, 1.0, shape=(2,))
    return mh.rl.Environment(reset, step, observe, actions, observations)


def table_policy():
    """One logit for each state and action."""

    def sample(key, weights, observation):
        return jax.random.categorical(key, observation @ weights)[None]

    def log_prob(weights, observation, action):
        return jax.nn.log_softmax(observation @ weights)[action[0]]

    def mode(weights, observation):
        return jnp.argmax(observation @ weights)[None]

    return mh.rl.Policy(lambda key: jnp.zeros((2, 2)), sample, log_prob, mode)


class Episode(NamedTuple):
    probability: float
    scores: np.ndarray  # [T, 2, 2], gradients of the log probabilities of the actions
    rewards: np.ndarray  # [T]


def all_episodes():
    policy = np.exp(WEIGHTS) / np.exp(WEIGHTS).sum(axis=1, keepdims=True)
    episodes = []
    for choices in itertools.product(itertools.product((0, 1), repeat=2), repeat=STEPS):
        state, probability, scores, rewards = 0, 1.0, [], []
        for action, after in choices:
            to_one = TO_ONE[state, action]
            probability *= policy[state, action] * (to_one if after else 1.0 - to_one)
            score = np.zeros((2, 2))
            score[state] = np.eye(2)[action] - policy[state]
            scores.append(score)
            rewards.append(REWARD[state, action])
            state = after
        episodes.append(Episode(probability, np.array(scores), np.array(rewards)))
    return episodes


def exact(gradient_of_episode):
    """The expectation over all episodes."""
    return sum(e.probability * gradient_of_episode(e) for e in all_episodes())


def plain(episode):
    """Williams' gradient of the loss, without a baseline: the whole return times all scores."""
    return -episode.scores.sum(axis=0) * episode.rewards.sum()


def rewards_so_far(episode):
    return -np.einsum("tij,t->ij", episode.scores, np.cumsum(episode.rewards))


def own_mean_baseline(episode, rollouts=2):
    """What a baseline that includes the rollout itself gives on average."""
    return plain(episode) * (rollouts - 1) / rollouts


def estimator_of_many(rollouts, bonus=0.0):
    estimator = mh.rl.reinforce(two_states(bonus), table_policy(), STEPS, rollouts)

    def one(key):
        estimate, _ = estimator.estimate(key, jnp.asarray(WEIGHTS), None, ())
        return estimate

    return jax.jit(lambda key, count: jax.vmap(one)(jax.random.split(key, count)), static_argnums=1)


@pytest.fixture(scope="module")
def many():
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, estimator_of_many(2)(jax.random.key(0), 40_000))


def mean_and_error(samples):
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / len(samples) ** 0.5


def test_the_probabilities_of_all_episodes_sum_to_one():
    assert sum(e.probability for e in all_episodes()) == pytest.approx(1.0, abs=1e-12)


def test_gradient_is_the_exact_one_within_three_standard_errors(many):
    mean, error = mean_and_error(many.grad)
    assert (np.abs(mean - exact(plain)) < 3.0 * error).all()


@pytest.mark.parametrize("wrong", [rewards_so_far, own_mean_baseline, lambda e: -plain(e)])
def test_three_standard_errors_tell_a_wrong_gradient(many, wrong):
    mean, error = mean_and_error(many.grad)
    assert (np.abs(mean - exact(wrong)) > 10.0 * error).any()


def test_loss_is_minus_the_mean_return(many):
    mean, error = mean_and_error(many.loss)
    assert abs(mean + exact(lambda e: e.rewards.sum())) < 3.0 * error


def test_standard_error_is_that_of_the_loss(many):
    # The mean square of the estimated errors is the variance of the loss.
    assert np.mean(many.info["standard_error"] ** 2) == pytest.approx(many.loss.var(), rel=0.03)


def test_entropy_is_the_policys():
    # The policy of state 0 alone, in one step.
    estimator = mh.rl.reinforce(two_states(), table_policy(), steps=1, rollouts=20_000)
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    estimate, _ = estimator.estimate(jax.random.key(0), weights, None, ())
    probability = np.exp(WEIGHTS[0]) / np.exp(WEIGHTS[0]).sum()
    entropy = -(probability * np.log(probability)).sum()
    assert float(estimate.info["entropy"]) == pytest.approx(entropy, abs=0.01)


def test_baseline_lowers_the_variance(many):
    def square(episode):
        return plain(episode) ** 2

    variance_of_plain = (exact(square) - exact(plain) ** 2) / 2  # the mean of two rollouts
    assert (many.grad.var(axis=0) < 0.5 * variance_of_plain).all()


def test_a_constant_reward_changes_no_gradient_and_a_key_decides_the_estimate():
    estimate = estimator_of_many(4)
    without, again = (estimate(jax.random.key(0), 16) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, without, again)
    with_bonus = estimator_of_many(4, bonus=100.0)(jax.random.key(0), 16)
    np.testing.assert_allclose(with_bonus.grad, without.grad, atol=1e-3)
    np.testing.assert_allclose(with_bonus.loss, without.loss - 100.0 * STEPS, rtol=1e-5)
    other = estimate(jax.random.key(1), 16)
    assert (other.loss != without.loss).any()


@pytest.mark.parametrize(
    ("steps", "rollouts", "message"),
    [(0, 2, "steps.*got 0"), (3, 1, "at least 2, got 1"), (3, 0, "at least 2, got 0")],
)
def test_bad_sizes_are_refused(steps, rollouts, message):
    with pytest.raises(ValueError, match=message):
        mh.rl.reinforce(two_states(), table_policy(), steps, rollouts)
