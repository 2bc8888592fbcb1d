import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

SEGMENTS = 4
TIMID = {"rate": 0.002, "start": 3.0}  # unit rate 0.075, and the best is far above


@pytest.fixture
def environment(descent, space):
    return mh.rl.tuning_environment(
        descent, space, 2, SEGMENTS, hparams=TIMID, adjust=["rate"], moves=(-0.2, 0.0, 0.2)
    )


@pytest.fixture
def policy(environment):
    return mh.rl.softmax_policy(environment, hidden=(8,))


@pytest.mark.parametrize("greedy", [False, True])
def test_unrolled_tuner_is_the_environment_played_by_the_policy(
    descent, environment, policy, greedy
):
    with pytest.deprecated_call(match="policy_problem.* is now rl.problem"):
        tuner = mh.rl.policy_problem(descent, environment, policy, greedy=greedy)
    weights = policy.init(jax.random.key(0))
    train = jax.jit(mh.inner.unroll(tuner, SEGMENTS, record=lambda state: state.unit))
    state, trace = train(jax.random.key(1), weights, 1.3)
    keys = mh.inner.keys(jax.random.key(1))
    played, step = environment.reset(keys.init, 1.3), jax.jit(environment.step)
    for unit in trace:
        observation = environment.observe(played)
        if greedy:
            action = policy.mode(weights, observation)
        else:  # a move that the cube's face stops counts as staying
            action = jnp.sign((unit - played.unit)[:1].round(4)).astype(jnp.int32) + 1
        played, _ = step(keys.steps, played, action)
        np.testing.assert_allclose(played.unit, unit, atol=1e-6)
    np.testing.assert_allclose(state.loss, played.loss, rtol=1e-4)
    np.testing.assert_allclose(
        tuner.loss(keys.loss, weights, 1.3, state), 1.3 * state.training.state**2, rtol=1e-5
    )


@pytest.mark.parametrize("method", ["reinforce", "es"])
def test_trained_policy_raises_the_timid_rate(descent, environment, policy, method):
    # Rates that are too high reach losses of 1e20, which no average over tasks survives.
    tuner = mh.rl.problem(environment, policy, loss=lambda state: jnp.log(state.loss))
    estimator = {
        "reinforce": mh.rl.reinforce(environment, policy, SEGMENTS, rollouts=8),
        "es": mh.hypergrad.es(tuner, SEGMENTS, pairs=8, sigma=0.3),
    }[method]
    untrained = policy.init(jax.random.key(0))

    @jax.jit
    def train(key):
        train_key, test_key = jax.random.split(key)
        optimizer = optax.adam(0.1)
        result = mh.meta_train(
            train_key, tuner, estimator, untrained, optimizer, rounds=60, tasks=8
        )
        both = jax.tree.map(lambda *w: jnp.stack(w), untrained, result.hparams)
        return jax.vmap(
            lambda w: mh.run.fresh_losses(test_key, tuner, w, steps=SEGMENTS, tasks=200).mean()
        )(both)

    before, after = train(jax.random.key(2))
    # By moving up all the time 0.075 -> 0.275, 0.475, 0.675: from there, rates near the best.
    assert after < before - 1.5, (before, after)
