"""CartPole and Acrobot: gymnasium's dynamics, and an agent that masters them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import classic_control as study
from experiments.classic_environments import MOST_STEPS, Body, acrobot, cart_pole

gymnasium = pytest.importorskip("gymnasium")
NAMES = {"CartPole-v1": cart_pole, "Acrobot-v1": acrobot}


@pytest.mark.parametrize("name", NAMES)
def test_the_dynamics_are_gymnasiums(name):
    """Random actions from states far apart, the last of an episode included, and then an end."""
    with jax.enable_x64(True):
        own, peer = NAMES[name](), gymnasium.make(name).unwrapped
        step, observe = jax.jit(own.step), jax.jit(own.observe)
        rng = np.random.default_rng(0)
        ends = 0
        for _ in range(30):
            peer.reset(seed=0)
            start = rng.normal(size=4) * (0.1 if name == "CartPole-v1" else 2.0)
            peer.state, state = start.copy(), Body(jnp.asarray(start), jnp.int32(0))
            for _ in range(40):
                action = int(rng.integers(peer.action_space.n))
                seen, reward, terminated, _, _ = peer.step(action)
                state, transition = step(jax.random.key(0), state, jnp.int32(action))
                np.testing.assert_allclose(observe(state), seen, rtol=1e-6, atol=1e-6)
                np.testing.assert_allclose(
                    np.cos(state.place), np.cos(peer.state), rtol=1e-6, atol=1e-6
                )
                assert float(transition.reward) == reward
                assert bool(transition.terminated) == terminated and not transition.truncated
                ends += terminated
                if terminated:
                    break
        assert ends > 5


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_of_time_is_gymnasiums_and_truncates(name):
    own, peer = NAMES[name](), gymnasium.make(name)
    assert peer.spec.max_episode_steps == MOST_STEPS
    still = Body(jnp.zeros(4), jnp.int32(MOST_STEPS - 2))
    step = jax.jit(own.step)
    state, before = step(jax.random.key(0), still, jnp.int32(1))
    _, last = step(jax.random.key(0), state, jnp.int32(1))
    assert not before.truncated and last.truncated and not last.terminated
    peer.reset(seed=0)
    start = peer.unwrapped.state
    lowest, highest = (0.04, 0.05) if name == "CartPole-v1" else (0.08, 0.1)
    drawn = jax.vmap(own.reset, (0, None))(jax.random.split(jax.random.key(0), 500), None).place
    assert drawn.shape[1:] == start.shape
    assert lowest < np.abs(drawn).max() <= highest and abs(float(drawn.mean())) < 0.2 * highest


@pytest.mark.parametrize("name", NAMES)
def test_they_are_environments(name):
    mh.testing.check_environment(NAMES[name]())


@pytest.mark.slow
@pytest.mark.optimised
def test_ppo_balances_the_pole_in_100_000_steps():
    learned = study.learn("CartPole", "PPO", study.Size(seeds=2, stages=1, episodes=20))
    assert (learned.steps <= 100_000).all()
    assert (learned.final >= 475).all(), learned.final
