"""An optimiser's steps as a process: what a step does, what it is worth, and what is seen of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.testing import check_environment

KEY, STEPS = jax.random.key(0), 6
BOTH = {"sgd": optax.sgd(0.1, momentum=0.9), "adam": optax.adam(0.05)}


def bowls(units=1.0, loss=lambda x: x):
    """``sum c (x / units)^2 / 2`` with random curvatures, from 1."""

    def sample(key):
        return jax.random.uniform(key, (3,), minval=0.5, maxval=2.0)

    def init(key, task):
        return {"x": units * jnp.ones(3) * (1 + 0.1 * jax.random.normal(key, (3,)))}

    def of(params, task, split):
        return loss((task * (params["x"] / units) ** 2).sum() / 2)

    return mh.TaskFamily(sample, init, of)


TASK = jnp.array([0.5, 1.0, 2.0])


def played(environment, actions, key=KEY, task=TASK):
    """The states from the first to the last, and the rewards."""

    @jax.jit
    def run(key, actions):
        start = environment.reset(key, task)

        def step(state, action):
            new, transition = environment.step(KEY, state, action)
            return new, (new, transition.reward)

        _, (states, rewards) = jax.lax.scan(step, start, jnp.asarray(actions))
        both = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, states)
        return both, rewards, jax.vmap(environment.observe)(both)

    return run(key, actions)


def test_the_action_chooses_who_steps_and_all_see_every_gradient():
    environment = mh.rl.optimizer_environment(bowls(), BOTH, STEPS)
    assert environment.action_space == mh.Choice(("sgd", "adam"))
    actions = [0, 1, 1, 0, 1, 0]
    states, _, _ = played(environment, actions)
    params = jax.tree.map(lambda leaf: leaf[0], states.params)
    each = [one.init(params) for one in BOTH.values()]
    for action, after in zip(actions, states.params["x"][1:], strict=True):
        grads = {"x": TASK * params["x"]}
        pairs = [one.update(grads, own) for one, own in zip(BOTH.values(), each, strict=True)]
        params, each = optax.apply_updates(params, pairs[action][0]), [own for _, own in pairs]
        np.testing.assert_allclose(after, params["x"], rtol=1e-5)


def test_the_action_scales_the_step_by_powers():
    environment = mh.rl.optimizer_environment(bowls(), optax.sgd(0.1), STEPS, scale=4.0)
    assert environment.action_space == mh.Float(-1.0, 1.0)
    actions = np.array([0.0, 1.0, -1.0, 0.5, 7.0, -7.0])
    states, _, seen = played(environment, actions)
    x = np.asarray(states.params["x"])
    factors = (x[1:] - x[:-1]) / (-0.1 * np.asarray(TASK) * x[:-1])
    bounded = np.clip(actions, -1, 1)
    np.testing.assert_allclose(factors, np.tile(4.0 ** bounded[:, None], 3), rtol=2e-3)
    np.testing.assert_array_equal(seen[1:, 5], bounded.astype(np.float32))


@pytest.mark.parametrize("log", [False, True])
def test_rewards_sum_to_the_fall_of_the_loss_and_the_time_ends_it(log):
    environment = mh.rl.optimizer_environment(bowls(), BOTH, STEPS, log_reward=log)
    states, rewards, seen = played(environment, [0, 0, 1, 1, 0, 1])
    before, after = states.loss[0], states.loss[-1]
    expected = jnp.log(before / after) if log else before - after
    assert abs(expected) > 0.1
    assert float(rewards.sum()) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(seen[:, 0], np.linspace(-1, 1, STEPS + 1), atol=1e-6)
    last = jax.tree.map(lambda leaf: leaf[-2], states)
    _, transition = environment.step(KEY, last, jnp.int32(0))
    assert bool(transition.terminated) and not bool(transition.truncated)


def test_an_observation_is_the_history_of_losses_and_gradients():
    environment = mh.rl.optimizer_environment(bowls(), BOTH, STEPS, history=2)
    states, _, seen = played(environment, [0, 1, 1])
    x = np.asarray(states.params["x"], float)
    loss, grad, moved = (np.asarray(TASK) * x**2).sum(1) / 2, np.asarray(TASK) * x, x[1:] - x[:-1]
    norm = np.linalg.norm(grad, axis=1)
    rows = []
    for t, action in enumerate([0, 1, 1]):
        rows += [
            [
                (loss[t] - loss[t + 1]) / (loss[t] + loss[t + 1]),
                (norm[t] - norm[t + 1]) / (norm[t] + norm[t + 1]),
                grad[t] @ grad[t + 1] / norm[t] / norm[t + 1],
                moved[t] @ grad[t + 1] / np.linalg.norm(moved[t]) / norm[t + 1],
                action == 0,
                action == 1,
            ]
        ]
    expected = [[0.0], np.concatenate([rows[2], rows[1]])]
    np.testing.assert_allclose(seen[3], np.concatenate(expected), rtol=2e-3, atol=1e-5)
    np.testing.assert_array_equal(seen[0, 1:], 0)
    np.testing.assert_array_equal(seen[1, 7:], 0)


@pytest.mark.parametrize(
    ("change", "rate"),
    [({"loss": lambda x: 1e12 * x}, 1e-13), ({"units": 1e6}, 1e11), ({"units": 1e-6}, 1e-13)],
)
def test_an_observation_has_no_units(change, rate):
    actions = [0.5, -0.5, 1.0]
    _, _, plain = played(mh.rl.optimizer_environment(bowls(), optax.sgd(0.1), STEPS), actions)
    other = mh.rl.optimizer_environment(bowls(**change), optax.sgd(rate), STEPS)
    np.testing.assert_allclose(played(other, actions)[2], plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("log", [False, True])
def test_an_optimisation_that_diverges_costs_a_finite_penalty_and_is_counted(log):
    environment = mh.rl.optimizer_environment(
        bowls(), optax.sgd(1e12), 5, penalty=2.0, log_reward=log
    )
    states, rewards, seen = played(environment, [1.0] * 5)
    assert not jnp.isfinite(states.loss[-1]) and int(states.diverged[-1]) >= 2
    expected = -np.log(3.0) if log else -2.0 * float(states.initial[0])
    np.testing.assert_allclose(rewards, [expected, 0, 0, 0, 0], rtol=1e-5)
    assert jnp.isfinite(seen).all() and (jnp.abs(seen) <= 1).all()


def test_minibatches_and_the_other_split_are_seen_where_they_should_be():
    family = mh.problems.sinusoid(shots=8, queries=5)
    part = lambda key, task: task._replace(  # noqa: E731
        support=jax.tree.map(lambda x: x[jax.random.randint(key, (2,), 0, 8)], task.support)
    )
    environment = mh.rl.optimizer_environment(family, BOTH, STEPS, minibatch=part, split="query")

    @jax.jit
    def run(key):
        task = family.sample(key)
        state = environment.reset(key, task)
        new, _ = environment.step(jax.random.key(7), state, jnp.int32(0))
        grad = jax.grad(family.loss)(new.params, part(jax.random.key(7), task), "support")
        return state, new, grad, family.loss(new.params, task, "query")

    _, new, grad, loss = run(KEY)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), new.grad, grad
    )
    assert float(new.loss) == pytest.approx(float(loss), rel=1e-5)


def test_a_policy_of_step_sizes_has_the_hypergradient_of_finite_differences():
    with jax.enable_x64(True):
        task = TASK.astype(float)
        environment = mh.rl.optimizer_environment(bowls(), optax.adam(0.1), 4, log_reward=True)
        process = mh.rl.problem(environment, lambda key, w, seen: jnp.tanh(w @ seen))
        loss = jax.jit(lambda w: mh.inner.outer_loss(process, 4)(KEY, w, task)[0])
        at = jnp.linspace(-0.5, 0.6, environment.observation_space.shape[0])
        grad = jax.jit(jax.grad(lambda w: mh.inner.outer_loss(process, 4)(KEY, w, task)[0]))(at)
        for direction in np.random.default_rng(0).normal(size=(3, len(at))):
            expected = (loss(at + 1e-6 * direction) - loss(at - 1e-6 * direction)) / 2e-6
            assert float(grad @ direction) == pytest.approx(float(expected), rel=1e-5)
            assert abs(expected) > 1e-3


@pytest.mark.parametrize("optimizers", [BOTH, optax.sgd(0.1)], ids=["choice", "scale"])
def test_it_passes_the_check_of_environments(optimizers):
    check_environment(mh.rl.optimizer_environment(bowls(), optimizers, 3), steps=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": 3}, "family must be a TaskFamily.*got 3"),
        ({"optimizers": {}}, "optimizers must be one or several by name, got none"),
        ({"optimizers": optax.sgd}, "optimizers must be a GradientTransformation.*not called"),
        ({"optimizers": {"a": 3}}, r"optimizers\['a'\] must be a GradientTransformation.*got 3"),
        ({"steps": 0}, "steps.*got 0"),
        ({"history": 0}, "history.*got 0"),
        ({"scale": 1.0}, "scale must be above 1, got 1.0"),
        ({"split": "test"}, "split must be one of .*got 'test'"),
        ({"penalty": 0.0}, "penalty must be positive.*0.0"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    arguments = {"family": bowls(), "optimizers": BOTH, "steps": 3} | change
    with pytest.raises(ValueError, match=message):
        mh.rl.optimizer_environment(**arguments)
