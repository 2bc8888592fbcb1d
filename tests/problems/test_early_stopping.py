"""Early stopping, beside a loop by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh

KEY = jax.random.key(0)


def valley(noise):
    """Whose loss falls and rises, with bumps; every third update may fail."""
    return mh.Problem(
        sample=lambda key: None,
        init=lambda key, h, task: {"t": jnp.zeros(()), "x": h["start"]},
        step=lambda key, h, task, s: {"t": s["t"] + 1, "x": s["x"] - h["rate"]},
        loss=lambda key, h, task, s: s["x"] ** 2 + noise * jnp.sin(5 * s["t"]),
        predict=lambda s, x: s["x"] * x,
    )


def by_hand(problem, hparams, steps, patience, every):
    state = problem.init(KEY, hparams, None)
    best = lowest = problem.loss(KEY, hparams, None, state), state, 0
    waited, t = 0, 0
    while t < steps and waited < patience:
        state, t = problem.step(KEY, hparams, None, state), t + 1
        if t % every:
            continue
        loss = problem.loss(KEY, hparams, None, state)
        if loss < best[0]:
            best, waited = (loss, state, t), 0
        else:
            waited += 1
    return best, t, lowest


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("patience", [1, 4])
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_checkpoint_and_end_are_those_of_a_loop_by_hand(patience, every, rate):
    problem, hparams = valley(0.05), {"start": jnp.array(2.0), "rate": jnp.array(rate)}
    stopped = mh.problems.early_stopping(problem, patience=patience, every=every)
    loss, state = jax.jit(mh.inner.outer_loss(stopped, 40))(KEY, hparams, None)
    (best, _, step), end, _ = by_hand(problem, hparams, 40, patience, every)
    np.testing.assert_allclose(loss, best, rtol=1e-5, atol=1e-6)
    assert (int(state.best_step), int(state.steps)) == (step, end)
    assert float(stopped.predict(state, 2.0)) == float(2.0 * state.best["x"])


def test_members_stop_on_their_own():
    stopped = mh.problems.early_stopping(valley(0.0), patience=2)
    hparams = {"start": jnp.array([1.0, 2.0, 3.0]), "rate": jnp.full(3, 0.25)}
    run = jax.jit(jax.vmap(lambda h: mh.inner.outer_loss(stopped, 40)(KEY, h, None)[1]))
    assert run(hparams).best_step.tolist() == [4, 8, 12]
    assert run(hparams).steps.tolist() == [6, 10, 14]


def test_a_loss_that_is_not_finite_is_never_the_best():
    broken = valley(0.0)._replace(
        loss=lambda key, h, task, s: jnp.where(s["t"] == 3, jnp.nan, s["x"] ** 2)
    )
    stopped = mh.problems.early_stopping(broken, patience=5)
    hparams = {"start": jnp.array(0.75), "rate": jnp.array(0.25)}
    loss, state = mh.inner.outer_loss(stopped, 10)(KEY, hparams, None)
    assert (float(loss), int(state.best_step)) == (0.0625, 2)


def test_hypergradient_is_that_of_the_checkpoint():
    stopped = mh.problems.early_stopping(valley(0.0), patience=2)
    hparams = {"start": jnp.array(2.1), "rate": jnp.array(0.5)}
    estimate, _ = mh.hypergrad.reverse(stopped, 10).estimate(KEY, hparams, None, ())
    assert float(estimate.grad["start"]) == pytest.approx(0.2, rel=1e-4)  # 2 (2.1 - 4 x 0.5)
    assert float(estimate.grad["rate"]) == pytest.approx(-0.8, rel=1e-4)


def test_another_split_may_decide():
    stopped = mh.problems.early_stopping(
        valley(0.0), patience=3, monitor=lambda key, h, task, s: (s["x"] - 1.0) ** 2
    )
    hparams = {"start": jnp.array(2.0), "rate": jnp.array(0.25)}
    loss, state = mh.inner.outer_loss(stopped, 20)(KEY, hparams, None)
    assert (float(loss), int(state.best_step)) == (1.0, 4)


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": 1, "every": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        mh.problems.early_stopping(valley(0.0), **options)
