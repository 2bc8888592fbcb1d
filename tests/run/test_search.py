"""search: the population is trained as proposed, and failures are data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh
from metahpo.base import FULL_BUDGET, Evaluation, Needs, Problem, Proposal, Strategy

SPACE = {"x": mh.Float(0.0, 1.0)}


def scripted(units, parents, budgets=None, needs=None):
    """A strategy that proposes given rounds, and keeps what it is told."""
    units, parents = jnp.asarray(units, jnp.float32), jnp.asarray(parents)
    budgets = jnp.full(parents.shape, FULL_BUDGET) if budgets is None else jnp.asarray(budgets)

    def ask(key, state):
        return Proposal(units[state], parents[state], budgets[state]), state

    def tell(key, state, proposal, evaluation):
        assert isinstance(evaluation, Evaluation)
        return state + 1

    return Strategy(lambda key: jnp.zeros((), jnp.int32), ask, tell, needs or Needs())


def adding():
    """Training adds ``x`` in every step, so the state tells who trained how long."""
    return Problem(
        sample=lambda key: None,
        init=lambda key, h, task: jnp.zeros(()),
        step=lambda key, h, task, state: state + h["x"],
        loss=lambda key, h, task, state: state,
        describe=lambda task: jnp.zeros(0),
    )


def run(strategy, rounds=1, steps=1, problem=None, **kwargs):
    problem = adding() if problem is None else problem
    return mh.search(
        jax.random.key(0), problem, SPACE, strategy, rounds=rounds, steps=steps, **kwargs
    )


def test_members_train_from_scratch_for_the_given_steps():
    result = run(scripted([[[0.25], [0.5]]], [[-1, -1]]), steps=4)
    np.testing.assert_allclose(result.history.loss, [[1.0, 2.0]])
    assert result.best_loss == 1.0
    assert result.best_hparams["x"] == 0.25
    assert result.best_state == 1.0


def test_children_go_on_from_the_state_of_their_parent():
    units = [[[0.25], [0.5]], [[0.5], [0.75]], [[0.0], [0.25]]]
    result = run(scripted(units, [[-1, -1], [1, 0], [-1, 1]]), rounds=3, steps=2)
    # 2 * .25 = .5 and 2 * .5 = 1;  1 + 2 * .5 = 2 and .5 + 2 * .75 = 2;  2 * 0 and 2 + 2 * .25.
    np.testing.assert_allclose(result.history.loss, [[0.5, 1.0], [2.0, 2.0], [0.0, 2.5]])
    assert result.best_loss == 0.0


def test_a_budget_shortens_a_training_and_never_lengthens_it():
    strategy = scripted([[[0.25], [0.25], [0.25]]], [[-1, -1, -1]], [[1, 3, 100]])
    result = run(strategy, steps=4)
    np.testing.assert_allclose(result.history.loss, [[0.25, 0.75, 1.0]])
    np.testing.assert_array_equal(result.history.budget, [[1, 3, 4]])


def test_the_loss_of_a_member_is_the_loss_of_an_ordinary_training():
    problem = mh.problems.schedule_problem(mh.problems.quadratics(dimension=8), steps=3)
    rates = mh.problems.schedule_space(3)
    strategy = mh.strategies.random(rates, 4)
    result = mh.search(jax.random.key(0), problem, rates, strategy, rounds=2, steps=3)
    spectrum = np.asarray(problem.sample(jax.random.key(1)).eigenvalues)
    for unit, loss in zip(
        result.history.unit.reshape(-1, 3), result.history.loss.reshape(-1), strict=True
    ):
        factors = [1 - float(a) * spectrum for a in mh.space.decode(rates, unit)["rates"]]
        np.testing.assert_allclose(loss, np.abs(np.prod(factors, axis=0)).max(), rtol=1e-4)


def test_losses_that_are_not_finite_are_infinite_and_counted():
    problem = mh.problems.function(lambda h: jnp.where(h["x"] < 0.5, jnp.nan, h["x"]))
    result = run(scripted([[[0.25], [0.75], [0.1]]], [[-1] * 3]), problem=problem)
    np.testing.assert_array_equal(result.history.loss, [[np.inf, 0.75, np.inf]])
    np.testing.assert_array_equal(result.history.nonfinite, [[True, False, True]])
    assert result.nonfinite == 2
    assert result.best_loss == 0.75


def test_gradients_that_are_not_finite_are_zero_and_counted():
    # The derivative of the square root at 0 is infinite, its value is not.
    problem = mh.problems.function(lambda h: jnp.sqrt(h["x"]))
    result = run(
        scripted([[[0.0], [0.25]]], [[-1, -1]], needs=Needs(gradients=True)), problem=problem
    )
    np.testing.assert_allclose(result.history.grad, [[[0.0], [1.0]]])
    np.testing.assert_array_equal(result.history.nonfinite, [[True, False]])


def test_gradients_are_those_of_the_unit_cube():
    space = {"x": mh.Float(1e-2, 1.0, log=True), "n": mh.Int(1, 3)}
    problem = mh.problems.function(lambda h: h["x"] ** 2 * h["n"])
    strategy = scripted([[[0.5, 0.5]]], [[-1]], needs=Needs(gradients=True))
    result = mh.search(jax.random.key(0), problem, space, strategy, rounds=1, steps=1)
    # Coordinates in the order n, x; x = 0.1, n = 2: d/du x^2 n = 2 n x^2 log(100)
    np.testing.assert_allclose(result.history.grad, [[[0.0, 4 * 0.01 * np.log(100)]]], rtol=1e-5)


def test_metrics_are_kept_for_every_member():
    result = run(
        scripted([[[0.25], [0.5]]], [[-1, -1]]),
        steps=2,
        metrics=lambda key, h, task, state: {"double": 2 * state, "x": h["x"]},
    )
    np.testing.assert_allclose(result.history.metrics["double"], [[1.0, 2.0]])
    np.testing.assert_allclose(result.history.metrics["x"], [[0.25, 0.5]])


def test_metrics_refuse_an_estimator_that_gives_no_state():
    estimator = mh.hypergrad.es(adding(), 1, pairs=2, sigma=0.1)
    strategy = mh.strategies.hypergradient(SPACE, 2)
    with pytest.raises(ValueError, match=r"info\['state'\]"):
        run(strategy, estimator=estimator, metrics=lambda key, h, task, state: state)


def test_many_seeds_in_one_program_equal_one_by_one():
    keys = jax.random.split(jax.random.key(3), 3)

    def one(key):
        strategy = mh.strategies.differential_evolution(SPACE, 5)
        return mh.search(key, adding(), SPACE, strategy, rounds=3, steps=2).history

    together = jax.jit(jax.vmap(one))(keys)
    for i, key in enumerate(keys):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6),
            together,
            jax.jit(one)(key),
        )


def test_changing_a_number_does_not_compile_again():
    traces = []

    def loss(key, h, task, state):
        traces.append(None)
        return state + task

    problem = adding()._replace(loss=loss)

    @jax.jit
    def tune(key, task):
        strategy = mh.strategies.random(SPACE, 4)
        return mh.search(key, problem, SPACE, strategy, rounds=2, steps=2, task=task).best_loss

    first = tune(jax.random.key(0), 1.0)
    count = len(traces)
    second = tune(jax.random.key(0), 2.0)
    assert len(traces) == count > 0
    np.testing.assert_allclose(second, first + 1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"rounds": 0}, "rounds .* got 0"), ({"steps": 0}, "steps .* got 0")],
)
def test_a_search_needs_rounds_and_steps(kwargs, message):
    with pytest.raises(ValueError, match=message):
        run(scripted([[[0.5]]], [[-1]]), **kwargs)


def test_a_loss_that_is_not_a_scalar_is_refused_with_its_shape():
    problem = mh.problems.function(lambda h: jnp.ones(3) * h["x"])
    with pytest.raises(ValueError, match=r"scalar.*\(3,\)"):
        run(scripted([[[0.5]]], [[-1]]), problem=problem)


def test_a_space_that_is_none_is_refused():
    strategy = scripted([[[0.5]]], [[-1]])
    with pytest.raises(ValueError, match="leaves are Float, Int or Choice"):
        mh.search(jax.random.key(0), adding(), {"x": 3.0}, strategy, rounds=1, steps=1)


def test_training_with_adam_goes_on_where_its_parent_stopped():
    """Two rounds of five steps from the own state are ten steps, optimiser state included."""
    family = mh.TaskFamily(
        sample=lambda key: jnp.array([1.0, -2.0]),
        init=lambda key, task: jnp.zeros(2),
        loss=lambda params, task, split: jnp.sum((params - task) ** 2),
        describe=lambda task: task,
    )
    problem = mh.problems.training(family, lambda h: optax.adam(h["x"]))
    twice = run(scripted([[[0.1]], [[0.1]]], [[-1], [0]]), rounds=2, steps=5, problem=problem)
    once = run(scripted([[[0.1]]], [[-1]]), steps=10, problem=problem)
    np.testing.assert_allclose(twice.history.loss[1], once.history.loss[0], rtol=1e-6)


def test_a_training_state_may_hold_a_random_key():
    problem = Problem(
        sample=lambda key: None,
        init=lambda key, h, task: key,
        step=lambda key, h, task, state: jax.random.fold_in(state, 1),
        loss=lambda key, h, task, state: jax.random.uniform(state),
        describe=lambda task: jnp.zeros(0),
    )
    result = run(scripted([[[0.1]], [[0.1]]], [[-1], [0]]), rounds=2, problem=problem)
    assert result.best_loss == result.history.loss.min()
    np.testing.assert_allclose(jax.random.uniform(result.best_state), result.best_loss)
