"""Each rung of the ladder against the formulas that it claims, or an independent implementation."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ladder import LIKE, busy_weights, gradients, params_of, scanned

import metahpo as mh
from metahpo import learned_optimizers as lo
from metahpo.learned_optimizers.lstm import CellState, cell, cell_weights
from metahpo.learned_optimizers.per_parameter_mlp import rule_step

STEPS = 4


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def assert_close(actual, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def both(*optimizers, steps=STEPS):
    """The updates of several optimisers on the same gradients."""
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), steps)
    return jax.jit(lambda: [scanned(optimizer, params, grads) for optimizer in optimizers])()


def started(rule):
    return rule.transform(rule.init(jax.random.key(0)))


def test_learnable_numbers_begin_as_the_optimiser_that_they_belong_to():
    adamw = {"learning_rate": 0.03, "b1": 0.8, "b2": 0.95, "eps": 1e-4, "weight_decay": 0.02}
    nesterov = partial(optax.sgd, nesterov=True)
    per = {"learning_rate": "parameter", "b1": "layer", "b2": "parameter"}
    pairs = [
        (lo.learnable(optax.adamw, adamw), optax.adamw(**adamw)),
        (lo.learnable(optax.adamw, adamw, per=per, like=LIKE), optax.adamw(**adamw)),
        (lo.learnable(nesterov, {"learning_rate": 0.1, "momentum": 0.7}), nesterov(0.1, 0.7)),
    ]
    found = both(*(started(rule) for rule, _ in pairs), *(optimizer for _, optimizer in pairs))
    for own, expected in zip(found[:3], found[3:], strict=True):
        assert_close(own, expected, rtol=1e-10)


def test_numbers_of_layers_and_parameters_are_those_of_optimisers_by_themselves():
    rates = {"b": 0.1, "w": np.arange(1.0, 7.0).reshape(3, 2) / 10}
    per = {"learning_rate": "parameter", "b1": "layer"}
    rule = lo.learnable(optax.adam, {"learning_rate": 0.1, "b1": 0.9}, per=per, like=LIKE)
    moments = {"b": 0.6, "w": 0.7}
    weights = {
        "learning_rate": jax.tree.map(lambda r, x: jnp.log(r + 0 * x), rates, LIKE),
        "b1": jax.tree.map(lambda m: jnp.log(m / (1 - m)), moments),
    }
    alone = [optax.adam(1.0, b1=moment) for moment in moments.values()]
    found, *by_layer = both(rule.transform(weights), *alone)
    for (name, rate), updates in zip(rates.items(), by_layer, strict=True):
        np.testing.assert_allclose(found[name], rate * updates[name], rtol=1e-10)
    np.testing.assert_allclose(lo.learned_numbers(weights)["b1"]["b"], 0.6, rtol=1e-12)


def test_the_hypergradient_of_a_rate_per_parameter_is_minus_the_product_of_two_gradients():
    hessian = jnp.array([[2.0, 0.3], [0.3, 1.0]])
    family = mh.TaskFamily(
        lambda key: None,
        lambda key, task: jnp.array([1.0, -2.0]),
        lambda p, t, s: p @ hessian @ p / 2,
    )
    per = {"learning_rate": "parameter"}
    rule = lo.learnable(optax.sgd, {"learning_rate": 0.1}, per=per, like=np.zeros(2))
    problem = mh.problems.training(family, rule.transform)
    weights = rule.init(jax.random.key(0))
    found, _ = mh.hypergrad.reverse(problem, 1).estimate(jax.random.key(0), weights, None, ())
    before = hessian @ jnp.array([1.0, -2.0])
    after = hessian @ (jnp.array([1.0, -2.0]) - 0.1 * before)
    # With respect to the rate's logarithm.
    np.testing.assert_allclose(found.grad["learning_rate"], -0.1 * before * after, rtol=1e-10)


def test_a_scheduled_optimiser_is_optax_with_these_schedules():
    curves = {"learning_rate": lo.per_step(3), "b1": lo.polynomial(4, 1)}
    rule = lo.scheduled(optax.adam, {"learning_rate": 0.1, "b1": 0.9}, curves)
    weights = busy_weights(rule)
    schedules = lo.learned_schedules(weights, curves)
    injected = optax.inject_hyperparams(optax.adam)(**schedules)
    found, expected = both(rule.transform(weights), injected, steps=6)
    assert_close(found, expected, rtol=1e-10)
    rates = jnp.exp(weights["learning_rate"])
    given = [float(schedules["learning_rate"](t)) for t in range(5)]
    np.testing.assert_allclose(given, rates[jnp.array([0, 1, 2, 2, 2])], rtol=1e-12)
    assert not np.allclose(schedules["b1"](0), schedules["b1"](3))


def test_a_spline_is_the_b_spline_of_scipy_and_a_polynomial_that_of_numpy():
    interpolate = pytest.importorskip("scipy.interpolate")
    weights = np.random.default_rng(0).normal(size=7)
    steps = 21
    x = np.linspace(0.0, 1.0, steps)
    knots = np.arange(-3, 8) / 4  # 7 - 3 segments
    expected = interpolate.BSpline(knots, weights, 3)(x)
    value = jax.jit(jax.vmap(lo.spline(steps, 7).value, (None, 0)))
    np.testing.assert_allclose(value(jnp.array(weights), jnp.arange(steps)), expected, rtol=1e-10)
    value = jax.vmap(lo.polynomial(steps, 6).value, (None, 0))(
        jnp.array(weights), jnp.arange(steps)
    )
    expected = np.polynomial.chebyshev.chebval(2 * x - 1, weights)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    for curve in (lo.spline(steps, 7), lo.polynomial(steps, 6), lo.per_step(steps)):
        constant = curve.init(jnp.array(0.3))
        np.testing.assert_allclose([curve.value(constant, t) for t in (0, 9, 99)], 0.3, rtol=1e-12)


def factored_features(grads, param, decays, second_decay, factored):
    """The 39 features after all gradients, in numpy, from their definition as weighted means."""
    t = len(grads)

    def mean(decay, values):
        weights = decay ** np.arange(t - 1, -1, -1.0)
        return np.tensordot(weights / weights.sum(), np.stack(values), 1)

    squares = [g**2 for g in grads]
    momenta = [mean(d, grads) for d in decays]
    second = mean(second_decay, squares)
    unit = second.mean()
    full = [mean(d, squares) / unit + 1e-8 for d in factored]
    if param.ndim == 2:
        row = [np.repeat(f.mean(1, keepdims=True), f.shape[1], 1) for f in full]
        column = [np.repeat(f.mean(0, keepdims=True), f.shape[0], 0) for f in full]
        product = [r * c / r.mean() for r, c in zip(row, column, strict=True)]
    else:
        row = column = product = full
    second = second / unit + 1e-8
    g, m = grads[-1] / np.sqrt(unit), [x / np.sqrt(unit) for x in momenta]
    one = lambda x: x / np.sqrt((x**2).mean())  # noqa: E731
    found = [g, one(param), *m, second, one(second**-0.5), *(x * second**-0.5 for x in m)]
    found += [g * f**-0.5 for f in product]
    found += [x * f**-0.5 for x, f in zip(m, product, strict=True)]
    found += [*row, *(one(r**-0.5) for r in row), *column, *(one(c**-0.5) for c in column)]
    times = [np.full(param.shape, np.tanh(t / 10 ** (k / 2))) for k in range(11)]
    return np.stack(found + times)


def test_the_factored_rule_is_its_formula():
    rule = lo.factored_mlp(rate=0.1)
    weights = busy_weights(rule)
    assert sum(leaf.size for leaf in weights) == 197
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), STEPS)
    updates = jax.jit(lambda w: scanned(rule.transform(w), params, grads))(weights)
    w = jax.tree.map(np.asarray, weights)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    for name, param in params.items():
        now = np.asarray(param + updates[name][:-1].sum(0))
        history = [np.asarray(g) for g in grads[name]]
        x = factored_features(
            history, now, sigmoid(w.momenta), sigmoid(w.second), sigmoid(w.factored)
        )
        h = np.maximum(np.tensordot(w.first, x, 1) + w.first_bias.reshape(-1, *[1] * now.ndim), 0)
        h = np.maximum(np.tensordot(w.middle, h, 1) + w.middle_bias.reshape(-1, *[1] * now.ndim), 0)
        direction, rate = np.tensordot(w.out, h, 1) + w.out_bias.reshape(-1, *[1] * now.ndim)
        np.testing.assert_allclose(updates[name][-1], -sigmoid(rate) * direction, rtol=1e-7)


def test_the_untrained_factored_rule_is_adam():
    adam = optax.adam(0.05, b1=0.9, b2=0.999, eps=0.0)
    found, expected = both(started(lo.factored_mlp(rate=0.05)), adam)
    assert_close(found, expected, rtol=1e-5)


def flax_cell(weights, state, x):
    """The same step by flax's cell, whose gates i, f, g, o are matrices of their own."""
    size = state.hidden.shape[0]
    gates = dict(zip("ifog", range(4), strict=True))
    part = lambda array, gate: array[gates[gate] * size : (gates[gate] + 1) * size].T  # noqa: E731
    params = {f"i{gate}": {"kernel": part(weights.inputs, gate)} for gate in gates}
    params |= {
        f"h{gate}": {"kernel": part(weights.hidden, gate), "bias": part(weights.bias, gate)}
        for gate in gates
    }
    model = nn.LSTMCell(size, param_dtype=jnp.float64)
    (memory, hidden), _ = model.apply({"params": params}, (state.memory.T, state.hidden.T), x.T)
    return CellState(hidden.T, memory.T)


