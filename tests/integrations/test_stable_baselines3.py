"""Agents of Stable-Baselines3 in environments of the library, where it is installed."""

import warnings

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

import gymnasium  # noqa: E402
import torch  # noqa: E402
from own_environments import OWN  # noqa: E402
from stable_baselines3 import DQN, PPO  # noqa: E402
from stable_baselines3.common.env_checker import check_env  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402

import metahpo as mh  # noqa: E402
from metahpo.integrations.gymnasium import Env  # noqa: E402
from metahpo.integrations.gymnasium.registered import IDS  # noqa: E402

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


LINEAR = {"policy_kwargs": {"net_arch": []}, "learning_rate": 1e-2, "gamma": 0.95, "seed": 0}


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["PPO", "DQN"])
def test_its_agents_learn_more_than_the_best_static_policy(agent):
    bits, portfolio = 8, (1, 2, 4)
    exact = mh.rl.leading_ones(bits, portfolio)
    if agent == "PPO":
        lanes = make_vec_env(lambda: Env(exact.environment), 4)
        model = PPO("MlpPolicy", lanes, n_steps=128, batch_size=128, **LINEAR)
    else:
        options = {"learning_starts": 200, "target_update_interval": 200, "batch_size": 128}
        model = DQN(
            "MlpPolicy", Env(exact.environment), exploration_fraction=0.5, **options, **LINEAR
        )
    model.learn(8000)
    levels = np.arange(bits)
    if agent == "PPO":
        with torch.no_grad():
            seen = model.policy.obs_to_tensor(levels)[0]
            policy = model.policy.get_distribution(seen).distribution.probs.double().numpy()
    else:  # as it acted: a greedy mistake at one level would cost for ever
        best, _ = model.predict(levels, deterministic=True)
        policy = 0.95 * np.eye(len(portfolio))[best] + 0.05 / len(portfolio)
    value = exact.value(policy)
    assert exact.random() < exact.static() < value < exact.optimal(), (exact.static(), value)
