"""What is true of every rule of the ladder."""

import inspect
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import ladder
import numpy as np
import optax
import pytest
from ladder import LADDER, busy_weights, gradients, params_of, scanned

import metahpo as mh
from metahpo import learned_optimizers as lo

STEPS = 4
NAMES = list(LADDER)
FACTOR = 1e3
ADAM, SGD = (partial(make, learning_rate=0.1) for make in (optax.adam, optax.sgd))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def assert_close(actual, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def permuted(tree):
    """Rows and columns of the matrix in another order, and the vector's entries."""
    return {"b": tree["b"][..., ::-1], "w": tree["w"][..., [2, 0, 1], ::-1]}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("x64")
def test_a_loop_equals_a_scan_equals_a_batch_and_claimed_invariances_hold(name):
    rung = LADDER[name]
    optimizer = rung.rule.transform(busy_weights(rung.rule))
    params, grads = params_of(jax.random.key(1)), gradients(jax.random.key(2), STEPS)
    others = params_of(jax.random.key(3)), gradients(jax.random.key(4), STEPS)
    scaled = params, jax.tree.map(lambda g: FACTOR * g, grads)
    runs = [(params, grads), others, (permuted(params), permuted(grads)), scaled]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    batch = jax.jit(jax.vmap(lambda run: scanned(optimizer, *run)))(stacked)
    base, other, mixed, large = (jax.tree.map(lambda x, i=i: x[i], batch) for i in range(4))

    clipped = optax.chain(optax.clip(0.5), optimizer, optax.scale(0.5))
    update = jax.jit(lambda *arguments: optimizer.update(*arguments, value=jnp.array(1.0)))
    chained = jax.jit(lambda *arguments: clipped.update(*arguments, value=jnp.array(1.0)))
    for (params, grads), expected in zip(runs[:2], (base, other), strict=True):
        state = optimizer.init(params)
        for t in range(STEPS):
            grad = jax.tree.map(lambda g, t=t: g[t], grads)
            updates, state = update(grad, state, params)
            assert_close(updates, jax.tree.map(lambda x, t=t: x[t], expected), rtol=1e-8)
            params = optax.apply_updates(params, updates)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(base)) > 1e-3

    small = jax.tree.map(lambda g: jnp.clip(g, -0.5, 0.5), grad)
    own, _ = update(small, optimizer.init(params), params)
    half, _ = chained(grad, clipped.init(params), params)
    assert_close(half, jax.tree.map(lambda x: x / 2, own), rtol=1e-8)

    assert rung.permutation == all(
        np.allclose(a, b, rtol=1e-8)
        for a, b in zip(*map(jax.tree.leaves, (mixed, permuted(base))), strict=True)
    )
    assert not rung.scale or all(
        np.allclose(a, b, rtol=1e-4, atol=1e-6)
        for a, b in zip(*map(jax.tree.leaves, (large, base)), strict=True)
    )


def partly_dead(names):
    """Linear regression with an input that is always zero and a tensor that nothing uses."""

    def loss(params, task, split):
        x, y = task
        unused = sum(jnp.sum(params[name]) for name in names)
        return jnp.mean((x @ params["w"] - y) ** 2) + 0.0 * unused

    def sample(key):
        x = jax.random.normal(key, (20, 3)).at[:, 0].set(0.0)
        return x, x @ jnp.array([[1.0, -2.0], [0.5, 1.0], [2.0, 0.0]])

    start = {name: jnp.asarray(ladder.LIKE[name]) for name in names}
    return mh.TaskFamily(sample, lambda key, task: start, loss)


# What takes long is to compile the derivative of so many features.
SLOW = {"factored_mlp": pytest.mark.slow}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW.get(name, ())) for name in NAMES[:-1]]
)
@pytest.mark.usefixtures("x64")
def test_the_exported_rule_has_its_own_trajectory_and_its_hypergradient_is_right(name):
    # Differentiating this network is what takes long to compile, once a tensor.
    rule, family = LADDER[name].rule, partly_dead("w" if name == "factored_mlp" else "bw")
    weights, task = busy_weights(rule), family.sample(jax.random.key(1))
    problem = mh.problems.training(family, rule.transform)
    found, _ = jax.jit(mh.hypergrad.reverse(problem, STEPS).estimate)(
        jax.random.key(2), weights, task, ()
    )

    optimizer = rule.transform(weights)
    value_and_grad = jax.value_and_grad(lambda params: family.loss(params, task, "support"))

    @jax.jit
    def step(params, state):
        value, grads = value_and_grad(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    params = family.init(None, None)
    state = optimizer.init(params)
    for _ in range(STEPS):
        params, state = step(params, state)
    assert_close(found.info["state"].params, params, rtol=1e-8, atol=1e-12)

    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found.grad))
    noise = optax.tree.random_like(jax.random.key(5), weights)
    moved = jax.tree.map(
        lambda w, n: w + jnp.array([1e-5, -1e-5]).reshape(2, *[1] * w.ndim) * n, weights, noise
    )
    loss = mh.inner.outer_loss(problem, STEPS)
    ahead, behind = jax.jit(jax.vmap(lambda w: loss(jax.random.key(2), w, task)[0]))(moved)
    slope = optax.tree.vdot(found.grad, noise)
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=2e-5, atol=1e-8)
    assert abs(slope) > 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_saved_rules_make_the_same_updates_in_a_new_process(tmp_path):
    weights = ladder.every_weights()
    mh.report.save_npz(tmp_path / "weights.npz", weights)
    script = Path(ladder.__file__)
    files = [str(tmp_path / f"{name}.npz") for name in ("weights", "updates")]
    subprocess.run([sys.executable, str(script), *files], check=True)
    expected = jax.jit(ladder.all_updates)(weights)
    assert_close(mh.report.load_npz(files[1], like=expected), expected, rtol=1e-12)