def test_the_cell_is_that_of_flax():
    weights = cell_weights(jax.random.key(0), inputs=3, hidden=5)
    noise = jax.random.normal(jax.random.key(1), (13, 4))
    state, x = CellState(noise[:5], noise[5:10]), noise[10:]
    assert_close(cell(weights, state, x), flax_cell(weights, state, x), rtol=1e-10)


def test_the_recurrent_rule_runs_flax_cells_on_log_and_sign():
    rule = lo.recurrent(hidden=3, layers=2, scale=0.2, precision=5.0)
    weights = busy_weights(rule)
    grads = jnp.array([[1.0, -1e-3], [0.0, 30.0]])
    updates = jax.jit(lambda w: scanned(rule.transform(w), jnp.zeros(2), grads))(weights)
    states = [CellState(jnp.zeros((3, 2)), jnp.zeros((3, 2)))] * 2
    for t, grad in enumerate(np.asarray(grads)):
        size = np.abs(grad)
        log = np.log(np.maximum(size, np.exp(-5.0))) / 5  # -1 below
        x = jnp.array([log, np.where(size >= np.exp(-5.0), np.sign(grad), np.exp(5.0) * grad)])
        for i, own in enumerate(weights.cells):
            states[i] = flax_cell(own, states[i], x)
            x = states[i].hidden
        np.testing.assert_allclose(updates[t], 0.2 * (weights.out @ x + weights.bias), rtol=1e-9)


