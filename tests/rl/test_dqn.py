"""DQN: the replay buffer, its targets, its loss by hand, and what it converges to."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.rl.agents.dqn import targets
from metahpo.rl.agents.replay import Sample, drawn, empty, written
from metahpo.rl.returns import n_step_returns

rl = mh.rl
NOTHING = mh.problems.function(lambda weights: 0.0)
LAKE = rl.frozen_lake(slippery=False).environment
POLICY = rl.value_policy(LAKE, (8,))
EXPLORE = rl.epsilon_greedy(1.0)


def history(steps):
    """Steps whose observations are their numbers, with ends of both kinds."""
    rng = np.random.default_rng(0)
    terminated = rng.random(steps) < 0.15
    return rl.Trajectory(
        observation=jnp.arange(steps),
        action=jnp.asarray(rng.integers(0, 4, steps)),
        reward=jnp.asarray(rng.normal(size=steps)),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray((rng.random(steps) < 0.15) & ~terminated),
        next_observation=100 + jnp.arange(steps),
    )


@pytest.mark.parametrize("n", [1, 3])
def test_stretches_are_the_n_step_returns_of_the_last_steps(n):
    with jax.enable_x64(True):
        whole = history(60)
        replay = empty(whole, capacity=40)
        for at in range(0, 60, 4):  # goes around
            replay = written(replay, jax.tree.map(lambda x, at=at: x[at : at + 4], whole))
        sample = jax.jit(drawn, static_argnums=(2, 3))(jax.random.key(0), replay, 2000, n, 0.9)
        later = jnp.sin(whole.next_observation.astype(float))
        returns = np.array(n_step_returns(whole, later, 0.9, n))
        found = np.array(sample.reward + sample.discount * jnp.sin(1.0 * sample.next_observation))
    at = np.array(sample.observation)
    assert set(at) == set(range(20, 60 - n + 1))  # all that are there, and none that are not
    np.testing.assert_allclose(found, returns[at], atol=1e-12)
    np.testing.assert_array_equal(sample.action, whole.action[at])
    assert sample.valid.all()


def test_a_reward_that_is_not_finite_makes_only_its_stretches_invalid():
    whole = history(8)._replace(reward=jnp.ones(8).at[3].set(jnp.inf))
    none = jnp.zeros(8, bool)
    whole = whole._replace(terminated=none, truncated=none)
    sample = drawn(jax.random.key(0), written(empty(whole, 8), whole), 100, 2, 1.0)
    spoiled = np.isin(np.array(sample.observation), (2, 3))
    np.testing.assert_array_equal(sample.valid, ~spoiled)
    np.testing.assert_array_equal(sample.reward, np.where(spoiled, 0, 2))


def test_double_learning_chooses_with_one_network_and_values_with_the_other():
    policy = rl.table_policy(LAKE)
    weights = jnp.zeros((16, 4)).at[5].set(jnp.array([0.0, 9.0, 1.0, 2.0]))
    slow = jnp.zeros((16, 4)).at[5].set(jnp.array([7.0, 3.0, 1.0, 2.0]))
    one, five = jnp.ones(1), jnp.array([5])
    sample = Sample(five, five, one, 0.5 * one, five, jnp.array([True]))
    assert float(targets(policy, sample, weights, slow, True)[0]) == 1 + 0.5 * 3
    assert float(targets(policy, sample, weights, slow, False)[0]) == 1 + 0.5 * 7
    ended = sample._replace(discount=0 * one)
    assert float(targets(policy, ended, weights, slow, True)[0]) == 1


def test_a_duelling_network_adds_advantages_without_their_mean_to_the_value():
    policy = rl.value_policy(LAKE, (), duelling=True)
    weights = policy.init(jax.random.key(0))
    out = np.array(weights["params"]["Dense_0"]["kernel"])[3]
    weights["params"]["Dense_0"]["bias"] = jnp.zeros(5)
    expected = out[0] + out[1:] - out[1:].mean()
    np.testing.assert_allclose(policy.action_values(weights, jnp.int32(3)), expected, atol=1e-6)


def test_the_gradient_is_that_of_the_loss_by_hand_and_zero_before_the_start():
    policy = rl.table_policy(LAKE)
    agent = rl.dqn(
        LAKE, policy, EXPLORE, steps=4, capacity=64, batch=64, start=8, n=1, discount=0.9
    )
    table = jnp.arange(64.0).reshape(16, 4)
    memory = agent.init(jax.random.key(0), table, None)
    estimate = jax.jit(agent.estimate)
    first, memory = estimate(jax.random.key(1), table, None, memory)
    assert (first.grad == 0).all() and float(first.info["error"]) == 0
    memory = memory._replace(target=table + 1)
    second, after = estimate(jax.random.key(2), table, None, memory)
    # The minibatch is that of the second half of the key.
    sample = drawn(jax.random.split(jax.random.key(2))[1], after.replay, 64, 1, 0.9)
    expected = np.zeros((16, 4))
    for s, a, r, d, to in zip(*(np.array(x) for x in sample[:5]), strict=True):
        goal = r + d * (table[to].max() + 1)
        expected[s, a] -= (goal - table[s, a]) / 64
    np.testing.assert_allclose(second.grad, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after.target, table + 0.99, rtol=1e-6)  # follows by 1 %


def test_a_limit_of_time_is_looked_beyond_and_an_end_is_not():
    from test_tabular_agents import chain

    def value(terminates):
        environment = chain(terminates=terminates)
        policy = rl.table_policy(environment)
        agent = rl.dqn(
            environment, policy, EXPLORE, steps=1, capacity=100, batch=16, n=2, discount=0.9,
            follow=0.2,
        )  # fmt: skip
        return mh.meta_train(
            jax.random.key(0), NOTHING, agent, jnp.zeros((1, 1)), optax.sgd(0.3),
            rounds=1000, tasks=1,
        ).hparams  # fmt: skip

    with jax.enable_x64(True):
        assert float(value(False)[0, 0]) == pytest.approx(1 / (1 - 0.9), abs=1e-3)
        assert float(value(True)[0, 0]) < 7


def test_agents_side_by_side_are_those_alone_and_share_no_copy_of_a_buffer():
    capacity, agents = 4096, 8

    def learn(key, discount, follow):
        agent = rl.dqn(
            LAKE, POLICY, EXPLORE, steps=2, capacity=capacity, batch=8, discount=discount,
            follow=follow,
        )  # fmt: skip
        start, run = jax.random.split(key)
        return mh.meta_train(
            run, NOTHING, agent, POLICY.init(start), optax.adam(1e-2), rounds=30, tasks=1
        )

    keys = jax.random.split(jax.random.key(0), agents)
    discount, follow = jnp.linspace(0.5, 1.0, agents), jnp.linspace(0.01, 1.0, agents)
    many = jax.jit(jax.vmap(learn)).lower(keys, discount, follow).compile()
    together = many(keys, discount, follow)
    alone = jax.jit(learn)(keys[3], discount[3], follow[3])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[3], rtol=1e-4, atol=1e-6),
        alone.hparams,
        together.hparams,
    )
    assert together.state.memory.score.steps.tolist() == [[60]] * agents
    copies = re.findall(rf"= \w+\[{agents},1,{capacity}\]\S* copy\(%(\S+)\)", many.as_text())
    assert [name for name in copies if "broadcast" not in name] == []  # but the empty one
    buffer = sum(leaf.nbytes for leaf in jax.tree.leaves(together.state.memory.replay))
    assert many.memory_analysis().temp_size_in_bytes < 0.5 * buffer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 16, "batch": 32}, "capacity must be .* at least batch=32 .*got 16"),
        ({"capacity": 40, "batch": 8, "start": 50}, "at least .*start=50, got 40"),
        ({"capacity": 50, "steps": 4}, "a multiple of steps=4.*got 50"),
        ({"steps": 0}, "steps.*got 0"),
        ({"n": 0}, "n must be.*got 0"),
        ({"discount": 2.0}, r"discount must be in \[0, 1\], got 2.0"),
        ({"follow": -1.0}, r"follow must be in \[0, 1\], got -1.0"),
        ({"start": 1, "n": 3}, "start must be.*at least 3, got 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rl.dqn(LAKE, POLICY, EXPLORE, **options)


def test_policies_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="dqn needs a policy with action_values"):
        rl.dqn(LAKE, rl.softmax_policy(LAKE), EXPLORE)
    other = rl.value_policy(rl.luby(8).environment, ())
    agent = rl.dqn(LAKE, other._replace(action_values=lambda w, o: w), EXPLORE)
    with pytest.raises(ValueError, match=r"action_values must be f\[4\], got \(6,\)"):
        agent.init(jax.random.key(0), jnp.zeros(6), None)
    with pytest.raises(ValueError, match="the space of actions must be of choices"):
        rl.value_policy(rl.Environment(*LAKE[:3], mh.Float(0.0, 1.0), LAKE.observation_space))
