"""Studies that the tests of the sampler share."""

import functools
import math

import optuna

import metahpo as mh
from metahpo.integrations.optuna import Sampler

SPACE = {
    "rate": mh.Float(1e-4, 1.0, log=True),
    "share": mh.Float(0.0, 1.0, step=0.25),
    "width": mh.Int(1, 64, log=True),
    "depth": mh.Int(2, 8, step=2),
    "kind": mh.Choice(("relu", "tanh", "none")),
}
MAKE = {
    "cma_es": lambda space: mh.strategies.cma_es(space, population=6),
    "differential_evolution": lambda space: mh.strategies.differential_evolution(space, 6),
    "sobol": lambda space: mh.strategies.sobol(space, 6),
}


def once(make):
    """``make``, which makes one strategy of equal spaces, so its programs are compiled once."""
    made = functools.cache(lambda *dims: make(dict(dims)))
    return lambda space: made(*space.items())


STRATEGIES = {name: once(one) for name, one in MAKE.items()}


def loss(h):
    return (
        (math.log10(h["rate"]) + 2) ** 2
        + abs(h["share"] - 0.75)
        + math.log(h["width"] / 8) ** 2
        + 0.1 * abs(h["depth"] - 4)
        + (h["kind"] != "tanh")
    )


def suggested(trial):
    return {
        "rate": trial.suggest_float("rate", 1e-4, 1.0, log=True),
        "share": trial.suggest_float("share", 0.0, 1.0, step=0.25),
        "width": trial.suggest_int("width", 1, 64, log=True),
        "depth": trial.suggest_int("depth", 2, 8, step=2),
        "kind": trial.suggest_categorical("kind", ["relu", "tanh", "none"]),
    }


def objective(trial):
    return loss(suggested(trial))


def make(name="cma_es", *, seed=3, storage=None, strategies=STRATEGIES, **options):
    return optuna.create_study(
        study_name="s",
        storage=storage,
        load_if_exists=storage is not None,
        sampler=Sampler(strategies[name], seed=seed),
        **options,
    )


def params(study):
    return [trial.params for trial in study.trials]


def candidates(study):
    """The number of every trial's candidate; -1 where it has none."""
    notes = [trial.system_attrs.get("metahpo") for trial in study.trials]
    return [-1 if note is None else note[2] for note in notes]