def test_what_tensors_say_enters_as_documented():
    rule = lo.two_level(hidden=4, memory=3, rate=0.05)
    weights = busy_weights(rule)
    silent = weights._replace(steer=0 * weights.steer, rate=0 * weights.rate)
    lower = lo.per_parameter_mlp(hidden=4, rate=0.05)
    own, alone = both(rule.transform(silent), lower.transform(weights.parameter))
    assert_close(own, alone, rtol=1e-10)

    # What two tensors said at the first update is heard by both at the second.
    params, grads = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([0.5])}, []
    optimizer = rule.transform(weights)
    state, common = optimizer.init(params), np.zeros((3, 1))
    update, inner = jax.jit(optimizer.update), weights.parameter
    for t in range(2):
        grads.append({"a": jnp.array([0.3, -1.0 + t]), "b": jnp.array([2.0 - 3 * t])})
        updates, after = update(grads[-1], state, params)
        for before, new, name in zip(state.tensors, after.tensors, params, strict=True):
            g = np.stack([grad[name] for grad in grads])
            decay = np.array([0.5, 0.9, 0.99])[:, None] ** np.arange(t, -1, -1.0)
            decay /= decay.sum(1, keepdims=True)
            m, v = decay @ g, decay[2] @ g**2
            consistency, size = (m**2).mean(1) / v.mean(), np.log((params[name] ** 2).mean()) / 10
            time = np.tanh((t + 1) / np.array([10, 30, 100, 300, 1000]))
            x = np.concatenate([np.array([*consistency, size, *time])[:, None], common])
            assert_close(new.tensor, flax_cell(weights.tensor, before.tensor, x), rtol=1e-6)
            z = new.tensor.hidden[:, 0]
            steered = inner._replace(
                bias=inner.bias + weights.steer @ z, rate=inner.rate + weights.rate @ z
            )
            moments = [*map(jnp.array, m)], jnp.array(v)
            expected = rule_step(
                steered, 1.0, jnp.array(t + 1), grads[-1][name], *moments, params[name]
            )
            np.testing.assert_allclose(updates[name], expected, rtol=1e-8)
        common, state = np.mean([new.tensor.hidden for new in after.tensors], axis=0), after


