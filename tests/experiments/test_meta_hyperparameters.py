"""MAML's own hyperparameters: masked inner steps are inner steps."""

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from experiments import meta_hyperparameters as study


def test_masked_steps_give_what_so_many_steps_give():
    family = mh.problems.sinusoid(study.SHOTS)
    params = jax.jit(lambda key: mh.meta.initial_params(key, family))(jax.random.key(0))
    tasks = study.episodes(jax.random.key(1), 3, 4)
    hparams = {"inner_rate": jnp.float32(0.05), "inner_steps": 2, "meta_rate": 1e-3}
    loss = mh.inner.outer_loss(mh.meta.maml(family, 0.05), 2)
    each = [
        loss(jax.random.key(0), params, jax.tree.map(lambda x, i=i: x[i], tasks))[0]
        for i in range(3)
    ]
    masked = study.adapted_error(hparams, params, tasks)
    np.testing.assert_allclose(masked, np.mean(each), rtol=1e-6)
    assert abs(masked - study.adapted_error({**hparams, "inner_steps": 3}, params, tasks)) > 1e-4


def test_a_round_is_adam_on_fresh_tasks():
    problem = study.meta_training(validation=2)
    key, hparams = jax.random.key(0), study.PAPER
    state = problem.init(key, hparams, None)

    @jax.jit
    def moved(rate):
        after = problem.step(key, {**hparams, "meta_rate": rate}, None, state).params
        return jax.tree.map(jnp.subtract, after, state.params)

    # Adam's first step is the rate times the gradient's sign.
    steps = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(moved(1e-3))])
    assert np.abs(steps).max() <= 1.001e-3
    assert np.mean(np.abs(steps) > 0.99e-3) > 0.5
