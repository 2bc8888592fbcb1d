import jax
import jax.numpy as jnp
import pytest

import metahpo as mh


@pytest.fixture
def descent():
    """Noisy descent on ``c x^2``, c the task, from ``start``; every step uses its own key."""

    def init(key, hparams, task):
        return hparams["start"] * (1.0 + 0.1 * jax.random.normal(key))

    def step(key, hparams, task, state):
        return state - hparams["rate"] * (2.0 * task * state + 0.1 * jax.random.normal(key))

    return mh.Problem(
        sample=lambda key: jax.random.uniform(key, minval=0.5, maxval=2.0),
        init=init,
        step=step,
        loss=lambda key, hparams, task, state: task * state**2,
        describe=lambda task: jnp.log(task)[None],
    )


@pytest.fixture
def space():
    return {"rate": mh.Float(1e-3, 10.0, log=True), "start": mh.Float(1.0, 3.0)}