def test_the_table_has_every_rung():
    made = {
        name
        for name in lo.__all__
        if callable(getattr(lo, name))
        and not isinstance(getattr(lo, name), type)
        and inspect.signature(getattr(lo, name)).return_annotation is lo.UpdateRule
    }
    assert made - {"update_rule"} == {name.split(",")[0] for name in NAMES}


def test_a_tensor_without_entries_changes_nothing_for_the_others():
    rule = LADDER["two_level"].rule
    optimizer = rule.transform(busy_weights(rule))
    params, found = {"a": jnp.zeros((0, 3)), "b": jnp.array([1.0, -2.0])}, []
    for tree in (params, {"b": params["b"]}):
        state, update = optimizer.init(tree), jax.jit(optimizer.update)
        for _ in range(2):
            updates, state = update(tree, state, tree)
        found.append(updates)
    np.testing.assert_allclose(found[0]["b"], found[1]["b"], rtol=1e-6)
    assert found[0]["a"].shape == (0, 3) and np.isfinite(found[0]["b"]).all()


BAD_PARAMS = {
    "integers": ({"w": jnp.ones(2), "b": jnp.arange(3)}, r"real floats, got int32 at \['b'\]"),
    "complex numbers": (jnp.ones(2, jnp.complex64), "real floats, got complex64 at its only leaf"),
    "nothing": ({}, "needs parameters, got a pytree without leaves"),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_rule_cannot_work_on_is_named(name):
    rule = LADDER[name].rule
    weights = jax.jit(rule.init)(jax.random.key(0))
    optimizer = rule.transform(weights)
    for params, message in BAD_PARAMS.values():
        with pytest.raises(ValueError, match=message):
            optimizer.init(params)
    params = params_of(jax.random.key(1))
    with pytest.raises(ValueError, match=r"call update\(grads, state, params\)"):
        optimizer.update(params, optimizer.init(params))
    with pytest.raises(ValueError, match="the gradient must keep"):
        optimizer.update(params["w"], optimizer.init(params), params)
    other = LADDER[NAMES[NAMES.index(name) - 1]].rule
    with pytest.raises(ValueError, match="the weights of .* must keep (the s|shapes)"):
        rule.transform(jax.eval_shape(other.init, jax.random.key(0)))


@pytest.mark.parametrize("name", NAMES)
def test_updates_and_states_keep_their_types_in_every_precision(name):
    rule = LADDER[name].rule

    def step(weights, params):
        optimizer = rule.transform(weights)
        state = optimizer.init(params)
        return state, *optimizer.update(params, state, params)

    weights = jax.eval_shape(rule.init, jax.random.key(0))
    for dtype in (jnp.float32, jnp.bfloat16):
        params = jax.tree.map(lambda x, d=dtype: jax.ShapeDtypeStruct(x.shape, d), ladder.LIKE)
        state, updates, after = jax.eval_shape(step, weights, params)
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
        assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
            lambda x: (x.shape, x.dtype), after
        )


@pytest.mark.parametrize("curve", [lo.per_step, lo.spline, lo.polynomial])
def test_a_horizon_of_zero_is_refused(curve):
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        curve(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lo.learnable(optax.adam, {}), "must be named, got none"),
        (lambda: lo.learnable(optax.adam, {"learning_rate": -1.0}), "learning_rate is out of its"),
        (lambda: lo.learnable(ADAM, {"b1": 1.0}), "b1 is out of its range"),
        (lambda: lo.learnable(optax.adam, {"b1": 0.9}), "make must be a function"),
        (lambda: lo.learnable(lambda speed: None, {"speed": 1.0}), "the range of 'speed', known"),
        (lambda: lo.learnable(SGD, {"momentum": 0.9}, per={"b1": "layer"}), "not learned"),
        (lambda: lo.learnable(SGD, {"momentum": 0.9}, per={"momentum": "x"}), "must be one"),
        (lambda: lo.learnable(SGD, {"momentum": 0.9}, per={"momentum": "layer"}), "like="),
        (lambda: lo.scheduled(ADAM, {"b1": 0.9}, {"b2": lo.per_step(3)}), "name of a curve"),
        (lambda: lo.spline(5, knots=3), "knots must be a whole number of at least 4, got 3"),
        (lambda: lo.factored_mlp(rate=2.0), "rate must be in .*got 2.0 and 1.0"),
        (lambda: lo.factored_mlp(decays=(0.5,)), r"decays must be three in \(0, 1\)"),
        (lambda: lo.recurrent(layers=0), "layers must be a whole number"),
        (lambda: lo.recurrent(scale=0.0), "scale must be positive, got 0.0"),
        (lambda: lo.two_level(memory=0), "memory must be a whole number"),
        (lambda: lo.symbolic([]), "terms must be names of TERMS"),
        (lambda: lo.symbolic(["newton"]), "a term must be one of"),
        (lambda: lo.expression_hparams(0.1, "newton"), "left must be one of"),
    ],
)
def test_bad_arguments_of_a_rung_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
