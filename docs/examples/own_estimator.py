"""An estimator of one's own, in a file of one's own."""

import jax
import jax.numpy as jnp
import optax

import metahpo as mh


def central_differences(problem, steps, width=1e-3):
    """Of the outer loss with respect to scalar hyperparameters; two trainings for each."""
    loss = mh.inner.outer_loss(problem, steps)

    def estimate(key, hparams, task, memory):
        def slope(name):
            value = jnp.asarray(hparams[name])
            if not jnp.issubdtype(value.dtype, jnp.floating):
                return jnp.zeros(())  # a whole number has no derivative
            up, down = ({**hparams, name: value + s * width} for s in (1, -1))
            return (loss(key, up, task)[0] - loss(key, down, task)[0]) / (2 * width)

        grad = {name: slope(name) for name in hparams}
        return mh.Estimate(loss(key, hparams, task)[0], grad, {}), memory

    return mh.Estimator(lambda key, hparams, task: (), estimate)


def main(rounds=40):
    mh.testing.check_estimator(central_differences, rtol=1e-4)
    problem = mh.problems.function(lambda h: (h["x"] - 0.3) ** 2 + (h["y"] + 0.2) ** 2)
    estimator = central_differences(problem, steps=1)
    start = {"x": jnp.array(1.0), "y": jnp.array(1.0)}
    learned = mh.meta_train(
        jax.random.key(1), problem, estimator, start, optax.sgd(0.1), rounds=rounds, tasks=1
    )
    print(learned)
    return learned


if __name__ == "__main__":
    main()
