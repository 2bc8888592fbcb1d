"""Few-shot learning on data of one's own: MAML on classes of small images."""

import jax
import numpy as np
import optax
from flax import linen
from sklearn.datasets import load_digits

import metahpo as mh


class Network(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(64)(x.reshape(len(x), -1)))
        return linen.Dense(3)(linen.relu(linen.Dense(64)(x)))


def main(rounds=300, tasks=8, directory="results/few_shot_data"):
    images, labels = load_digits(return_X_y=True)
    classes = [images[labels == digit].astype("f4") / 16 for digit in range(10)]
    seen = mh.problems.episodes(classes[:6], ways=3, shots=2, queries=10)
    unseen = mh.problems.episodes(classes[6:], ways=3, shots=2, queries=10)

    family = mh.problems.few_shot(seen, Network(), mh.problems.cross_entropy, ways=3)
    problem = mh.meta.maml(family, learning_rate=0.1)
    estimator = mh.hypergrad.reverse(problem, steps=3)
    start = problem.initial(jax.random.key(0))
    loop = mh.run.meta_loop(problem, estimator, start, optax.adam(1e-3), rounds=rounds, tasks=tasks)
    result = mh.run.drive(loop, jax.random.key(1), name="MAML")

    learner = mh.meta.learner(problem, steps=10)
    for name, hparams in {"untrained": start, "learned": result.hparams}.items():
        scores = mh.meta.evaluate(
            jax.random.key(2), learner, hparams, unseen, mh.problems.accuracy, episodes=200
        )
        print(name, {mode: np.round(score.mean, 3).item() for mode, score in scores.items()})
    mh.report.save_npz(f"{directory}/weights.npz", result.hparams)
    return result


if __name__ == "__main__":
    main()
