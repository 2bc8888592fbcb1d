"""Whatever makes a problem of a problem: its ``initial`` fits, its ``predict`` fits, or is none."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

KEY = jax.random.key(0)
FAMILY = mh.problems.sinusoid(shots=5)
SPACE = {"lr": mh.Float(1e-3, 1.0, log=True)}


def training():
    """The learning rate of an ordinary training, with a start and predictions."""
    return mh.problems.training(
        FAMILY, lambda h: optax.sgd(h["lr"]), initial=lambda key: {"lr": jnp.array(0.01)}
    )


def mapped(problem):
    size = problem.describe(problem.sample(KEY)).shape
    network = mh.transfer.network(SPACE, {"lr": 0.01}, jnp.zeros(size), jnp.ones(size))
    return mh.transfer.mapping(problem, network)


def adjusted(problem):
    environment = mh.rl.tuning_environment(problem, SPACE, segment_steps=1, segments=2)
    return mh.rl.problem(
        environment,
        mh.rl.softmax_policy(environment),
        predict=lambda state, x: problem.predict(state.training.state, x),
    )


def meta_trained(problem):
    """Its hyperparameter is the meta-rate."""
    return mh.run.as_problem(
        lambda h: mh.run.MetaTraining(
            problem, mh.hypergrad.reverse(problem, 1), optax.adam(h["meta_rate"])
        ),
        {"meta_rate": jnp.array(0.1)},
        tasks=2,
        steps=1,
        validation=3,
    )


WRAPPERS = {
    "none": lambda p: p,
    "unconstrained": lambda p: mh.links.unconstrained(p, {"lr": mh.links.log}),
    "reparametrised": lambda p: mh.reparametrised(
        p, lambda v: {"lr": jnp.exp(v)}, lambda key: jnp.array(-3.0)
    ),
    "averaged trainings": lambda p: mh.problems.averaged(p, 3),
    "averaged losses": lambda p: mh.problems.averaged(p, 3, over="losses"),
    "joint": lambda p: mh.problems.joint([p, p]),
    "mapping": mapped,
    "policy": adjusted,
    "meta-training": meta_trained,
}
PREDICTS = {"none", "unconstrained", "reparametrised", "averaged losses", "mapping", "policy"}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_problem_starts_trains_and_predicts(name):
    problem = WRAPPERS[name](training())

    def run(key):
        task = problem.sample(key)
        hparams = problem.initial(key)
        state, _ = mh.inner.unroll(problem, 2, record=lambda state: ())(key, hparams, task)
        predicted = () if problem.predict is None else problem.predict(state, jnp.ones((7, 1)))
        return problem.loss(key, hparams, task, state), predicted

    loss, predicted = jax.jit(run)(KEY)
    assert loss.shape == () and jnp.isfinite(loss)
    assert (problem.predict is not None) == (name in PREDICTS)
    if name in PREDICTS:
        assert predicted.shape == (7, 1)


@pytest.mark.parametrize("name", ["none", "unconstrained", "averaged losses", "averaged trainings"])
def test_the_start_is_the_same_training_under_every_wrapper(name):
    base, problem = training(), WRAPPERS[name](training())
    task = base.sample(KEY)

    def first_step(problem, key):
        def run(key):
            hparams = problem.initial(KEY)
            return problem.step(key, hparams, task, problem.init(key, hparams, task))

        return jax.jit(run)(key)

    step = first_step(problem, KEY)
    if name == "averaged trainings":
        expected = first_step(base, jax.random.split(KEY, 3)[1])
        step = jax.tree.map(lambda x: x[1], step)
    else:
        expected = first_step(base, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), step, expected)


def test_a_wrapper_without_a_start_has_none():
    bare = training()._replace(initial=None)
    for name in ("unconstrained", "averaged losses", "joint"):
        assert WRAPPERS[name](bare).initial is None
    assert mh.reparametrised(training(), lambda v: v).initial is None


def test_learner_of_an_averaged_problem_says_that_it_cannot_predict():
    problem = mh.problems.averaged(mh.meta.maml(FAMILY, 0.01), repeats=3)
    with pytest.raises(ValueError, match="predict"):
        mh.meta.learner(problem, steps=1)


def test_no_function_of_the_library_replaces_parts_of_a_problem():
    package = Path(mh.__file__).parent
    found = [
        f"{path.name}:{number}"
        for path in package.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"(problem|untrained|inner|base)\._replace\(", line) and ">>>" not in line
    ]
    assert found == []


def test_a_reparametrised_gradient_follows_the_chain_rule():
    problem, task = training(), FAMILY.sample(KEY)
    decades = mh.reparametrised(problem, lambda v: {"lr": 10.0 ** v["log10"]})
    values = {"log10": jnp.array(-2.0)}

    def estimated(problem, hparams):
        estimate = mh.hypergrad.reverse(problem, 3).estimate
        return jax.jit(lambda hparams: estimate(KEY, hparams, task, ())[0])(hparams)

    plain, found = estimated(problem, {"lr": jnp.array(0.01)}), estimated(decades, values)
    expected = np.log(10.0) * 0.01 * plain.grad["lr"]
    np.testing.assert_allclose(found.grad["log10"], expected, rtol=1e-5)
    np.testing.assert_allclose(found.loss, plain.loss, rtol=1e-6)


# What training minimises, of problems that are made of others.


def ridge():
    """Ridge regression by descent, and the closed form of its outer loss."""
    rng = np.random.default_rng(1)
    x, xv = (jnp.asarray(rng.normal(size=(20, 4))) for _ in range(2))
    y, yv = (a.sum(1) + jnp.asarray(rng.normal(size=20)) for a in (x, xv))

    def inner(h, task, w, *batch):
        return jnp.mean((x @ w - y) ** 2) / 2 + h["l2"] * jnp.sum(w**2) / 2

    def judged(w):
        return jnp.mean((xv @ w - yv) ** 2) / 2

    def closed(l2):
        return judged(jnp.linalg.solve(x.T @ x / 20 + l2 * jnp.eye(4), x.T @ y / 20))

    problem = mh.Problem(
        lambda key: None,
        lambda key, h, task: jnp.zeros(4),
        lambda key, h, task, w: w - 0.2 * jax.grad(inner, 2)(h, task, w),
        lambda key, h, task, w: judged(w),
        lambda task: jnp.ones(2),
    )
    return problem, inner, closed


LOG = {"l2": mh.links.log}
RIDGE_SPACE = {"l2": mh.Float(0.1, 10.0, log=True)}
RIDGE_NETWORK = mh.transfer.network(RIDGE_SPACE, {"l2": 2.0}, jnp.zeros(2), jnp.ones(2))
LIFTING = {  # problem -> the wrapped one, where it starts at l2 = 2, and its l2
    "unconstrained": lambda p: (
        mh.links.unconstrained(p, LOG),
        {"l2": jnp.log(2.0)},
        lambda h: jnp.exp(h["l2"]),
    ),
    "twice": lambda p: (
        mh.reparametrised(mh.links.unconstrained(p, LOG), lambda v: {"l2": 3 * v}),
        jnp.log(2.0) / 3,
        lambda v: jnp.exp(3 * v),
    ),
    "averaged trainings": lambda p: (
        mh.problems.averaged(mh.links.unconstrained(p, LOG), 3),
        {"l2": jnp.log(2.0)},
        lambda h: jnp.exp(h["l2"]),
    ),
    "averaged losses": lambda p: (
        mh.problems.averaged(mh.links.unconstrained(p, LOG), 2, over="losses"),
        {"l2": jnp.log(2.0)},
        lambda h: jnp.exp(h["l2"]),
    ),
}


@pytest.mark.parametrize("estimator", ["implicit", "soba", "saba"])
@pytest.mark.parametrize("name", LIFTING)
def test_an_inner_loss_is_that_of_the_problem_within(name, estimator):
    with jax.enable_x64(True):
        plain, inner, closed = ridge()
        problem, start, l2 = LIFTING[name](plain)
        expected = jax.grad(lambda h: closed(l2(h)))(start)
        if estimator == "implicit":
            made, rounds = mh.hypergrad.implicit(problem, 300, inner_loss=inner), 1
        else:
            # A mean over trainings has a curvature of a third, and so three times the rate.
            rate = 0.2 * (3 if name == "averaged trainings" else 1)
            made, rounds = getattr(mh.hypergrad, estimator)(problem, inner, 1, rate), 300

        @jax.jit
        def run(key):
            memory = made.init(key, start, None)

            def once(memory, key):
                result, memory = made.estimate(key, start, None, memory)
                return memory, result.grad

            return jax.lax.scan(once, memory, jax.random.split(key, rounds))[1]

        found = jax.tree.map(lambda g: g[-1], run(KEY))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_an_inner_loss_of_a_mapping_sees_the_predicted_hyperparameters():
    with jax.enable_x64(True):
        plain, inner, closed = ridge()
        problem = mh.transfer.mapping(plain, RIDGE_NETWORK)
        weights = RIDGE_NETWORK.init(KEY)

        def of(weights):
            return problem.init(KEY, weights, None).hparams["l2"]

        expected = jax.grad(lambda w: closed(of(w)))(weights)
        made = mh.hypergrad.implicit(problem, 300, inner_loss=inner)
        found = jax.jit(made.estimate)(KEY, weights, None, ())[0].grad
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12), found, expected
        )
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)) > 1e-4


@pytest.mark.parametrize(
    ("wrap", "rule"),
    [
        (lambda p: mh.problems.early_stopping(p, patience=2), "training has converged"),
        (lambda p: mh.problems.weight_average(p, lambda h: 0.9), "average of parameters"),
        (lambda p: mh.problems.joint([mh.links.unconstrained(p, LOG)]), "join first"),
        (adjusted, "a policy acts on a process"),
    ],
    ids=["early stopping", "weight average", "joint", "policy"],
)
def test_a_problem_that_cannot_take_the_inner_loss_of_its_parts_says_why(wrap, rule):
    problem = wrap(training())
    with pytest.raises(ValueError, match=rule):
        mh.hypergrad.implicit(problem, 1, inner_loss=lambda h, task, w: 0.0)
    with pytest.raises(ValueError, match=rule):
        mh.hypergrad.saba(problem, lambda h, task, w, i: 0.0, 1, 0.1)


# Families of several shapes.


def curves(size):
    """Descent on a quadratic in ``size`` dimensions; after n steps all entries are (1 - r)^n."""
    return mh.Problem(
        sample=lambda key: jnp.full(size, jax.random.uniform(key)),
        init=lambda key, h, task: jnp.ones(size),
        step=lambda key, h, task, x: x - h["rate"] * x,
        loss=lambda key, h, task, x: jnp.sum(x**2) + 0.0 * task[0],
        describe=lambda task: task[:2],
        initial=lambda key: {"rate": jnp.array(0.5)},
    )


def test_a_joint_problem_is_the_mean_of_its_parts():
    problem = mh.problems.joint([curves(2), curves(5)])
    task = problem.sample(KEY)
    assert [part.shape for part in task] == [(2,), (5,)] and task[0][0] != task[1][0]
    assert problem.describe(task).shape == (4,)
    hparams = problem.initial(KEY)
    estimate, _ = mh.hypergrad.reverse(problem, 3).estimate(KEY, hparams, task, ())
    np.testing.assert_allclose(estimate.loss, (2 + 5) / 2 * 0.5**6, rtol=1e-6)
    np.testing.assert_allclose(estimate.grad["rate"], -6 * (2 + 5) / 2 * 0.5**5, rtol=1e-5)


def test_parts_of_a_joint_problem_have_keys_of_their_own():
    noisy = mh.problems.function(lambda h: h["x"])._replace(
        loss=lambda key, h, task, state: jax.random.normal(key)
    )
    both = mh.problems.joint([noisy, noisy])
    loss = both.loss(KEY, {"x": jnp.array(0.0)}, (None, None), ((), ()))
    first, second = (jax.random.normal(k) for k in jax.random.split(KEY))
    np.testing.assert_allclose(loss, (first + second) / 2, rtol=1e-6)


def test_nothing_joined_is_refused():
    with pytest.raises(ValueError, match="at least one problem, got none"):
        mh.problems.joint([])
