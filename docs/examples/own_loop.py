"""A training loop that exists already, in any library: ask for candidates, tell their losses."""

import numpy as np

import metahpo as mh

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 20))
Y = X @ rng.normal(size=20) + rng.normal(size=400)


def train(rate, momentum, epochs=20):
    """A loop of one's own, here gradient descent in NumPy; returns the validation loss."""
    weights, velocity = np.zeros(20), np.zeros(20)
    for _ in range(epochs):
        gradient = X[:300].T @ (X[:300] @ weights - Y[:300]) / 300
        velocity = momentum * velocity - rate * gradient
        weights = weights + velocity
    return np.mean((X[300:] @ weights - Y[300:]) ** 2)


def main(rounds=20, directory="results/own_loop"):
    space = {"rate": mh.Float(1e-4, 1.0, log=True), "momentum": mh.Float(0.0, 0.99)}
    strategy = mh.strategies.cma_es(space, population=8)
    tuner = mh.run.AskTell(space, strategy, seed=0, rounds=rounds)
    tuner.keep_log(directory)  # goes on where an interrupted run was
    while not tuner.over:
        candidate = tuner.ask()
        try:
            loss = train(**candidate.hparams)
        except FloatingPointError as error:  # what failed is told, too
            loss = error
        tuner.tell(candidate.number, loss)
    result = tuner.result()
    print("best:", result.best_hparams, "validation loss", round(result.best_loss, 3))
    return result


if __name__ == "__main__":
    with np.errstate(over="raise"):
        main()
