"""Online hypergradient descent against the paper's formulas, and from any first rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.learned_optimizers import hypergradient_descent

pytestmark = pytest.mark.versions

RULES = ("multiplicative", "additive")


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def loss(params):
    """A bowl that is not quadratic, in two tensors."""
    a, b = params["a"], params["b"]
    return jnp.sum(jnp.cosh(a * jnp.array([0.5, 1.0, 2.0]))) + (b - a[0]) ** 2


def start():
    return {"a": jnp.array([1.0, -0.7, 0.4]), "b": jnp.array(-1.2)}


def train(optimizer, steps, params=None):
    """Parameters and states after every update."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        carry = optax.apply_updates(params, updates), state
        return carry, carry

    params = start() if params is None else params
    return jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((params, optimizer.init(params)))[
        1
    ]


def gradient(x):
    """The gradient at ``x = (a, b)`` in numpy, by hand."""
    c = np.array([0.5, 1.0, 2.0])
    g = np.append(c * np.sinh(c * x[:3]), 2 * (x[3] - x[0]))
    g[0] -= 2 * (x[3] - x[0])
    return g


def sgd(g, memory):
    return -g, memory


def nesterov(g, memory):
    v = 0.9 * memory.get("v", 0.0) + g
    return -(g + 0.9 * v), {"v": v}


def adam(g, memory):
    t = memory.get("t", 0) + 1
    m = 0.9 * memory.get("m", 0.0) + 0.1 * g
    v = 0.999 * memory.get("v", 0.0) + 0.001 * g**2
    u = -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return u, {"t": t, "m": m, "v": v}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("direction", "base"),
    [
        (sgd, optax.sgd(1.0)),
        (nesterov, optax.sgd(1.0, momentum=0.9, nesterov=True)),
        (adam, optax.adam(1.0)),
    ],
    ids=["sgd", "nesterov", "adam"],
)
@pytest.mark.usefixtures("x64")
def test_algorithms_1_to_3_as_a_loop_over_the_formulas(direction, base, rule):
    rate, hyper_rate, x, last, memory = 0.01, 1e-3, np.array([1.0, -0.7, 0.4, -1.2]), 0.0, {}
    rates, points = [], []
    for t in range(15):
        g = gradient(x)
        h = np.sum(g * last)
        if rule == "additive":
            rate = rate - hyper_rate * h
        elif t > 0:
            rate = rate * (1 - hyper_rate * h / np.linalg.norm(g) / np.linalg.norm(last))
        last, memory = direction(g, memory)
        x = x + rate * last
        rates.append(rate)
        points.append(x)
    params, state = train(hypergradient_descent(base, 0.01, hyper_rate, rule), 15)
    np.testing.assert_allclose(state.rates["all"], rates, rtol=1e-12)
    np.testing.assert_allclose(params["a"], np.array(points)[:, :3], rtol=1e-10)
    np.testing.assert_allclose(params["b"], np.array(points)[:, 3], rtol=1e-10)
    assert abs(rates[-1] / 0.01 - 1) > 1e-3


