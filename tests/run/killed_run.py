"""A run that a test kills and resumes: ``python killed_run.py FOLDER`` starts it slowly."""

import sys
import time

import jax
import jax.numpy as jnp
import optax

import metahpo as mh
from metahpo import strategies

SPACE = {"lr": mh.Float(1e-3, 1.0, log=True), "momentum": mh.Float(0.0, 0.99)}
ROUNDS = 40


def _problem():
    def sample(key):
        return jax.random.normal(key, (16, 3))

    def optimizer(h):
        return optax.sgd(h["lr"], h["momentum"])

    def init(key, hparams, task):
        params = jnp.ones(3)
        return params, optimizer(hparams).init(params)

    def step(key, hparams, task, state):
        params, opt_state = state
        rows = task[jax.random.randint(key, (4,), 0, 16)]
        grad = jax.grad(lambda p: jnp.mean((rows @ p - 1.0) ** 2))(params)
        updates, opt_state = optimizer(hparams).update(grad, opt_state)
        return optax.apply_updates(params, updates), opt_state

    def loss(key, hparams, task, state):
        return jnp.mean((task @ state[0] - 1.0) ** 2)

    return mh.Problem(sample, init, step, loss, lambda task: jnp.zeros(0))


def run(folder=None, resume=False, on_chunk=None, chunk=1):
    strategy = strategies.pbt(SPACE, population=4)
    loop = mh.run.search_loop(_problem(), SPACE, strategy, rounds=ROUNDS, steps=2)
    return mh.run.drive(
        loop,
        jax.random.key(7),
        chunk=chunk,
        directory=folder,
        resume=resume,
        progress=False,
        on_chunk=on_chunk,
    )


if __name__ == "__main__":
    run(sys.argv[1], on_chunk=lambda done, history: time.sleep(0.2))
