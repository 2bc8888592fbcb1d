import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

RULE = mh.learned_optimizers.per_parameter_mlp(hidden=4, rate=0.05)


def busy_weights(seed=0):
    """Weights with nothing left at zero, as after a meta-training."""
    start, noise = jax.random.split(jax.random.key(seed))
    weights = RULE.init(start)
    return optax.tree.add_scale(weights, 0.3, optax.tree.random_like(noise, weights))


def random_params(seed=0):
    a, b = jax.random.split(jax.random.key(seed))
    return {"w": jax.random.normal(a, (3, 2)), "b": jax.random.normal(b, (2,)), "s": jnp.array(0.5)}


def gradients(seed, params):
    return optax.tree.random_like(jax.random.key(100 + seed), params)


def run(optimizer, params, grads):
    """All updates of a sequence of given gradients."""

    def step(carry, grad):
        params, state = carry
        update, state = optimizer.update(grad, state, params)
        return (optax.apply_updates(params, update), state), update

    @jax.jit
    def loop(params, grads):
        return jax.lax.scan(step, (params, optimizer.init(params)), grads)[1]

    updates = loop(params, jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], updates) for i in range(len(grads))]


def assert_trees_close(actual, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def test_untrained_rule_is_adam():
    with jax.enable_x64(True):
        params = random_params()
        grads = [gradients(seed, params) for seed in range(5)]
        adam = optax.adam(0.05, b1=0.9, b2=0.99, eps=0.0)
        rule = RULE.transform(RULE.init(jax.random.key(0)))
        assert_trees_close(run(rule, params, grads), run(adam, params, grads), rtol=1e-4)


def test_update_is_the_documented_formula():
    with jax.enable_x64(True):
        weights, params = busy_weights(), random_params()
        grads = [gradients(seed, params)["w"] for seed in range(3)]
        updates = run(RULE.transform(weights), params["w"], grads)
        p = np.asarray(params["w"] + updates[0] + updates[1])
        g = [np.asarray(grad) for grad in grads]
        m = [((1 - d) * (d**2 * g[0] + d * g[1] + g[2])) / (1 - d**3) for d in (0.5, 0.9, 0.99)]
        v = 0.01 * (0.99**2 * g[0] ** 2 + 0.99 * g[1] ** 2 + g[2] ** 2) / (1 - 0.99**3)
        x = np.stack(
            [
                *(mk / np.sqrt(v) for mk in m),
                g[2] / np.sqrt(v),
                g[2] / np.sqrt((g[2] ** 2).mean()),
                np.log(v / v.mean()) / 4,
                p / np.sqrt((p**2).mean()),
            ]
        ).reshape(7, 6)
        time = np.tanh(3 / np.array([10, 30, 100, 300, 1000]))
        size = np.log((p**2).mean()) / 10
        c = np.array([*((mk**2).mean() / v.mean() for mk in m), size, *time])
        h = np.tanh(weights.hidden @ x + (weights.context @ c + weights.bias)[:, None])
        direction, rate = weights.skip @ x + weights.out @ h
        expected = -direction / (1 + np.exp(-(weights.rate + rate)))
        np.testing.assert_allclose(updates[2], expected.reshape(3, 2), rtol=1e-5)


def partly_dead():
    """Linear regression with an input that is always zero and a parameter that nothing uses."""

    def loss(params, task, split):
        x, y = task
        return jnp.mean((x @ params["w"] - y) ** 2) + 0.0 * params["unused"].sum()

    def sample(key):
        x = jax.random.normal(key, (20, 3)).at[:, 0].set(0.0)
        return x, x @ jnp.array([1.0, -2.0, 0.5])

    def init(key, task):
        return {"w": jnp.zeros(3), "unused": jnp.zeros(2)}

    family = mh.TaskFamily(sample, init, loss, lambda task: jnp.zeros(1))
    return mh.problems.training(family, optimizer=RULE.transform)


@pytest.mark.parametrize("weights", [RULE.init(jax.random.key(0)), busy_weights()])
def test_zero_gradients_leave_updates_and_hypergradient_finite(weights):
    problem = partly_dead()
    estimator = mh.hypergrad.reverse(problem, steps=10)
    task = problem.sample(jax.random.key(1))
    estimate, _ = jax.jit(estimator.estimate)(jax.random.key(2), weights, task, ())
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(estimate))
    assert estimate.info["grad_norm"] > 1e-3


def test_untrained_rule_leaves_parameters_without_a_gradient_alone():
    problem = partly_dead()
    task = problem.sample(jax.random.key(1))
    weights = RULE.init(jax.random.key(0))
    state = mh.inner.unroll(problem, steps=5)(jax.random.key(2), weights, task)
    assert state.params["w"][0] == 0.0 and (state.params["unused"] == 0.0).all()
    assert (jnp.abs(state.params["w"][1:]) > 0.1).all()


@pytest.mark.slow
def test_evolution_strategies_see_the_same_slope():
    with jax.enable_x64(True):
        problem = partly_dead()
        task, weights = problem.sample(jax.random.key(1)), busy_weights()
        estimators = (
            mh.hypergrad.reverse(problem, steps=5),
            mh.hypergrad.es(problem, steps=5, pairs=2000, sigma=1e-3),
        )
        exact, sampled = (
            jax.jit(e.estimate)(jax.random.key(2), weights, task, ())[0].grad for e in estimators
        )
        cosine = optax.tree.vdot(exact, sampled) / (
            optax.tree.norm(exact) * optax.tree.norm(sampled)
        )
        assert cosine > 0.9  # 100 weights and 2000 pairs: about 0.97


@pytest.mark.parametrize("weight_type", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("param_type", [jnp.float32, jnp.float64])
def test_updates_have_the_type_of_the_parameters(weight_type, param_type):
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda w: w.astype(weight_type), busy_weights())
        params = jax.tree.map(lambda p: p.astype(param_type), random_params())
        optimizer = RULE.transform(weights)
        state = optimizer.init(params)
        updates, after = jax.jit(optimizer.update)(params, state, params)
        assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(param_type)}
        assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)


def test_no_weight_can_overflow_the_rate():
    weights = RULE.init(jax.random.key(0))._replace(rate=jnp.array(1e6))
    params = random_params()
    signs = jax.tree.map(jnp.sign, gradients(0, params))
    (update,) = run(RULE.transform(weights), params, [signs])  # the direction is the sign itself
    assert_trees_close(update, optax.tree.scale(-1.0, signs), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden.*got 0"),
        ({"rate": 0.0}, "rate must be in .*got 0.0"),
        ({"rate": 2.0, "max_rate": 1.0}, "rate must be in .*got 2.0 and 1.0"),
        ({"decays": ()}, "at least one"),
        ({"decays": (0.9, 1.0)}, "decays must be in"),
        ({"second_decay": -0.1}, "decays must be in"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mh.learned_optimizers.per_parameter_mlp(**arguments)
