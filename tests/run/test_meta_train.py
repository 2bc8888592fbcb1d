"""meta_train: gradient descent on hyperparameters over many tasks."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh


def noisy_targets():
    """The best ``x`` is the mean of the tasks, 2."""
    return mh.problems.function(lambda h: h["x"])._replace(
        sample=lambda key: 2.0 + jax.random.normal(key),
        loss=lambda key, h, task, state: (h["x"] - task) ** 2,
    )


def train(problem, hparams, rounds, optimizer=None, tasks=4, **kwargs):
    return mh.meta_train(
        jax.random.key(0),
        problem,
        mh.hypergrad.reverse(problem, steps=1),
        hparams,
        optax.sgd(0.1) if optimizer is None else optimizer,
        rounds=rounds,
        tasks=tasks,
        **kwargs,
    )


def test_it_finds_the_mean_of_the_tasks():
    result = train(noisy_targets(), {"x": 0.0}, 300, optax.adam(0.05), tasks=32)
    # The mean of 32 tasks has a standard error of 0.18; Adam averages over many rounds.
    np.testing.assert_allclose(result.hparams["x"], 2.0, atol=0.2)
    assert result.history.loss.shape == (300,)
    assert not result.history.skipped.any()


def test_gradients_are_averaged_over_tasks():
    problem = noisy_targets()
    result = train(problem, {"x": 0.0}, 1, optax.sgd(1.0), tasks=3)
    # One step of rate 1 on the mean of (x - t)^2 from 0 gives twice the tasks' mean.
    norm = result.history.grad_norm[0]
    np.testing.assert_allclose(result.hparams["x"], norm, rtol=1e-6)
    one = train(problem, {"x": 0.0}, 1, optax.sgd(1.0), tasks=1)
    assert result.hparams["x"] != one.hparams["x"]


def test_going_on_from_a_state_equals_one_long_call():
    problem, optimizer = noisy_targets(), optax.adam(0.1)
    whole = train(problem, {"x": 0.0}, 10, optimizer)
    first = train(problem, {"x": 0.0}, 6, optimizer)
    second = train(problem, {"x": 0.0}, 4, optimizer, state=first.state)
    np.testing.assert_array_equal(
        whole.history.loss, jnp.concatenate([first.history.loss, second.history.loss])
    )
    np.testing.assert_array_equal(whole.hparams["x"], second.hparams["x"])


@pytest.mark.parametrize("objective", [True, False])
@pytest.mark.parametrize("chunk", [None, 2])
def test_drawing_tasks_for_many_rounds_at_once_changes_nothing(monkeypatch, objective, chunk):
    problem = mh.meta.maml(mh.problems.sinusoid(5, 7, hidden=(3,)), learning_rate=0.1)
    estimator = mh.hypergrad.reverse(problem, 2)
    if not objective:
        estimator = estimator._replace(objective=None)

    def run(most):
        module = importlib.import_module("metahpo.run.meta_train")  # not the function
        monkeypatch.setattr(module, "_MOST_AHEAD", most)
        loop = mh.run.meta_loop(
            problem, estimator, problem.initial(jax.random.key(0)), optax.adam(0.01),
            rounds=12, tasks=4, chunk=chunk,
        )  # fmt: skip
        assert loop.ahead == min(most, 6)  # the most that divides the rounds
        return jax.jit(lambda key: mh.run.scan(loop, key))(jax.random.key(1))

    with jax.enable_x64(True):
        each, some = run(1), run(7)
    np.testing.assert_allclose(some.history.loss, each.history.loss, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-11), some.hparams, each.hparams)


def test_tasks_too_large_for_a_cache_are_drawn_one_round_at_a_time():
    large = noisy_targets()._replace(sample=lambda key: jax.random.normal(key, (2**18,)))
    estimator = mh.hypergrad.reverse(large, steps=1)
    start = {"x": jnp.array(0.0)}
    loop = mh.run.meta_loop(large, estimator, start, optax.sgd(0.1), rounds=8, tasks=1)
    assert loop.draw is None


def test_leaves_that_are_not_floats_stay_as_they_are():
    problem = mh.problems.function(lambda h: h["x"] ** 2 * h["n"])
    result = train(problem, {"x": 1.0, "n": jnp.int32(3)}, 5)
    assert result.hparams["n"] == 3
    assert result.hparams["n"].dtype == jnp.int32
    np.testing.assert_allclose(result.hparams["x"], 0.4**5, rtol=1e-5)


def test_a_gradient_that_is_not_finite_skips_the_update_and_is_counted():
    # The second round's tasks are all NaN: nothing may change, optimiser state included.
    def sample(key):
        return jnp.where(jax.random.uniform(key) < 0.5, jnp.nan, 1.0)

    problem = noisy_targets()._replace(sample=sample)
    result = train(problem, {"x": 0.0}, 20, optax.adam(0.1), tasks=1)
    skipped = np.asarray(result.history.skipped)
    assert 0 < skipped.sum() < 20
    assert result.skipped == skipped.sum()
    assert result.state.opt_state[0].count == 20 - skipped.sum()
    assert np.isfinite(result.hparams["x"])


def test_whole_meta_trainings_run_under_vmap():
    def final(rate):
        return train(noisy_targets(), {"x": 0.0}, 5, optax.sgd(rate)).hparams["x"]

    rates = jnp.array([0.01, 0.1])
    together = jax.jit(jax.vmap(final))(rates)
    np.testing.assert_allclose(together, [final(rates[0]), final(rates[1])], rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_a_round_in_chunks_equals_the_whole_round(chunk):
    def run(chunk):
        # An estimator with a memory: its rows must stay with their tasks.
        problem = noisy_targets()
        estimator = mh.hypergrad.pes(problem, steps=4, window=1, pairs=1, sigma=0.1)
        return mh.meta_train(
            jax.random.key(0), problem, estimator, {"x": 0.0}, optax.sgd(0.1),
            rounds=6, tasks=4, chunk=chunk,
        )  # fmt: skip

    whole, parts = run(None), run(chunk)
    np.testing.assert_allclose(parts.history.loss, whole.history.loss, rtol=1e-5)
    np.testing.assert_allclose(parts.hparams["x"], whole.hparams["x"], rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (parts.state.memory, whole.state.memory)), strict=True):
        if not jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_chunks_bound_the_memory_of_a_round():
    problem = mh.problems.sinusoid(shots=5)
    maml = mh.meta.maml(problem, learning_rate=0.01)
    params = maml.initial(jax.random.key(0))

    def temporary(chunk):
        estimator = mh.hypergrad.reverse(maml, steps=1)
        run = jax.jit(
            lambda key: (
                mh.meta_train(
                    key, maml, estimator, params, optax.sgd(0.1), rounds=1, tasks=64, chunk=chunk
                ).hparams
            )
        )
        compiled = run.lower(jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(8) < temporary(None) / 4


@pytest.mark.parametrize("chunk", [0, 3, 5])
def test_a_chunk_that_does_not_divide_the_tasks_is_refused(chunk):
    with pytest.raises(ValueError, match=f"chunk={chunk} for tasks=4"):
        train(noisy_targets(), {"x": 0.0}, 1, chunk=chunk)


@pytest.mark.parametrize("kwargs", [{"rounds": 0}, {"rounds": 1, "tasks": 0}])
def test_it_needs_rounds_and_tasks(kwargs):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        train(noisy_targets(), {"x": 0.0}, **kwargs)


def test_evaluate_gives_the_loss_of_fresh_tasks():
    losses = mh.run.fresh_losses(
        jax.random.key(1), noisy_targets(), {"x": jnp.array(2.0)}, steps=1, tasks=4000
    )
    # E (2 - t)^2 = 1 with standard error sqrt(2 / 4000) = 0.022
    np.testing.assert_allclose(losses.mean(), 1.0, atol=0.09)


def test_the_old_spelling_of_fresh_losses_warns():
    with pytest.warns(DeprecationWarning, match=r"run\.evaluate is now metahpo\.run\.fresh_losses"):
        assert mh.run.evaluate is mh.run.fresh_losses


# A task is a number in [0, 1], and those above 0.7 go wrong in different ways.
BROKEN = {
    "nothing": lambda value, bad: value * jnp.where(bad, 0.0, 1.0),
    "loss": lambda value, bad: value * jnp.where(bad, jnp.nan, 1.0),
    "infinite loss": lambda value, bad: value + jnp.where(bad, jnp.inf, 0.0),
    "gradient": lambda value, bad: value + jnp.sqrt(0.0 * value + jnp.where(bad, 0.0, 1.0)),
}


def meta_update(how, estimator=mh.hypergrad.reverse, tasks=4, rounds=1, **kwargs):
    def loss(key, h, task, state):
        value = (h["x"] - task) ** 2 + h["x"] * h["y"][0]
        return BROKEN[how](value, task > 0.7)

    problem = mh.problems.function(lambda h: 0.0)._replace(
        sample=lambda key: jax.random.uniform(jax.random.fold_in(key, 1)), loss=loss
    )
    start = {"n": jnp.array(3), "x": jnp.array(1.5), "y": jnp.array([0.5, 2.0])}
    made, rate = estimator(problem, 1), optax.sgd(1.0)
    result = mh.meta_train(
        jax.random.key(1), problem, made, start, rate, rounds=rounds, tasks=tasks, **kwargs
    )
    moved = jax.tree.map(lambda new, old: new - old, result.hparams, start)
    return result, moved


@pytest.mark.parametrize("chunk", [4, 2])
@pytest.mark.parametrize("how", ["loss", "infinite loss", "gradient"])
def test_a_task_that_is_left_out_does_not_count(how, chunk):
    # The others' sum: a loss of 0 adds nothing to it.
    _, total = meta_update("nothing")
    result, moved = meta_update(how, on_divergence="leave_out", chunk=chunk)
    assert result.left_out == 1 and result.history.tasks.tolist() == [4]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(3 * a, 4 * b, rtol=1e-6), moved, total)
    assert not result.skipped and np.isfinite(result.history.loss).all()
    skipped, nothing = meta_update(how)
    assert skipped.skipped == 1 and skipped.left_out == 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(nothing))


def test_leaving_out_nothing_is_the_mean_of_all():
    _, plain = meta_update("nothing")
    result, moved = meta_update("nothing", on_divergence="leave_out")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), moved, plain)
    assert result.left_out == 0


def test_an_update_without_any_task_is_skipped():
    result, moved = meta_update("loss", tasks=1, rounds=30, on_divergence="leave_out")
    assert 0 < result.skipped == result.left_out < 30
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))


def test_the_memory_of_a_task_that_is_left_out_begins_anew():
    problem = mh.problems.function(lambda h: 0.0)._replace(
        sample=lambda key: jax.random.uniform(key),
        init=lambda key, h, task: jnp.where(task > 0.7, jnp.nan, 0.0),
        step=lambda key, h, task, w: w - h["x"] * (w - 1),
        loss=lambda key, h, task, w: w**2,
    )
    made = mh.hypergrad.pes(problem, 4, 2, 2, 0.1)
    result = mh.meta_train(
        jax.random.key(0),
        problem,
        made,
        {"x": jnp.array(0.1)},
        optax.sgd(0.01),
        rounds=40,
        tasks=4,
        on_divergence="leave_out",
    )
    # A task that began without a number would never have one again.
    assert 0 < result.left_out < 100 and result.skipped < 10


def test_an_unknown_answer_to_divergence_is_refused():
    with pytest.raises(ValueError, match="on_divergence must be one of"):
        meta_update("loss", on_divergence="ignore")


def test_fresh_losses_and_a_search_agree_on_what_has_diverged():
    space = {"x": mh.Float(0.0, 1.0)}
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        problem = mh.problems.function(lambda h, value=value: value + 0.0 * h["x"])
        losses = mh.run.fresh_losses(jax.random.key(0), problem, {"x": 0.5}, steps=1, tasks=2)
        strategy = mh.strategies.random(space, population=2)
        with pytest.warns(UserWarning, match="no loss of any candidate was finite"):
            found = mh.search(jax.random.key(0), problem, space, strategy, rounds=1, steps=1)
        assert losses.tolist() == found.history.loss[0].tolist() == [jnp.inf, jnp.inf]
