"""Mixtures, and networks that make the optimiser for a task, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ladder import LIKE, gradients, params_of, scanned

import metahpo as mh
from metahpo import learned_optimizers as lo
from metahpo.learned_optimizers import feedback

KNOWN = {"adam": optax.adam(0.1), "nesterov": optax.sgd(0.3, 0.9, nesterov=True)}
SEEN = np.array([[0.0, 1.0], [2.0, 3.0], [1.0, 5.0]], "f4")


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_a_mixture_of_one_is_that_optimizer_to_the_bit_and_others_are_weighted_sums():
    rule = lo.mixture(KNOWN, like=LIKE, curve=lo.polynomial(5, 1), first="adam")
    start = rule.init(jax.random.key(0))
    np.testing.assert_allclose(jax.nn.softmax(start.logits), [[0.9, 0.1]] * 2, rtol=1e-6)
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), 4)
    each = [jax.jit(scanned, static_argnums=0)(maker, params, grads) for maker in KNOWN.values()]
    run = jax.jit(lambda weights: scanned(rule.transform(weights), params, grads))
    for place, expected in enumerate(each):
        assert_equal(run(lo.one_hot(start, place)), expected)

    # From the same gradients, whatever the parameters: of these optimisers none looks at them.
    logits, line = (
        jnp.log(jnp.array([[1.0, 3.0], [1.0, 1.0]])),
        jnp.array([[0.5, -0.5], [0.0, 0.2]]),
    )
    found = run(lo.MixtureWeights(logits, line))
    x = 2 * np.minimum(np.arange(4) / 4, 1) - 1
    for i, (name, shares) in enumerate({"b": (0.25, 0.75), "w": (0.5, 0.5)}.items()):
        mixed = shares[0] * each[0][name] + shares[1] * each[1][name]
        rates = np.exp(line[i, 0] + line[i, 1] * x).reshape(-1, *[1] * (mixed.ndim - 1))
        np.testing.assert_allclose(found[name], rates * mixed, rtol=2e-5)


def test_the_weights_are_those_of_the_rule_and_the_fallback_is_exact():
    rule = lo.mixture(KNOWN)
    fallback = lo.one_hot(rule.init(jax.random.key(0)), 1)
    made = lo.for_task(rule, SEEN, hidden=3, fallback=fallback, reach=1.0)
    weights = made.init(jax.random.key(0))
    untrained = made.weights(weights, SEEN[0])
    assert_equal(untrained, rule.init(None))
    weights = optax.tree.add(weights, optax.tree.random_like(jax.random.key(1), weights))
    z = (SEEN[1] - SEEN.mean(0)) / SEEN.std(0)
    moved = weights.skip @ z + weights.out @ np.tanh(weights.hidden @ z + weights.bias)
    found = made.weights(weights, SEEN[1])
    np.testing.assert_allclose(found.logits[0], weights.center.logits[0] + moved[:2], rtol=1e-5)
    np.testing.assert_allclose(
        found.log_rates[0], weights.center.log_rates[0] + moved[2:], rtol=1e-5
    )

    far = jnp.array([50.0, 1.0])
    assert made.familiar(SEEN[2]) and not made.familiar(far)
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), 4)
    run = jax.jit(lambda d: scanned(made.transform(weights, d), params, grads))
    expected = jax.jit(scanned, static_argnums=0)(KNOWN["nesterov"], params, grads)
    assert_equal(run(far), expected)
    assert not np.allclose(run(jnp.asarray(SEEN[1]))["b"], expected["b"])


def test_a_task_is_trained_by_the_optimizer_of_its_descriptor():
    def sample(key):
        return jnp.exp(jax.random.normal(key, ()))

    family = mh.TaskFamily(
        sample,
        lambda key, h: jnp.ones(2),
        lambda x, h, split: h * jnp.sum(x**2) / 2,
        lambda h: jnp.log(h)[None],
    )
    seen = np.array([[-1.0], [1.0]])  # in standard units themselves
    made = lo.for_task(lo.learnable(optax.sgd, {"learning_rate": 1.0}), seen, hidden=1)
    problem = lo.described(mh.problems.training(family, lambda told: made.transform(*told)))
    weights = made.init(jax.random.key(0))
    newton = weights._replace(skip=-jnp.ones((1, 1)))  # log rate = -log h
    loss = jax.jit(lambda w: mh.run.fresh_losses(jax.random.key(1), problem, w, steps=1, tasks=5))
    np.testing.assert_allclose(loss(newton), 0.0, atol=1e-10)
    assert (loss(weights) > 1e-6).all()
    slope = jax.jit(mh.hypergrad.reverse(problem, 1).estimate)(
        jax.random.key(2), weights, jnp.array(2.0), ()
    )[0].grad
    # d/da of h (1 - a h)^2 at a = 1, h = 2 in the log rate: -2 h^2 (1 - a h) a = 8; and by log 2.
    np.testing.assert_allclose(slope.center["learning_rate"], 8.0, rtol=1e-5)
    np.testing.assert_allclose(slope.skip[0, 0], 8.0 * np.log(2.0), rtol=1e-5)


def test_feedback_is_what_training_shows_free_of_units_and_moves_the_weights():
    params, grad = {"w": jnp.ones(4)}, {"w": jnp.array([1.0, -1.0, 1.0, 1.0])}

    def shown(scale, losses):
        def step(state, value):
            grads = jax.tree.map(lambda g: scale * g, grad)
            state = feedback.heard(state, grads, scale * value)
            return state, feedback.features(state)

        return jax.lax.scan(step, feedback.silent(params), losses)[1]

    losses = jnp.array([2.0, 1.0, 0.5])
    rows = jax.jit(shown)(1.0, losses)
    np.testing.assert_allclose(jax.jit(shown)(100.0, losses), rows, rtol=1e-3, atol=1e-5)
    fast = np.array([0.2 * 0.8**k for k in (2, 1, 0)]) @ losses / (1 - 0.8**3)
    slow = np.array([0.03 * 0.97**k for k in (2, 1, 0)]) @ losses / (1 - 0.97**3)
    expected = [0.2 * np.log(fast / 2), (fast - slow) / slow, 0.0, 0.0, 0.2 * np.log(4)]
    np.testing.assert_allclose(rows[2], expected, atol=1e-4)

    rule = lo.learnable(optax.sgd, {"learning_rate": 0.5})
    made = lo.for_task(rule, SEEN, hidden=2, feedback=True)
    weights = made.init(jax.random.key(0))
    steer = weights._replace(skip=weights.skip.at[0, 2 + 4].set(1.0))  # by the time alone
    optimizer = made.transform(steer, SEEN.mean(0))
    state = optimizer.init(params)
    update = jax.jit(lambda state, value: optimizer.update(grad, state, params, value=value))
    for t in (1, 2):
        updates, state = update(state, jnp.array(1.0))
        np.testing.assert_allclose(updates["w"], -0.5 * (1 + t) ** 0.2 * grad["w"], rtol=1e-5)
    with pytest.raises(ValueError, match="value=loss"):
        optimizer.update(grad, state, params)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lo.mixture({"sgd": optax.sgd(0.1)}), "at least two optimisers, got"),
        (lambda: lo.mixture({"a": optax.sgd(0.1), "b": optax.sgd}), "the optimiser 'b' must be"),
        (lambda: lo.mixture(KNOWN, first="lion"), "first must be one of"),
        (lambda: lo.for_task(KNOWN["adam"], SEEN), "rule must be"),
        (lambda: lo.for_task(lo.mixture(KNOWN), SEEN[0]), r"f\[N, F\] of at least two"),
        (lambda: lo.for_task(lo.mixture(KNOWN), SEEN * np.nan), "finite descriptors"),
        (lambda: lo.for_task(lo.mixture(KNOWN), SEEN, reach=0.0), "reach must be positive"),
        (lambda: lo.for_task(lo.mixture(KNOWN), SEEN, fallback={}), "fallback must keep"),
        (lambda: lo.steered(rate=0.0), "rate must be positive"),
        (lambda: lo.steered(decays=(0.5,)), "decays must be in"),
        (lambda: lo.described(KNOWN["adam"]), "problem must be"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_descriptor_of_another_shape_is_refused():
    made = lo.for_task(lo.mixture(KNOWN), SEEN)
    weights = made.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"a descriptor must have the shape \(2,\), got \(3,\)"):
        made.transform(weights, jnp.ones(3)).init(jnp.ones(2))
