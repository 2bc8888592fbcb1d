"""Reverse and forward mode: what they keep in memory."""

import jax
import jax.numpy as jnp
import pytest

import metahpo as mh
from metahpo.hypergrad import reverse as reverse_function

KEY = jax.random.key(0)
WIDTH = 50_000


def wide() -> mh.Problem:
    """A nonlinear step of a wide state."""

    def step(key, hparams, task, state):
        return jnp.sin(hparams["rate"] * jnp.sin(state)) + hparams["rate"]

    return mh.problems.function(lambda h: h["rate"])._replace(
        init=lambda key, hparams, task: jnp.ones(WIDTH),
        step=step,
        loss=lambda key, hparams, task, state: state.sum(),
    )


def states_kept(estimator):
    run = jax.jit(lambda rate: estimator.estimate(KEY, {"rate": rate}, None, ())[0].grad)
    memory = run.lower(0.9).compile().memory_analysis().temp_size_in_bytes
    return memory / (WIDTH * jnp.ones(()).dtype.itemsize)


def test_forward_mode_keeps_no_more_for_longer_trainings():
    short, long = (states_kept(mh.hypergrad.forward(wide(), steps)) for steps in (10, 1000))
    assert short == long < 10


def test_auto_stores_every_state_while_they_fit_and_segments_above(monkeypatch):
    module = __import__(reverse_function.__module__, fromlist=["STORED_STATES_BYTES"])
    size = 64 * WIDTH * 4
    monkeypatch.setattr(module, "STORED_STATES_BYTES", size)
    assert 64 <= states_kept(mh.hypergrad.reverse(wide(), 64)) < 80
    monkeypatch.setattr(module, "STORED_STATES_BYTES", size - 1)
    assert states_kept(mh.hypergrad.reverse(wide(), 64)) < 30


def test_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="checkpoint must be one of .*'auto'.*, got 'half'"):
        mh.hypergrad.reverse(wide(), 4, checkpoint="half")
