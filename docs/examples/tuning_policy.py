"""A policy that adjusts the learning rate while a network trains, learned by REINFORCE."""

import jax
import optax

import metahpo as mh

SPACE = {"rate": mh.Float(1e-4, 1.0, log=True)}
SEGMENTS = 5


def main(rounds=60, steps=10, directory="results/tuning_policy"):
    family = mh.problems.sinusoid(shots=20, queries=50)
    problem = mh.problems.training(family, lambda h: optax.adam(h["rate"]))
    environment = mh.rl.tuning_environment(
        problem, SPACE, segment_steps=steps, segments=SEGMENTS, moves=(-0.15, 0.0, 0.15)
    )
    policy = mh.rl.softmax_policy(environment)
    tuner = mh.rl.problem(environment, policy)
    estimator = mh.rl.reinforce(environment, policy, SEGMENTS, rollouts=16)
    learn = jax.jit(
        lambda key: mh.meta_train(
            key, tuner, estimator, policy.init(key), optax.adam(0.03), rounds=rounds, tasks=8
        )
    )
    weights = learn(jax.random.key(0)).hparams
    mh.report.save_npz(f"{directory}/policy.npz", weights)

    greedy = mh.rl.problem(environment, policy, greedy=True, loss=lambda state: state.loss)
    start = mh.space.decode(SPACE, jax.numpy.array([0.5]))
    for name, judged, hparams, number in (
        ("the constant rate where it begins", problem, start, steps * SEGMENTS),
        ("the policy", greedy, weights, SEGMENTS),
    ):
        losses = jax.jit(
            lambda key, p=judged, h=hparams, n=number: mh.run.fresh_losses(
                key, p, h, steps=n, tasks=100
            )
        )(jax.random.key(1))
        print(f"{name}: loss {losses.mean():.3f} on new tasks")
    return weights


if __name__ == "__main__":
    main()