def test_terms_are_the_published_rules():
    one = lambda term: started(lo.symbolic([term], rate=0.1))  # noqa: E731
    known = {
        "gradient": optax.sgd(0.1),
        "sign": optax.sign_sgd(0.1),
        "lion": optax.lion(0.1, weight_decay=0.0),
        "adam": optax.adam(0.1, eps=0.0, eps_root=1e-16),
        "rms_prop": optax.adam(0.1, b1=0.0, eps=0.0, eps_root=1e-16),
    }
    own = [*known, "power_sign", "add_sign", "decay"]
    found = dict(
        zip(
            [*own, *(f"optax {n}" for n in known)],
            both(*map(one, own), *known.values()),
            strict=True,
        )
    )
    for name in known:
        assert_close(found[name], found[f"optax {name}"], rtol=1e-9)
    g = np.asarray(gradients(jax.random.key(2), STEPS)["w"])
    m = np.stack([sum(0.9 ** (t - s) * g[s] for s in range(t + 1)) for t in range(STEPS)])
    agree = np.sign(g) * np.sign(m)
    assert {-1.0, 1.0} == set(agree.ravel())
    np.testing.assert_allclose(found["power_sign"]["w"], -0.1 * np.exp(agree) * g, rtol=1e-9)
    np.testing.assert_allclose(found["add_sign"]["w"], -0.1 * (1 + agree) * g, rtol=1e-9)
    p = np.asarray(params_of(jax.random.key(1))["w"])
    expected = -0.1 * p * 0.9 ** np.arange(STEPS)[:, None, None]
    np.testing.assert_allclose(found["decay"]["w"], expected, rtol=1e-9)


def test_formulas_of_the_grammar_are_what_they_say():
    cases = {
        "0.1 gradient * exp(agreement)": (
            ("gradient", "itself", "times", "agreement", "exp"),
            "power_sign",
        ),
        "0.1 gradient": (("gradient",), "gradient"),
        "0.1 sign(momentum)": (("momentum", "sign"), "sign_momentum"),
        "0.1 adam / (1 + |one|)": (("adam", "itself", "over", "one"), "adam"),
    }
    rules = [lo.expression(lo.expression_hparams(0.1, *names)) for names, _ in cases.values()]
    terms = [started(lo.symbolic([term], rate=0.1)) for _, term in cases.values()]
    found = both(*rules, *terms)
    for text, (names, _) in cases.items():
        assert lo.formula(lo.expression_hparams(0.1, *names)) == text
    for i, text in enumerate(cases):
        half = 0.5 if "/ (1" in text else 1.0
        assert_close(found[i], jax.tree.map(lambda x, h=half: h * x, found[4 + i]), rtol=1e-9)


@pytest.mark.slow
def test_evolution_finds_a_formula_that_beats_the_best_rate_of_gradient_descent():
    with jax.enable_x64(False):
        family = mh.problems.quadratics(
            dimension=8, kappa=100.0, random=True, rotated=True, log=True
        )
        problem = mh.problems.training(family, lo.expression)
        strategy = mh.strategies.genetic(lo.expression_space(), population=32)

        @jax.jit
        def found(key):
            return mh.search(
                key, problem, lo.expression_space(), strategy, rounds=12, steps=20
            ).best_hparams

        def loss(problem, h):
            return mh.run.fresh_losses(jax.random.key(9), problem, h, steps=20, tasks=64).mean()

        best = found(jax.random.key(0))
        assert lo.formula(best)
        plain = mh.problems.training(family, lambda h: optax.sgd(h["rate"]))
        rates = {"rate": jnp.geomspace(1e-4, 1.0, 50)}
        descent = jnp.nanmin(jax.jit(jax.vmap(lambda h: loss(plain, h)))(rates))
        assert jax.jit(lambda h: loss(problem, h))(best) < descent - 0.3
