"""What explorations say, by hand, and what they earn on the ten-armed testbed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.rl.exploration import draw

rl = mh.rl
VALUES = jnp.array([1.0, 3.0, 3.0, -2.0])


def test_the_best_share_the_greedy_part():
    chances = rl.epsilon_greedy(0.2)(VALUES, None, 0)
    np.testing.assert_allclose(chances, [0.05, 0.45, 0.45, 0.05], atol=1e-7)


def test_a_temperature_of_softmax_scales_the_values():
    expected = np.exp(np.array(VALUES) / 2) / np.exp(np.array(VALUES) / 2).sum()
    np.testing.assert_allclose(rl.softmax(2.0)(VALUES, None, 0), expected, atol=1e-7)


def test_an_upper_confidence_bound_is_that_of_the_book():
    visits = jnp.array([4.0, 60.0, 30.0, 6.0])  # the 101st choice
    bounds = np.array(VALUES) + 4.0 * np.sqrt(np.log(101.0) / np.array(visits))
    chances = rl.upper_confidence(4.0)(VALUES, visits, 0)
    assert bounds.argmax() == 0 and chances.tolist() == [1, 0, 0, 0]
    assert rl.upper_confidence(1.0)(VALUES, visits, 0).tolist() == [0, 0, 1, 0]
    new = rl.upper_confidence(1.0)(VALUES, visits.at[jnp.array([0, 3])].set(0), 0)
    assert new.tolist() == [0.5, 0, 0, 0.5]


def test_rates_are_schedules_of_time_and_traced_numbers():
    falling = rl.epsilon_greedy(mh.schedules.linear_schedule(1.0, 0.0, 10))
    found = [float(falling(VALUES, None, time)[0]) for time in (0, 5, 10)]
    np.testing.assert_allclose(found, [0.25, 0.125, 0.0], atol=1e-7)
    slope = jax.jit(jax.grad(lambda e: rl.epsilon_greedy(e)(VALUES, None, 0)[0]))(0.3)
    assert float(slope) == pytest.approx(0.25)


def test_noise_stays_on_the_cube_and_has_its_scale():
    keys = jax.random.split(jax.random.key(0), 20_000)
    noisy = jax.vmap(rl.gaussian_noise(0.1), (0, None, None))
    found = np.array(noisy(keys, jnp.array([0.0, 0.5]), 0))
    assert found.min() >= 0 and found.max() <= 1
    half_normal = 0.1 * np.sqrt(2 / np.pi)
    np.testing.assert_allclose(found.mean(axis=0), [half_normal, 0.5], atol=0.003)
    assert found[:, 1].std() == pytest.approx(0.1, abs=0.003)
    still = rl.gaussian_noise(0.0)(keys[0], jnp.array([0.0, 0.5]), 0)
    assert still.tolist() == [0.0, 0.5]


def test_actions_are_drawn_with_their_chances():
    chances = jnp.array([0.0, 0.7, 0.3])
    drawn = jax.vmap(draw, (0, None))(jax.random.split(jax.random.key(0), 20_000), chances)
    shares = np.bincount(np.array(drawn), minlength=3) / 20_000
    np.testing.assert_allclose(shares, chances, atol=0.01)
    assert shares[0] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.epsilon_greedy(1.5), r"epsilon must be in \[0, 1\], got 1.5"),
        (lambda: rl.softmax(0.0), "temperature must be positive, got 0.0"),
        (lambda: rl.upper_confidence(-1.0), "bonus must be finite and at least 0, got -1.0"),
        (lambda: rl.gaussian_noise(-1.0), "scale must be finite and at least 0, got -1.0"),
        (lambda: rl.upper_confidence(1.0)(VALUES, None, 0), "needs visits"),
    ],
)
def test_wrong_rates_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Sutton & Barto's testbed (2018, section 2.3): mean reward and share of the best action in the last
# 100 of 1,000 steps, means over 2,000 tasks.
BANDITS = {
    "greedy": (rl.epsilon_greedy(0.0), 1.033, 0.36),
    "epsilon 0.1": (rl.epsilon_greedy(0.1), 1.397, 0.81),
    "epsilon 0.01": (rl.epsilon_greedy(0.01), 1.317, 0.61),
    "softmax": (rl.softmax(0.2), 1.426, 0.74),
    "upper confidence": (rl.upper_confidence(1.0), 1.516, 0.92),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BANDITS)
def test_a_bandit_earns_what_was_published(name):
    explore, reward, best = BANDITS[name]
    environment = rl.testbed(steps=10_000).environment
    agent = rl.q_learning(
        environment, explore, discount=0.0, rate=lambda visits: 1 / visits, steps=1
    )

    def play(key):
        task_key, init_key, before_key, after_key = jax.random.split(key, 4)
        task = environment.sample(task_key)
        table = jnp.zeros((1, 10))

        def step(carry, key):
            table, memory = carry
            estimate, memory = agent.estimate(key, table, task, memory)
            return (table - estimate.grad, memory), None

        def steps(key, count, carry):
            return jax.lax.scan(step, carry, jax.random.split(key, count))[0]

        start = steps(before_key, 900, (table, agent.init(init_key, table, task)))
        before, after = start[1], steps(after_key, 100, start)[1]
        chosen = (after.visits - before.visits)[0, task.argmax()]
        return (after.score.running - before.score.running) / 100, chosen / 100

    found = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(1), 2000))
    for values, published in zip(found, (reward, best), strict=True):
        error = float(values.std()) / 2000**0.5
        rounding = 0.005 if published < 1 else 0.0005
        # The published figure is a mean over as many tasks.
        assert abs(float(values.mean()) - published) < 3 * 2**0.5 * error + rounding
