"""A learning-rate schedule, one rate a step, learned by hypergradients and used in plain optax."""

import jax
import jax.numpy as jnp
import optax

import metahpo as mh

STEPS = 50


def main(rounds=100, directory="results/learned_schedule"):
    family = mh.problems.sinusoid(shots=20, queries=50)

    def optimizer(hparams):  # the rates are learned as logarithms, so they stay positive
        rates = jnp.exp(hparams["log_rates"])
        return optax.adam(lambda step: rates[jnp.minimum(step, STEPS - 1)])

    problem = mh.problems.training(family, optimizer)
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(problem, STEPS), norm=1.0)
    start = {"log_rates": jnp.full(STEPS, jnp.log(1e-3))}
    learn = jax.jit(
        lambda key: mh.meta_train(
            key, problem, estimator, start, optax.adam(0.1), rounds=rounds, tasks=8
        )
    )
    rates = jnp.exp(learn(jax.random.key(0)).hparams["log_rates"])
    mh.report.save_npz(f"{directory}/rates.npz", {"rates": rates})

    schedule = lambda step: rates[jnp.minimum(step, STEPS - 1)]  # noqa: E731 - an optax schedule
    for name, rate in {"1e-3": 1e-3, "1e-2": 1e-2, "learned": schedule}.items():
        plain = mh.problems.training(family, lambda h, rate=rate: optax.adam(rate))
        losses = jax.jit(
            lambda key, plain=plain: mh.run.fresh_losses(key, plain, {}, steps=STEPS, tasks=100)
        )(jax.random.key(1))
        print(f"Adam with the rate {name}: loss {losses.mean():.3f} on new tasks")
    return rates


if __name__ == "__main__":
    main()