@pytest.mark.usefixtures("x64")
def test_a_rate_moves_by_the_derivative_of_the_next_loss():
    hyper_rate = 1e-5
    params, state = train(hypergradient_descent(optax.adam(1.0), 0.1, hyper_rate, "additive"), 6)
    taken = (state.rates["all"][4] - state.rates["all"][5]) / hyper_rate
    before = jax.tree.map(lambda x: x[3], params)
    direction = jax.tree.map(lambda x: x[4], state.direction)

    def next_loss(rate):
        return loss(optax.tree.add_scale(before, rate, direction))

    rate = state.rates["all"][4]
    exact = (next_loss(rate + 1e-6) - next_loss(rate - 1e-6)) / 2e-6
    np.testing.assert_allclose(taken, exact, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.usefixtures("x64")
def test_groups_learn_as_if_each_were_alone(rule):
    # Without the coupling between a and b, two groups are two trainings.
    rates = {"first": 0.01, "second": 0.3}
    both = hypergradient_descent(
        optax.sgd(1.0), rates, 0.02, rule, groups={"a": "first", "b": "second"}
    )
    by_function = hypergradient_descent(
        optax.sgd(1.0), rates, 0.02, rule, lambda p: {"a": "first", "b": "second"}
    )
    alone = hypergradient_descent(optax.sgd(1.0), 0.3, 0.02, rule)
    grads = [{"a": jnp.array([1.0, -t]), "b": {"c": jnp.cos(t)}} for t in np.arange(5.0)]
    states = [o.init(grads[0]) for o in (both, by_function)] + [alone.init(grads[0]["b"])]
    for g in grads:
        u, states[0] = both.update(g, states[0])
        _, states[1] = by_function.update(g, states[1])
        v, states[2] = alone.update(g["b"], states[2])
        np.testing.assert_allclose(u["b"]["c"], v["c"], rtol=1e-14)
    assert states[0].rates == states[1].rates
    np.testing.assert_allclose(states[0].rates["second"], states[2].rates["all"], rtol=1e-14)
    assert states[0].rates["first"] != 0.01 and states[2].rates["all"] != 0.3


def test_multiplicative_rates_stay_positive_and_finite_whatever_the_gradients():
    optimizer = hypergradient_descent(optax.sgd(1.0), 1e-3, 0.5)
    scale = jnp.array([1e-30, 1e30, 0.0, 1.0, 1e30])
    signs = jnp.where(jnp.arange(60) % 2 == 0, 1.0, -1.0)
    grads = signs[:, None] * jnp.tile(scale, 12)[:, None] * jnp.ones(3)

    def step(state, g):
        _, state = optimizer.update(g, state)
        return state, state.rates["all"]

    _, rates = jax.lax.scan(step, optimizer.init(jnp.zeros(3)), grads)
    assert np.all((rates > 0) & np.isfinite(rates)) and rates.dtype == jnp.float32
    np.testing.assert_allclose(rates[1], 0.5e-3, rtol=1e-6)  # opposite gradients halve it


def test_additive_rates_stop_at_zero_and_come_back():
    optimizer = hypergradient_descent(optax.sgd(1.0), 0.1, 1.0, "additive")
    state, rates = optimizer.init(jnp.zeros(1)), []
    for g in (1.0, -1.0, 1.0, 1.0):
        _, state = optimizer.update(jnp.array([g]), state)
        rates.append(float(state.rates["all"]))
    np.testing.assert_allclose(rates, [0.1, 0.0, 0.0, 1.0], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_hypergradients_reach_the_first_rate_and_the_hyper_rate():
    family = mh.TaskFamily(
        lambda key: None, lambda key, task: start(), lambda p, task, split: loss(p), lambda t: None
    )
    problem = mh.problems.training(
        family, lambda h: hypergradient_descent(optax.adam(1.0), h["rate"], h["hyper"])
    )
    forward, outer = mh.hypergrad.forward(problem, 3), mh.inner.outer_loss(problem, 3)
    slopes = jax.jit(lambda h: forward.estimate(jax.random.key(0), h, None, ())[0].grad)
    loss_of = jax.jit(lambda h: outer(jax.random.key(0), h, None)[0])
    hparams = {"rate": jnp.array(0.02), "hyper": jnp.array(0.1)}
    for name, slope in slopes(hparams).items():
        above, below = (loss_of(hparams | {name: hparams[name] + h}) for h in (1e-6, -1e-6))
        np.testing.assert_allclose(slope, (above - below) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "other"}, "rule must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"hyper_rate": -1.0}, "hyper_rate must be positive, got -1.0"),
        ({"hyper_rate": 1.0}, "a multiplicative hyper_rate must be below 1, got 1.0"),
        ({"learning_rate": {"a": 0.1}}, "rates are for {'a'}, groups are {'all'}"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizer = hypergradient_descent(
            **{"base": optax.sgd(1.0), "learning_rate": 0.1, "hyper_rate": 0.1} | arguments
        )
        optimizer.init(jnp.zeros(1))
