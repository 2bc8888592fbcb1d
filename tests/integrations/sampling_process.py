"""A process that optimises a study in a file: ``storage strategy trials [dies at this trial]``."""

import os
import sys

import optuna
from studies import loss, make, suggested


def main(storage, name, trials, dies=None):
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        h = suggested(trial)
        if dies is not None and trial.number == int(dies):
            os._exit(9)
        return loss(h)

    make(name, storage=storage).optimize(objective, n_trials=int(trials))


if __name__ == "__main__":
    main(*sys.argv[1:])
