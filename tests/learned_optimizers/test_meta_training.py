"""A learned rule must beat what it can replace: SGD, momentum and Adam at their best rates."""

import jax
import jax.numpy as jnp
import optax
import pytest

import metahpo as mh

STEPS = 20
# Rotated, so that no rule on single coordinates solves it, and every task has its own spectrum.
FAMILY = mh.problems.quadratics(
    dimension=10, kappa=100.0, random=True, rotated=True, power=2.0, log=True
)


def mean_loss(problem, hparams):
    """The mean log error after training, on tasks that nothing was trained on."""
    key = jax.random.key(77)
    return mh.run.fresh_losses(key, problem, hparams, steps=STEPS, tasks=32).mean()


def best_of_a_grid(optimizer):
    problem = mh.problems.training(FAMILY, optimizer)
    rates = 10.0 ** jnp.linspace(-3.0, 0.0, 7)
    return jnp.nanmin(jax.jit(jax.vmap(lambda rate: mean_loss(problem, rate)))(rates))


@pytest.mark.slow
def test_meta_trained_rule_beats_untrained_and_tuned_optimisers():
    rule = mh.learned_optimizers.per_parameter_mlp(hidden=4, rate=0.1)
    problem = mh.problems.training(FAMILY, rule.transform)
    estimator = mh.hypergrad.reverse(problem, STEPS, checkpoint="none")
    meta_optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    untrained = rule.init(jax.random.key(0))

    @jax.jit
    def train(key):
        result = mh.meta_train(
            key, problem, estimator, untrained, meta_optimizer, rounds=50, tasks=4
        )
        return mean_loss(problem, untrained), mean_loss(problem, result.hparams), result.skipped

    before, after, skipped = train(jax.random.key(1))
    others = [
        best_of_a_grid(optimizer)
        for optimizer in (optax.sgd, lambda rate: optax.sgd(rate, momentum=0.9), optax.adam)
    ]
    assert skipped == 0
    assert after < before - 1.0
    assert after < min(others) - 1.0  # a factor e in the error
