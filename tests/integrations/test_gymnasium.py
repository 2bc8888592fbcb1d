"""Environments behind gymnasium's interface: its own checks, and the functional trajectories."""

import doctest
import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from own_environments import OWN, several  # noqa: E402

import metahpo as mh  # noqa: E402
from metahpo.integrations.gymnasium import Env, VectorEnv  # noqa: E402
from metahpo.integrations.gymnasium.registered import IDS  # noqa: E402
from metahpo.integrations.gymnasium.spaces import table  # noqa: E402


def checked(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


@pytest.mark.parametrize("name", IDS)
def test_a_registered_environment_passes_gymnasiums_check_without_a_warning(name):
    checked(gymnasium.make(f"metahpo/{name}-v0").unwrapped)


@pytest.mark.parametrize("name", OWN)
def test_every_other_environment_passes_it_too(name):
    number = list(OWN).index(name)
    gymnasium.register(f"test/Own{number}-v0", entry_point=lambda: Env(OWN[name]()))
    env = gymnasium.make(f"test/Own{number}-v0").unwrapped
    if name == "tuning by numbers":  # which go from -0.1 to 0.1
        env = gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
        with pytest.warns(UserWarning, match="different from the unwrapped"):
            check_env(env)
    else:
        checked(env)


PLAYED = {
    "luby": lambda: mh.rl.luby(8, "fixed").environment,
    "leading ones": lambda: mh.rl.leading_ones(6, (1, 2)).environment,
    "sigmoid": lambda: mh.rl.sigmoid(2, 3).environment,
    "frozen lake": lambda: mh.rl.frozen_lake().environment,
    **{name: OWN[name] for name in ("tuning by choices", "how far")},
}
STEPS = 24


def functional(environment, key):
    def policy(key, seen):
        return mh.space.sample(key, environment.action_space)

    return mh.rl.rollout(key, environment, policy, STEPS)[1]


@pytest.mark.optimised  # bits are compared
@pytest.mark.parametrize("name", PLAYED)
def test_trajectories_are_the_functional_ones_to_the_bit(name):
    environment = PLAYED[name]()
    seed = 5
    whole = jax.jit(lambda: functional(environment, jax.random.key(seed)))()
    whole = jax.device_get(whole)
    env = Env(environment)
    actions, observations = map(table, (environment.action_space, environment.observation_space))
    row = lambda tree, t: jax.tree.map(lambda leaf: leaf[t], tree)  # noqa: E731
    seen, _ = env.reset(seed=seed)
    ends = 0
    for t in range(STEPS):
        same(seen, observations.encode(row(whole.observation, t), ()))
        assert seen in env.observation_space
        action = actions.encode(row(whole.action, t), ())
        assert action in env.action_space
        seen, reward, terminated, truncated, info = env.step(action)
        same(seen, observations.encode(row(whole.next_observation, t), ()))
        assert (reward, terminated, truncated, info) == (
            whole.reward[t], whole.terminated[t], whole.truncated[t], {}
        )  # fmt: skip
        if terminated or truncated:
            seen, _ = env.reset()
            ends += 1
    assert ends > 0 or name == "leading ones"


@pytest.mark.optimised
@pytest.mark.parametrize("name", PLAYED)
def test_lanes_of_a_vector_are_the_functional_trajectories(name):
    environment, lanes, seed = PLAYED[name](), 3, 5
    keys = jax.vmap(jax.random.key)(seed + jnp.arange(lanes, dtype=jnp.uint32))
    whole = jax.jit(jax.vmap(lambda key: functional(environment, key)))(keys)
    whole = jax.device_get(whole)
    env = VectorEnv(environment, lanes)
    actions, observations = map(table, (environment.action_space, environment.observation_space))
    at = lambda tree, t: jax.tree.map(lambda leaf: leaf[:, t], tree)  # noqa: E731
    seen, info = env.reset(seed=seed)
    assert info == {}
    for t in range(STEPS):
        same(seen, observations.encode(at(whole.observation, t), (lanes,)))
        assert seen in env.observation_space
        action = actions.encode(at(whole.action, t), (lanes,))
        seen, reward, terminated, truncated, info = env.step(action)
        assert reward.dtype == np.float64 and terminated.dtype == truncated.dtype == bool
        np.testing.assert_array_equal(reward, whole.reward[:, t])
        np.testing.assert_array_equal(terminated, whole.terminated[:, t])
        np.testing.assert_array_equal(truncated, whole.truncated[:, t])
        ended = terminated | truncated
        assert bool(info) == ended.any()
        if info:
            np.testing.assert_array_equal(info["_final_obs"], ended)
            np.testing.assert_array_equal(info["_final_info"], ended)
        for lane in np.flatnonzero(ended):
            last = jax.tree.map(lambda leaf, lane=lane: leaf[lane, t], whole.next_observation)  # noqa: B023
            same(info["final_obs"][lane], observations.encode(last, ()))
            assert info["final_obs"][lane] in env.single_observation_space


def same(a, b):
    """Equal in value, type and shape."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and np.shape(x) == np.shape(y)
        np.testing.assert_array_equal(x, y)


def test_a_mask_resets_some_lanes_and_seeds_may_be_a_list():
    env = VectorEnv(mh.rl.luby(8).environment, 3)
    env.reset(seed=[4, None, 6])
    for _ in range(2):
        env.step(np.zeros(3, int))
    seen, _ = env.reset(options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(seen["time"][:, 0], [0, 2, 0])
    seen, _ = env.reset()
    np.testing.assert_array_equal(seen["time"][:, 0], 0)


def test_resets_without_a_seed_begin_other_episodes():
    env = Env(mh.rl.sigmoid(1).environment)
    starts = [env.reset(seed=0)[0], env.reset()[0], env.reset()[0]]
    env.step(env.action_space.sample())
    starts += [env.reset()[0], env.reset()[0], env.reset(seed=1)[0]]
    centres = [float(seen["centre"][0]) for seen in starts]
    assert len(set(centres)) == len(centres)
    fresh = [Env(mh.rl.sigmoid(1).environment).reset()[0]["centre"][0] for _ in range(2)]
    assert fresh[0] != fresh[1]


def test_a_task_may_be_given_to_all_episodes():
    environment = mh.rl.sigmoid(1).environment
    task = environment.sample(jax.random.key(3))
    env, lanes = Env(environment, task=task), VectorEnv(environment, 2, task=task)
    for _ in range(2):
        assert env.reset()[0]["centre"] == task.centre
        np.testing.assert_array_equal(lanes.reset()[0]["centre"][:, 0], [task.centre[0]] * 2)


def test_several_choices_are_one_array_in_the_order_of_their_names():
    env = Env(several())
    assert env.action_space == gymnasium.spaces.MultiDiscrete([2, 3, 3])
    env.reset(seed=0)
    seen, reward, *_ = env.step(np.array([1, 2, 0]))
    np.testing.assert_array_equal(seen, [1, 2, 0])
    assert reward == 21.0
    lanes = VectorEnv(several(), 2)
    lanes.reset(seed=0)
    assert lanes.step(np.array([[1, 2, 0], [0, 0, 1]]))[1].tolist() == [21.0, 100.0]


def test_ids_take_the_arguments_of_the_environments():
    env = gymnasium.make("metahpo/LeadingOnes-v0", bits=7, portfolio=(1, 3, 5))
    assert (env.action_space.n, env.observation_space.n) == (3, 8)
    several = gymnasium.make_vec("metahpo/LeadingOnes-v0", num_envs=4, bits=20)
    assert isinstance(several.unwrapped, VectorEnv) and several.num_envs == 4
    again = "metahpo.integrations.gymnasium:metahpo/Luby-v0"
    assert isinstance(gymnasium.make(again, length=16).unwrapped, Env)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Env(3), "environment must be a Environment"),
        (lambda: VectorEnv(several(), 0), "num_envs must be a whole number of at least 1, got 0"),
        (
            lambda: Env(several()._replace(action_space={"a": mh.Constant(1), "b": mh.Int(0, 1)})),
            "gymnasium has no space for Constant.* at a",
        ),
        (lambda: VectorEnv(several(), 2).reset(seed=[1]), "there must be 2 seeds, got 1"),
        (
            lambda: VectorEnv(several(), 2).reset(options={"reset_mask": np.ones(3)}),
            r"reset_mask must be bool\[2\], got float64\[3\]",
        ),
        (
            lambda: VectorEnv(several(), 2).reset(options={"reset_mask": np.ones(2, bool)}),
            "reset_mask is for lanes under way",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "action", "message"),
    [
        ("several choices", [1, 2], r"numbers of shape \(3,\), got \[1, 2\]"),
        ("several choices", [2, 0, 0], r"a choice must be in 0 ... 1, got 2"),
        ("rates", np.array([np.nan], np.float32), "numbers must be finite, got .nan"),
        ("which optimiser", -1, "a choice must be in 0 ... 1, got -1"),
        ("which optimiser", "slow", r"numbers of shape \(\), got 'slow'"),
    ],
)
def test_actions_that_do_not_fit_are_refused(name, action, message):
    env = Env(OWN[name]())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


@pytest.mark.parametrize("name", ["env", "vector_env"])
def test_docstring_examples_run(name):
    module = importlib.import_module(f"metahpo.integrations.gymnasium.{name}")
    failed, tried = doctest.testmod(module)
    assert tried and not failed, "see the captured output"


def test_a_step_needs_a_reset():
    for env in (Env(several()), VectorEnv(several(), 2)):
        with pytest.raises(gymnasium.error.ResetNeeded, match="comes before"):
            env.step(env.action_space.sample())
