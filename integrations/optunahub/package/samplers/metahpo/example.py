"""Run from the root of the registry: python package/samplers/metahpo/example.py."""

from __future__ import annotations

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    """A bowl."""
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", -5, 5)
    return x**2 + y**2


if __name__ == "__main__":
    module = optunahub.load_local_module("samplers/metahpo", registry_root="./package")
    study = optuna.create_study(sampler=module.MetahpoSampler("cma_es", population=8, seed=0))
    study.optimize(objective, n_trials=100)
    print(study.best_trial.value, study.best_trial.params)
