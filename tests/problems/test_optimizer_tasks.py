"""Families for learned optimisers: their formulas, and what augmentation changes and what not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

DATA = mh.problems.split(
    np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3, train=30, validation=15
)


def test_uniform_quadratics_are_those_of_andrychowicz():
    family = mh.problems.uniform_quadratics()
    tasks = jax.jit(jax.vmap(family.sample))(jax.random.split(jax.random.key(0), 2000))
    for part in (tasks.matrix, tasks.target):
        assert part.min() >= 0 and part.max() <= 1
        np.testing.assert_allclose([part.mean(), part.var()], [1 / 2, 1 / 12], rtol=0.02)
    np.testing.assert_allclose(tasks.start.std(), 0.01, rtol=0.02)
    one = jax.tree.map(lambda x: x[0], tasks)
    x, w, y = np.ones(10), np.asarray(one.matrix), np.asarray(one.target)
    expected = sum((w[i] @ x - y[i]) ** 2 for i in range(10))
    np.testing.assert_allclose(family.loss(jnp.ones(10), one, "query"), expected, rtol=1e-5)
    # Near zero the loss is that of the target alone, whose expectation is 10 / 3.
    at_start = jax.vmap(lambda task: family.loss(task.start, task, "support"))(tasks)
    np.testing.assert_allclose(at_start.mean(), 10 / 3, rtol=0.05)


def test_rosenbrock_has_its_published_value_and_gradient():
    family = mh.problems.rosenbrock(dimension=3)
    task = family.sample(jax.random.key(0))._replace(
        steepness=jnp.array(100.0), minimum=jnp.array(1.0)
    )
    start = jnp.array([-1.2, 1.0, 1.0])  # Rosenbrock's start, and one more
    value, slope = jax.value_and_grad(family.loss)(start, task, "support")
    np.testing.assert_allclose(value, 24.2, rtol=1e-5)
    np.testing.assert_allclose(slope, [-215.6, -88.0, 0.0], rtol=1e-5, atol=1e-3)
    log = mh.problems.rosenbrock(dimension=3, log=True)
    np.testing.assert_allclose(log.loss(start, task, "query"), np.log10(24.2), rtol=1e-5)


@pytest.mark.parametrize("kind", ["logistic", "robust"])
def test_regressions_are_judged_on_data_that_training_never_sees(kind):
    family = mh.problems.regressions(kind, features=3, examples=50)
    task = family.sample(jax.random.key(1))
    params = {"w": jnp.array([0.3, -0.2, 0.1]), "b": jnp.array(0.4)}
    score = np.asarray(task.query.x) @ np.asarray(params["w"]) + 0.4
    y = np.asarray(task.query.y)
    if kind == "logistic":
        chance = 1 / (1 + np.exp(-score))
        expected = -np.mean(y * np.log(chance) + (1 - y) * np.log(1 - chance))
        assert set(y) == {0.0, 1.0}
    else:
        expected = np.mean((score - y) ** 2 / (1 + (score - y) ** 2))
    np.testing.assert_allclose(family.loss(params, task, "query"), expected, rtol=1e-5)
    other = task._replace(query=jax.tree.map(lambda x: x + 1, task.query))
    assert family.loss(params, task, "support") == family.loss(params, other, "support")
    assert not np.intersect1d(task.support.x, task.query.x).size
    without = task._replace(l2=jnp.array(0.0))
    penalty = family.loss(params, task, "support") - family.loss(params, without, "support")
    np.testing.assert_allclose(penalty, task.l2 * 0.14 / 2, rtol=1e-3)


def test_small_networks_draw_their_examples_and_are_judged_on_the_rest():
    family = mh.problems.small_mlps(DATA, hidden=(5, 6), activation="tanh", examples=20)
    task = family.sample(jax.random.key(0))
    rows = {tuple(row) for row in np.asarray(task.support.x).round(4)}
    assert len(rows) == 20
    assert rows <= {tuple(row) for row in DATA.support.x.astype("f4").round(4)}
    np.testing.assert_array_equal(task.query.x, DATA.query.x.astype("f4"))
    params = family.init(jax.random.key(1), task)
    h = np.tanh(np.asarray(task.query.x) @ params[0].kernel)
    scores = np.tanh(h @ params[1].kernel) @ params[2].kernel
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -logs[np.arange(15), DATA.query.y].mean()
    np.testing.assert_allclose(family.loss(params, task, "query"), expected, rtol=1e-5)
    fan_in = [np.std(layer.kernel) * np.sqrt(layer.kernel.shape[0]) for layer in params]
    np.testing.assert_allclose(fan_in, 1, atol=0.35)
    values = mh.problems.split(DATA.support.x, DATA.support.x[:, 0], 20, 5)
    squared = mh.problems.small_mlps(values, hidden=())
    (linear,) = squared.init(jax.random.key(0), squared.sample(jax.random.key(0)))
    assert linear.kernel.shape == (4, 1)


def family_of_two_tensors():
    def loss(params, task, split):
        fit = jnp.sum((params["a"] * task - params["b"]) ** 2)
        return fit if split == "support" else fit + 1.0

    return mh.TaskFamily(
        lambda key: jax.random.normal(key, (3,)),
        lambda key, task: {"a": jnp.ones(3), "b": jnp.zeros(())},
        loss,
    )


def test_scales_and_loss_scales_change_the_units_and_nothing_else():
    family = family_of_two_tensors()
    more = mh.problems.augmented(family, scales=(0.1, 10.0), loss_scales=(0.1, 10.0))
    task = more.sample(jax.random.key(3))
    params = more.init(jax.random.key(4), task)
    a, b = task.scales
    np.testing.assert_allclose(params["a"] * a, 1, rtol=1e-6)
    plain = {"a": params["a"] * a, "b": params["b"] * b}
    own, inner = (jax.value_and_grad(f.loss) for f in (more, family))
    (value, slope), (expected, inner_slope) = (
        own(params, task, "support"),
        inner(plain, task.task, "support"),
    )
    np.testing.assert_allclose(value, task.loss_scale * expected, rtol=1e-5)
    np.testing.assert_allclose(slope["a"], task.loss_scale * a * inner_slope["a"], rtol=1e-5)
    np.testing.assert_allclose(
        more.loss(params, task, "query"), family.loss(plain, task.task, "query"), rtol=1e-5
    )
    drawn = jax.jit(jax.vmap(more.sample))(jax.random.split(jax.random.key(0), 500))
    logs = np.log10(np.stack([*drawn.scales, drawn.loss_scale]))
    assert logs.min() >= -1 and logs.max() <= 1
    np.testing.assert_allclose(logs.mean(1), 0, atol=0.1)
    np.testing.assert_allclose(logs.std(1), 2 / np.sqrt(12), rtol=0.1)
    assert abs(np.corrcoef(logs)[np.triu_indices(3, 1)]).max() < 0.15


def test_noise_is_on_the_gradient_alone_and_new_in_every_update():
    family = family_of_two_tensors()
    more = mh.problems.augmented(family, noise=(0.5, 0.5))
    task = more.sample(jax.random.key(3))
    params = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array(0.5)}
    exact = jax.grad(family.loss)(params, task.task, "support")
    noisy = jax.jit(
        jax.vmap(
            jax.value_and_grad(lambda p, key: more.loss(p, task, "support", key=key)), (None, 0)
        )
    )
    values, slopes = noisy(params, jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_allclose(values, family.loss(params, task.task, "support"), rtol=1e-5)
    at_start = jax.grad(family.loss)(family.init(None, None), task.task, "support")
    for name, size in zip(("a", "b"), task.noise, strict=True):
        expected = 0.5 * np.sqrt(np.mean(np.square(at_start[name])))
        np.testing.assert_allclose(size, expected, rtol=1e-5)
        np.testing.assert_allclose(slopes[name].std(0), size, rtol=0.05)
        error = np.abs(slopes[name].mean(0) - exact[name]) / size
        assert error.max() < 4 / np.sqrt(4000)
    # And training does tell the loss its key.
    problem = mh.problems.training(more, lambda h: optax.sgd(h["rate"]))
    state = mh.inner.unroll(problem, 1)(jax.random.key(5), {"rate": 0.1}, task)
    start = family.init(None, None)
    assert not np.allclose(state.params["a"], start["a"] - 0.1 * at_start["a"], rtol=1e-3)


def test_offsets_begin_where_that_many_updates_lead():
    family = family_of_two_tensors()
    more = mh.problems.augmented(family, offsets=(1.0, 30.0), before=optax.sgd(0.01))
    tasks = jax.jit(jax.vmap(more.sample))(jax.random.split(jax.random.key(0), 300))
    assert tasks.offset.min() == 1 and tasks.offset.max() == 30
    np.testing.assert_allclose(np.median(tasks.offset), np.sqrt(30), atol=1.5)
    task = jax.tree.map(lambda x: x[0], tasks)._replace(offset=jnp.array(3))
    params = family.init(None, None)
    for _ in range(3):
        slope = jax.grad(family.loss)(params, task.task, "support")
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, slope)
    found = more.init(jax.random.key(1), task)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, params)


def test_horizons_end_each_training_where_a_shorter_one_ends():
    problem = mh.problems.training(
        mh.problems.augmented(mh.problems.quadratics(4), scales=(0.5, 2.0), noise=(0.1, 0.1)),
        lambda h: optax.sgd(h["rate"], momentum=0.9),
    )
    varied = mh.problems.log_uniform_horizons(problem, 2, 12)
    tasks = jax.jit(jax.vmap(varied.sample))(jax.random.split(jax.random.key(0), 500))
    counts = np.bincount(tasks.steps, minlength=13)
    assert counts[:2].sum() == 0 and (counts[2:] > 0).all()
    expected = 500 * np.diff(np.log(np.arange(1.5, 13.0))) / np.log(12.5 / 1.5)
    assert ((counts[2:] - expected) ** 2 / expected).sum() < 30  # chi-square, 10 degrees
    task = jax.tree.map(lambda x: x[0], tasks)._replace(steps=jnp.array(5))
    h = {"rate": jnp.array(1e-3)}
    loss, state = jax.jit(mh.inner.outer_loss(varied, 12))(jax.random.key(1), h, task)
    short, _ = jax.jit(mh.inner.outer_loss(problem, 5))(jax.random.key(1), h, task.task)
    np.testing.assert_allclose(loss, short, rtol=1e-6)
    assert state.count == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.augmented(p.quadratics(4), scales=(0.0, 1.0)), "scales must be 0 < low"),
        (lambda p: p.augmented(p.quadratics(4), noise=(2.0, 1.0)), "noise must be 0 < low"),
        (lambda p: p.log_uniform_horizons(p.function(lambda h: 0.0), 0, 3), "shortest must be"),
        (lambda p: p.log_uniform_horizons(p.function(lambda h: 0.0), 4, 3), "horizons must be"),
        (lambda p: p.uniform_quadratics(0), "dimension must be"),
        (lambda p: p.rosenbrock(1), "dimension must be a whole number of at least 2, got 1"),
        (lambda p: p.rosenbrock(steepness=(2.0, 1.0)), "steepness must be"),
        (lambda p: p.regressions("ridge"), "kind must be one of"),
        (lambda p: p.regressions("robust", l2=(0.0, 1.0)), "l2 must be positive"),
        (lambda p: p.small_mlps(DATA, examples=31), "examples must be at most the 30"),
        (lambda p: p.small_mlps(DATA, activation="step"), "activation must be one of"),
    ],
)
def test_tasks_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(mh.problems)
