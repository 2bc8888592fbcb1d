"""An experiment of Ray Tune: ``folder strategy trials [dies after so many trials]``.

The first trial at ``weak`` ends with its process.  A folder in which an experiment broke off is
restored.
"""

import functools
import os
import sys
from pathlib import Path

import optuna
import ray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch

import metahpo as mh
from metahpo.integrations.optuna import Sampler

SPACE = {
    "x": FloatDistribution(-1.0, 1.0),
    "n": IntDistribution(0, 6),
    "kind": CategoricalDistribution(["a", "b"]),
}


def sampler(name):
    return Sampler(functools.partial(getattr(mh.strategies, name), population=4), seed=1)


def score(h):
    return -((h["x"] - 0.3) ** 2) - abs(h["n"] - 3) - (h["kind"] == "b")


def study_in(folder):
    return optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")


class Dies(tune.Callback):
    """The driver ends where it stands."""

    def __init__(self, after):
        self.left = after

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.left -= 1
        if self.left == 0:
            os._exit(9)


def main(folder, name, trials, weak, after=None):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # trials lack this file
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    died = Path(folder) / "died"

    def train(config):
        if config["x"] == float(weak) and not died.exists():
            died.touch()
            os._exit(1)
        tune.report({"score": score(config)})

    if (Path(folder) / "run").exists():
        tuner = tune.Tuner.restore(f"{folder}/run", trainable=train, resume_errored=True)
    else:
        search = OptunaSearch(
            SPACE, metric="score", mode="max", sampler=sampler(name), storage=study_in(folder)
        )
        tuner = tune.Tuner(
            train,
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=int(trials),
                max_concurrent_trials=1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=folder,
                verbose=0,
                callbacks=[Dies(int(after))] if after else [],
            ),
        )
    results = tuner.fit()
    print(len(results), results.num_errors, results.get_best_result("score", "max").config["n"])


if __name__ == "__main__":
    main(*sys.argv[1:])
