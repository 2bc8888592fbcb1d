"""Agents with tables: their updates by hand, and what they converge to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

rl = mh.rl
NOTHING = mh.problems.function(lambda table: 0.0)
AGENTS = {"q_learning": rl.q_learning, "sarsa": rl.sarsa, "expected_sarsa": rl.expected_sarsa}


def chain(reward=1.0, terminates=False, length=5):
    """Goes on by itself, and is cut off or ends after so many steps; the time is not observed."""

    def step(key, state, action):
        over = state + 1 >= length
        ended, cut = (over, jnp.array(False)) if terminates else (jnp.array(False), over)
        return state + 1, rl.Transition(jnp.asarray(reward), ended, cut)

    return rl.Environment(
        reset=lambda key, task: jnp.int32(0),
        step=step,
        observe=lambda state: jnp.int32(0),
        action_space=mh.Choice(("on",)),
        observation_space=mh.Choice(("here",)),
    )


def learned(agent, table, rounds, optimizer=None, key=0):
    optimizer = optax.sgd(1.0) if optimizer is None else optimizer
    return mh.meta_train(
        jax.random.key(key), NOTHING, agent, table, optimizer, rounds=rounds, tasks=1
    )


def two_fields():
    """From field 0 both actions lead to field 1, whose actions stay and bring their number."""
    return rl.Environment(
        reset=lambda key, task: jnp.int32(0),
        step=lambda key, state, action: (
            jnp.int32(1),
            rl.Transition(-1.0 + state * action, jnp.array(False), jnp.array(False)),
        ),
        observe=lambda state: state,
        action_space=mh.Choice((0, 1)),
        observation_space=mh.Choice((0, 1)),
    )


@pytest.mark.parametrize("name", AGENTS)
def test_the_error_is_the_definitions(name):
    """For v = 1, r = -1 and v' by the next state's values 0 and 2."""
    table, explore = jnp.array([[1.0, 1.0], [0.0, 2.0]]), rl.epsilon_greedy(0.5)
    worth = {"q_learning": [2.0], "sarsa": [0.0, 2.0], "expected_sarsa": [0.25 * 0 + 0.75 * 2]}
    with jax.enable_x64(True):

        @jax.jit
        def errors(key, discount):
            agent = AGENTS[name](two_fields(), explore, discount=discount)
            memory = agent.init(key, table, None)
            return -agent.estimate(key, table, None, memory)[0].grad

        keys = jax.random.split(jax.random.key(0), 20)
        for discount in (0.0, 0.5, 1.0):
            found = np.array(jax.vmap(errors, (0, None))(keys, discount))
            assert (found[:, 1] == 0).all() and (np.count_nonzero(found[:, 0], axis=1) <= 1).all()
            expected = {-1 + discount * v - 1 for v in worth[name]}
            assert set(found[:, 0].sum(axis=1)) == expected


def test_sarsa_takes_the_action_that_it_learned_from():
    table = jnp.array([[1.0, 1.0], [0.0, 2.0]])
    agent = rl.sarsa(two_fields(), rl.epsilon_greedy(1.0), discount=1.0)

    def two_steps(key):
        first, second = jax.random.split(key)
        estimate, memory = agent.estimate(first, table, None, agent.init(key, table, None))
        planned = memory.action
        _, after = agent.estimate(second, table, None, memory)
        return -estimate.grad[0].sum(), planned, after.visits[1]

    error, planned, visits = jax.vmap(two_steps)(jax.random.split(jax.random.key(0), 20))
    np.testing.assert_array_equal(error, table[1][planned] - 2)
    np.testing.assert_array_equal(visits, np.eye(2)[np.array(planned)])


@pytest.mark.parametrize("name", AGENTS)
def test_a_limit_of_time_is_looked_beyond_and_an_end_is_not(name):
    with jax.enable_x64(True):
        cut, ended = (
            learned(
                AGENTS[name](chain(terminates=ends), rl.epsilon_greedy(0.1), discount=0.9),
                jnp.zeros((1, 1)),
                rounds=600,
                optimizer=optax.sgd(0.2),
            ).hparams[0, 0]
            for ends in (False, True)
        )
    assert float(cut) == pytest.approx(1 / (1 - 0.9), abs=1e-4)  # r / (1 - discount)
    assert float(ended) < 7


@pytest.mark.slow
def test_q_learning_converges_to_dynamic_programming_on_the_frozen_lake():
    lake = rl.frozen_lake()
    agent = rl.q_learning(
        lake.environment, rl.epsilon_greedy(0.5), rate=lambda visits: visits**-0.6, steps=1
    )
    table = jnp.zeros((16, 4))

    def learn(key):
        return mh.meta_train(
            key, NOTHING, agent, table, optax.sgd(1.0), rounds=300_000, tasks=1
        ).hparams

    tables = jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), 4))
    for table in np.array(tables):
        assert lake.value(table.argmax(axis=1)) == pytest.approx(lake.optimal(), abs=1e-3)
        assert table[0].max() == pytest.approx(0.542, abs=0.02)


def test_a_rate_of_the_visits_takes_means_and_rewards_that_are_not_finite_are_counted():
    def step(key, state, action):
        reward = jnp.where(state == 2, jnp.inf, 1.0 * state)
        return state + 1, rl.Transition(reward, jnp.array(False), jnp.array(False))

    counting = chain()._replace(step=step)
    agent = rl.q_learning(
        counting, rl.softmax(1.0), discount=0.0, rate=lambda visits: 1 / visits, steps=1
    )
    result = learned(agent, jnp.zeros((1, 1)), rounds=6)
    # 0, 1, -, 3, 4, 5 with the fractions 1, 1/2, -, 1/4, 1/5, 1/6
    mean = 0.0
    for visits, reward in ((1, 0), (2, 1), (4, 3), (5, 4), (6, 5)):
        mean += (reward - mean) / visits
    assert float(result.hparams[0, 0]) == pytest.approx(mean, rel=1e-6)
    assert int(result.skipped) == 1 and int(result.state.memory.score.spoiled[0]) == 1


def test_an_agent_is_a_function_of_its_key_also_under_vmap_over_its_numbers():
    lake = rl.frozen_lake(slippery=False).environment

    def learn(key, epsilon, rate):
        agent = rl.expected_sarsa(lake, rl.epsilon_greedy(epsilon), rate=rate, steps=3)
        return learned_by(key, agent)

    def learned_by(key, agent):
        return mh.meta_train(
            key, NOTHING, agent, jnp.ones((16, 4)), optax.sgd(1.0), rounds=40, tasks=2
        ).hparams

    keys = jax.random.split(jax.random.key(3), 2)
    epsilon, rate = jnp.array([0.1, 0.9]), jnp.array([0.5, 0.2])
    both = jax.jit(jax.vmap(learn))(keys, epsilon, rate)
    one = jax.jit(learn)
    for i in range(2):
        np.testing.assert_allclose(one(keys[i], epsilon[i], rate[i]), both[i], rtol=1e-6)
    again = one(keys[0], epsilon[0], rate[0])
    np.testing.assert_array_equal(again, one(keys[0], epsilon[0], rate[0]))
    assert (both[0] != both[1]).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rl.q_learning(chain(), rl.softmax(1.0), discount=1.1), r"discount.*\[0, 1\]"),
        (lambda: rl.sarsa(chain(), rl.softmax(1.0), steps=0), "steps.*got 0"),
        (
            lambda: rl.sarsa(rl.sigmoid(1).environment, rl.softmax(1.0)),
            "the space of observations must be of choices and whole numbers, got Float",
        ),
        (
            lambda: rl.q_learning(chain(), rl.softmax(1.0)).init(
                jax.random.key(0), jnp.zeros((2, 1)), None
            ),
            r"the table must have shape \(1, 1\), got \(2, 1\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_values_of_a_space_are_numbered_without_gaps():
    space = {
        "a": mh.Choice(("x", "y", "z")),
        "b": mh.Int(-2, 1, shape=(2,)),
        "c": mh.Choice((0, 1), shape=(1, 2)),
    }
    numbered = rl.enumeration(space)
    assert numbered.size == 3 * 4**2 * 2**2
    values = jax.vmap(numbered.value)(jnp.arange(numbered.size))
    assert values["b"].shape == (192, 2) and values["c"].shape == (192, 1, 2)
    assert int(values["b"].min()) == -2 and int(values["b"].max()) == 1
    np.testing.assert_array_equal(jax.vmap(numbered.number)(values), np.arange(192))
    flat = np.concatenate([np.array(v).reshape(192, -1) for v in jax.tree.leaves(values)], axis=1)
    assert len(np.unique(flat, axis=0)) == 192
