"""An update rule learned on small tasks, then an optax transformation like any other."""

import jax
import optax

import metahpo as mh


def main(rounds=100, steps=40, directory="results/learned_optimizer"):
    family = mh.problems.sinusoid(shots=20, queries=50)
    rule = mh.learned_optimizers.per_parameter_mlp(rate=1e-2)

    problem = mh.problems.training(family, rule.transform)  # its weights are the hyperparameters
    estimator = mh.hypergrad.clipped(mh.hypergrad.reverse(problem, steps), norm=1.0)
    learn = jax.jit(
        lambda key: mh.meta_train(
            key, problem, estimator, rule.init(key), optax.adam(3e-3), rounds=rounds, tasks=8
        )
    )
    result = learn(jax.random.key(0))
    mh.report.save_npz(f"{directory}/rule.npz", result.hparams)

    optimizers = {
        "Adam, 1e-2": optax.adam(1e-2),
        "learned": rule.transform(result.hparams),
        "learned, clipped": optax.chain(
            optax.clip_by_global_norm(1.0), rule.transform(result.hparams)
        ),
    }
    # Beyond the steps that it was trained for a learned rule promises nothing: look before.
    for length in (steps, 4 * steps):
        for name, optimizer in optimizers.items():
            plain = mh.problems.training(family, lambda h, o=optimizer: o)
            losses = jax.jit(
                lambda key, p=plain, n=length: mh.run.fresh_losses(key, p, {}, steps=n, tasks=100)
            )(jax.random.key(1))
            print(f"{length} steps of {name}: loss {losses.mean():.3f} on new tasks")
    return result


if __name__ == "__main__":
    main()
