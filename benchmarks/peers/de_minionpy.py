"""Median evaluations of minionpy's JADE and L-SHADE, the oracle of the tests of ours.

    python benchmarks/peers/de_minionpy.py [FILE]

Run it with an interpreter that has minionpy; it needs nothing of metahpo.  Four functions in ten
dimensions, box [-5, 5], until a loss of at most 1e-8; every evaluation counts, also within a
population.  minionpy's population reduction of JADE, which the source does not have, is switched
off, and so are its stopping rules.  Its JADE averages weights arithmetically.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
from minionpy.minionpycpp import Minimizer

DIMENSION = 10
TARGET = 1e-8
RUNS = 101
STRETCH = 10.0 ** (6 * np.arange(DIMENSION) / (DIMENSION - 1))
FUNCTIONS = {
    "sphere": lambda x: (x**2).sum(axis=1),
    "ellipsoid": lambda x: (STRETCH * x**2).sum(axis=1),
    "rosenbrock": lambda x: (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1),
    "rastrigin": lambda x: (x**2 - 10 * np.cos(2 * np.pi * x) + 10).sum(axis=1),
}
NEVER_STOP = {"x_tol": -1.0, "f_tol": -1.0}
JADE = {"population_size": 30, "minimum_population_size": 30, **NEVER_STOP}
LSHADE = {"bound_strategy": "reflect-random", **NEVER_STOP}
CASES = {  # algorithm, budget, settings
    "JADE": ("JADE", 100_000, JADE),
    "LSHADE": ("LSHADE", 100_000, {"population_size": 180, **LSHADE}),
    "LSHADE, small": ("LSHADE", 20_000, {"population_size": 60, **LSHADE}),
}


def evaluations(case, function, seed):
    """How many evaluations one run takes to the target; infinitely many if it fails."""
    algorithm, budget, settings = CASES[case]
    count, hit = 0, np.inf

    def loss(points, data):
        nonlocal count, hit
        losses = function(np.asarray(points))
        good = np.flatnonzero(losses <= TARGET)
        if np.isinf(hit) and len(good):
            hit = count + good[0] + 1
        count += len(losses)
        return list(losses)

    bounds = [(-5.0, 5.0)] * DIMENSION
    Minimizer(loss, bounds, [], None, None, algorithm, budget, seed, settings).optimize()
    return hit


def measured(case):
    """The settings, and for every function the median and how many runs reached the target."""
    table = {}
    for name, function in FUNCTIONS.items():
        hits = np.array([evaluations(case, function, seed) for seed in range(1, RUNS + 1)])
        table[name] = {"median": float(np.median(hits)), "reached": int(np.isfinite(hits).sum())}
    _, budget, settings = CASES[case]
    return {"budget": budget, "settings": settings, "functions": table}


if __name__ == "__main__":
    default = Path(__file__).parents[2] / "tests" / "strategies" / "minionpy_medians.json"
    result = {
        "minionpy": importlib.metadata.version("minionpy"),
        "dimension": DIMENSION,
        "target": TARGET,
        "runs": RUNS,
        "cases": {case: measured(case) for case in CASES},
    }
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    path.write_text(json.dumps(result, indent=2) + "\n")
