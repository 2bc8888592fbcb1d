"""A flax NNX network with batch normalisation and dropout: rate, dropout and optimiser tuned."""

import jax
import optax
from flax import nnx
from sklearn.datasets import load_digits

import metahpo as mh


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.norm = nnx.BatchNorm(64, rngs=rngs)
        self.last = nnx.Linear(64, 10, rngs=rngs)
        self.rngs = rngs.dropout.fork()

    def __call__(self, x, rate=0.0):
        x = nnx.relu(self.norm(self.first(x)))
        return self.last(mh.networks.dropout(self.rngs(), x, rate))


def loss(model, batch):
    return mh.problems.cross_entropy(model(batch.x), batch.y)


def training_loss(model, batch, hparams):
    return mh.problems.cross_entropy(model(batch.x, hparams["dropout"]), batch.y)


def optimizer(hparams):
    rate = hparams["rate"]
    return mh.choose(hparams["kind"], [optax.sgd(rate, momentum=0.9), optax.adam(rate)])


def main(rounds=5, steps=300, directory="results/nnx_network"):
    x, y = load_digits(return_X_y=True)
    order = jax.random.permutation(jax.random.key(0), len(y))
    data = mh.problems.split((x / 16).astype("f4")[order], y[order], train=1000, validation=400)
    how = {"batch_size": 64, "training_loss": training_loss}
    problem = mh.problems.nnx(Network, loss, data, optimizer, **how)
    space = {
        "rate": mh.Float(1e-4, 1.0, log=True),
        "dropout": mh.Float(0.0, 0.8),
        "kind": mh.Choice(("sgd", "adam")),
    }
    strategy = mh.strategies.differential_evolution(space, population=8)
    loop = mh.run.search_loop(problem, space, strategy, rounds=rounds, steps=steps)
    result = mh.run.drive(loop, jax.random.key(1), name="nnx network")

    outputs = problem.predict(result.best_state, data.test.x)
    print("best:", mh.space.readable(space, result.best_hparams, digits=3))
    print(f"test accuracy {mh.problems.accuracy(outputs, data.test.y):.3f}")
    mh.report.save_csv(f"{directory}/candidates.csv", mh.report.candidates(space, result))
    mh.report.save_npz(f"{directory}/weights.npz", result.best_state)
    return result


if __name__ == "__main__":
    main()
