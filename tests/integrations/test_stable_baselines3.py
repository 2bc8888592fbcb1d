"""Agents of Stable-Baselines3 in environments of the library, where it is installed."""

import warnings

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

import gymnasium  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from own_environments import OWN  # noqa: E402
from stable_baselines3 import DQN, PPO  # noqa: E402
from stable_baselines3.common.env_checker import check_env  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402

import metahpo as mh  # noqa: E402
from metahpo.integrations.gymnasium import Env  # noqa: E402
from metahpo.integrations.gymnasium.registered import IDS  # noqa: E402
from metahpo.report import interval  # noqa: E402

torch.set_num_threads(1)


def checked(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


@pytest.mark.parametrize("name", IDS)
def test_its_check_finds_nothing_in_a_registered_environment(name):
    checked(gymnasium.make(f"metahpo/{name}-v0").unwrapped)


@pytest.mark.parametrize("name", OWN)
def test_nor_in_any_other(name):
    env = Env(OWN[name]())
    if name == "tuning by numbers":  # which go from -0.1 to 0.1
        env = gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    checked(env)


BITS, STEPS, SEEDS = 8, 8192, 10
EXACT = mh.rl.leading_ones(BITS, (1, 2, 4))
RATE, DISCOUNT, EPSILON = 1e-2, 0.95, 0.05
SHARED = {"learning_rate": RATE, "gamma": DISCOUNT, "batch_size": 128}
LINEAR = {"policy_kwargs": {"net_arch": []}}


def exploring(best):
    """The policy that acts like this but for ``EPSILON``: a greedy mistake would cost for ever."""
    return (1 - EPSILON) * np.eye(3)[best] + EPSILON / 3


def own_ppo():
    """Our agent with the sizes of theirs: chances ``f[seeds, levels, actions]``."""
    environment = EXACT.environment
    policy = mh.rl.with_value(mh.rl.softmax_policy(environment, ()), environment, ())
    agent = mh.rl.ppo(environment, policy, 128, epochs=10, discount=DISCOUNT)
    weights = trained(policy, agent, rounds=STEPS // 512 * 40, tasks=4)
    log_prob = jax.vmap(jax.vmap(policy.log_prob, (None, None, 0)), (None, 0, None))
    chances = jax.vmap(log_prob, (0, None, None))(weights, jnp.arange(BITS), jnp.arange(3))
    return np.exp(np.asarray(chances, float))


def own_dqn():
    policy = mh.rl.value_policy(EXACT.environment, ())
    explore = mh.rl.epsilon_greedy(optax.linear_schedule(1.0, EPSILON, STEPS // 2))
    agent = mh.rl.dqn(
        EXACT.environment, policy, explore, steps=4, capacity=STEPS, batch=128, start=200,
        n=1, discount=DISCOUNT,
    )  # fmt: skip
    weights = trained(policy, agent, rounds=STEPS // 4, tasks=1)
    best = jax.vmap(jax.vmap(policy.mode, (None, 0)), (0, None))(weights, jnp.arange(BITS))
    return exploring(np.asarray(best))


def trained(policy, agent, rounds, tasks):
    process = mh.rl.problem(EXACT.environment, policy)

    def learn(key):
        return mh.meta_train(
            key, process, agent, policy.init(key), optax.adam(RATE), rounds=rounds, tasks=tasks
        ).hparams

    return jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), SEEDS))


def their_ppo(seed):
    lanes = make_vec_env(lambda: Env(EXACT.environment), 4, seed=seed)
    model = PPO("MlpPolicy", lanes, n_steps=128, n_epochs=10, seed=seed, **SHARED, **LINEAR)
    model.learn(STEPS)
    with torch.no_grad():
        seen = model.policy.obs_to_tensor(np.arange(BITS))[0]
        return model.policy.get_distribution(seen).distribution.probs.double().numpy()


def their_dqn(seed):
    options = {"learning_starts": 200, "tau": 0.01, "target_update_interval": 4}
    options |= {"exploration_fraction": 0.5}
    model = DQN("MlpPolicy", Env(EXACT.environment), seed=seed, **options, **SHARED, **LINEAR)
    model.learn(STEPS)
    return exploring(model.predict(np.arange(BITS), deterministic=True)[0])


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("own", "their"), [(own_ppo, their_ppo), (own_dqn, their_dqn)])
def test_its_agents_reach_the_interval_of_ours(own, their):
    """The same sizes, rates and steps; exact values of what was learned, ours of ten seeds."""
    ours = interval(np.array([EXACT.value(policy) for policy in own()]))
    theirs = np.array([EXACT.value(their(seed)) for seed in range(3)])
    shown = f"{EXACT.optimal():.3f} {EXACT.static():.3f}, ours {ours}, theirs {theirs}"
    assert EXACT.random() < EXACT.static() < theirs.mean() < EXACT.optimal(), shown
    assert theirs.mean() >= ours.mean - ours.half_width, shown
