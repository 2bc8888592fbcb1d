"""An environment as a Problem: what is played, judged and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY, STEPS = jax.random.key(0), 5
RATES = mh.rl.chebyshev(10.0, STEPS, continuous=True)


def table(key, weights, time):
    return weights["rates"][time]


@pytest.mark.parametrize("greedy", [False, True])
def test_an_episode_is_that_of_the_environment_up_to_its_end(greedy):
    environment = mh.rl.leading_ones(4, (1, 2)).environment
    policy = mh.rl.softmax_policy(environment, hidden=())
    process = mh.rl.problem(environment, policy, greedy=greedy, discount=0.9)
    steps = 60

    def act(key, observation):
        if greedy:
            return policy.mode(weights, observation)
        return policy.sample(key, weights, observation)

    @jax.jit
    def both(key):
        keys = mh.inner.keys(key)
        start = environment.reset(keys.init, None)
        return (
            mh.inner.unroll(process, steps)(key, weights, None),
            mh.inner.outer_loss(process, steps)(key, weights, None)[0],
            mh.rl.episode(keys.steps, environment, act, steps, start),
        )

    weights = process.initial(jax.random.key(1))
    played, loss, (state, trajectory) = jax.vmap(both)(jax.random.split(jax.random.key(2), 16))
    expected = (trajectory.reward * 0.9 ** np.arange(steps)).sum(axis=1)
    np.testing.assert_allclose(played.returned, expected, rtol=1e-5)
    np.testing.assert_array_equal(loss, -played.returned)
    jax.tree.map(np.testing.assert_array_equal, played.state, state)
    assert played.ended.any()
    np.testing.assert_array_equal(played.ended, trajectory.terminated[:, -1])


def test_the_hypergradient_through_transitions_is_that_of_finite_differences():
    with jax.enable_x64(True):
        process = mh.rl.problem(RATES.environment, table)
        loss = jax.jit(lambda w: mh.inner.outer_loss(process, STEPS)(KEY, {"rates": w}, None)[0])
        at = jnp.array([0.9, 0.5, 0.1, -0.4, -0.8])
        assert float(loss(at)) == pytest.approx(-RATES.value(np.asarray(at)), rel=1e-12)
        for mode in (mh.hypergrad.reverse, mh.hypergrad.forward):
            estimate, _ = jax.jit(mode(process, STEPS).estimate)(KEY, {"rates": at}, None, ())
            grad = np.asarray(estimate.grad["rates"])
            step = 1e-6 * np.eye(STEPS)
            expected = [(loss(at + h) - loss(at - h)) / 2e-6 for h in step]
            np.testing.assert_allclose(grad, expected, rtol=1e-7)
        assert (np.abs(grad) > 0.01).all()


def test_every_estimator_that_can_see_rates_points_where_the_return_rises():
    process = mh.rl.problem(RATES.environment, table)
    at = {"rates": jnp.array([0.9, 0.5, 0.1, -0.4, -0.8])}
    h = mh.hypergrad
    estimators = {
        "reverse": h.reverse(process, STEPS),
        "forward": h.forward(process, STEPS),
        "first order": h.first_order(process, STEPS),
        "es": h.es(process, STEPS, pairs=200, sigma=0.01),
        "nres": h.nres(process, STEPS, STEPS, pairs=200, sigma=0.01),
        "pes": h.pes(process, STEPS, STEPS, pairs=200, sigma=0.01),
        "mixture": h.mixture(process, STEPS, pairs=200, sigma=0.01),
    }

    @jax.jit
    def estimates():
        return {
            name: one.estimate(KEY, at, None, one.init(KEY, at, None))[0].grad["rates"]
            for name, one in estimators.items()
        }

    found = estimates()
    exact = found["reverse"]
    for name, grad in found.items():
        cosine = grad @ exact / (jnp.linalg.norm(grad) * jnp.linalg.norm(exact))
        assert cosine > (0.9999 if name in ("forward", "first order") else 0.95), (name, cosine)


def test_search_and_meta_train_find_the_best_rates():
    process = mh.rl.problem(RATES.environment, table)
    space = {"rates": mh.Float(-1.0, 1.0, shape=(STEPS,))}

    @jax.jit
    def runs(key):
        found = mh.search(
            key, process, space, mh.strategies.cma_es(space, 8), rounds=300, steps=STEPS
        )
        optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 400))
        start = {"rates": jnp.linspace(0.5, -0.5, STEPS)}
        estimator = mh.hypergrad.reverse(process, STEPS)
        learned = mh.meta_train(key, process, estimator, start, optimizer, rounds=400, tasks=1)
        return found.best_loss, learned.history.loss.min()

    searched, learned = (RATES.optimal() + float(loss) for loss in runs(KEY))
    assert abs(searched) < 1e-4
    # Where maxima are equal the gradient sees one at a time, so descent stops a little above.
    assert 0 < learned < 0.05 < 1.5 < RATES.optimal() - RATES.static()


def test_another_loss_of_the_last_state_and_its_model(descent, space):
    environment = mh.rl.tuning_environment(descent, space, 2, 3)
    policy = mh.rl.softmax_policy(environment)
    process = mh.rl.problem(
        environment,
        policy,
        loss=lambda state: state.loss,
        predict=lambda state, x: state.training.state * x,
    )
    weights = policy.init(KEY)
    loss, played = jax.jit(mh.inner.outer_loss(process, 3))(KEY, weights, 1.3)
    assert float(loss) == pytest.approx(1.3 * float(played.state.training.state) ** 2, rel=1e-5)
    assert process.predict(played, 2.0) == 2 * played.state.training.state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, table), "environment must be a Environment, as mh.rl.tuning_environment"),
        ((RATES.environment, 3), r"policy must be a function \(key, weights, observation\)"),
        ((RATES.environment, lambda key: key), "policy must be a function"),
        ((RATES.environment, table, {"greedy": True}), "greedy is for a Policy"),
        ((RATES.environment, table, {"discount": 1.1}), r"discount must be in \[0, 1\], got 1.1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    *plain, named = arguments if len(arguments) == 3 else (*arguments, {})
    with pytest.raises(ValueError, match=message):
        mh.rl.problem(*plain, **named)


def test_what_it_has_no_use_for_is_refused():
    process = mh.rl.problem(RATES.environment, table)
    with pytest.raises(ValueError, match="an inner loss has no use here"):
        process.lift(lambda hparams, task, params: 0.0)
    wrong = mh.rl.problem(RATES.environment, lambda key, weights, time: time)
    with pytest.raises(ValueError, match="an action must be of type floating, got int32"):
        jax.eval_shape(mh.inner.unroll(wrong, 1), KEY, {}, None)
