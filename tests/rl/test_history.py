"""Actions that are observed, and agents whose own numbers are tuned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.testing import check_environment

rl = mh.rl


def test_the_last_actions_are_observed_the_newest_at_the_end():
    environment = rl.with_history(rl.sigmoid(2).environment, 3)
    task = environment.sample(jax.random.key(0))
    state = environment.reset(jax.random.key(0), task)
    step = jax.jit(environment.step)
    for action in ([2, 1], [0, 2]):
        state, _ = step(jax.random.key(0), state, jnp.array(action))
    seen = environment.observe(state)
    assert seen["actions"].tolist() == [9, 3 * 2 + 1, 2]
    np.testing.assert_array_equal(seen["observation"]["centre"], task.centre)
    with pytest.raises(ValueError, match="length.*got 0"):
        rl.with_history(environment, 0)


def test_an_environment_with_a_history_is_one():
    check_environment(rl.with_history(rl.luby(8).environment, 4, alone=True), steps=16)


def test_the_numbers_of_an_agent_are_tuned_by_a_search():
    lake = rl.frozen_lake(slippery=False)
    policy = rl.table_policy(lake.environment, initial=1.0)

    def arrives(key, table, task, state):
        act = lambda key, seen: policy.mode(table, seen)  # noqa: E731
        start = lake.environment.reset(key, task)
        return -rl.episode(key, lake.environment, act, 20, start)[1].reward.sum()

    walks = mh.Problem(
        sample=lambda key: jnp.zeros(()),
        init=lambda key, table, task: (),
        step=lambda key, table, task, state: state,
        loss=arrives,
        initial=policy.init,
    )

    def configure(settings):
        explore = rl.epsilon_greedy(settings["epsilon"])
        agent = rl.q_learning(lake.environment, explore, discount=settings["discount"])
        return mh.run.MetaTraining(walks, agent, optax.sgd(settings["rate"]))

    settings = {name: jnp.array(0.5) for name in ("epsilon", "discount", "rate")}
    problem = mh.run.as_problem(configure, settings, tasks=1, steps=0, validation=1)
    space = {name: mh.Float(0.0, 1.0) for name in settings}
    result = mh.search(
        jax.random.key(0), problem, space, mh.strategies.random(space, 8), rounds=1, steps=600
    )
    found = np.array(result.history.loss)
    assert set(found.ravel()) == {-1.0, 0.0}  # not every agent learns the way
    assert float(result.best_loss) == -1
    assert float(result.best_hparams["discount"]) < 1
