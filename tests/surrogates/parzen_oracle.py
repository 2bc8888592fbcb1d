"""Writes parzen_reference.json: Optuna's densities of some observations.

python tests/surrogates/parzen_oracle.py     (needs optuna, which the tests do not)
"""

import functools
import json
from pathlib import Path
from unittest import mock

import numpy as np

COUNTS = (0, 1, 2, 5, 24, 26, 60, 150)
POINTS = 12
# name -> (kind, low, high, log); of a choice the number of values.
DIMENSIONS = {
    "float": ("float", -2.0, 3.0, False),
    "rate": ("float", 1e-4, 1.0, True),
    "whole": ("int", 1, 9, False),
    "many": ("int", 0, 5000, False),
    "width": ("int", 4, 512, True),
    "kind": ("choice", 3),
}


def drawn(rng, count, around):
    """Values of all dimensions, ``[count]`` each, of which some stand twice."""
    values = {}
    for name, (kind, *numbers) in DIMENSIONS.items():
        if kind == "choice":
            values[name] = rng.integers(0, numbers[0], count)
            continue
        low, high, log = numbers
        unit = np.clip(rng.normal(around, 0.2, count), 0, 1)
        ends = np.log([low, high]) if log else np.array([low, high], float)
        value = ends[0] + unit * (ends[1] - ends[0])
        value = np.clip(np.exp(value) if log else value, low, high)
        values[name] = np.round(value) if kind == "int" else value
    return values


def density(observed, points):
    """Optuna's own, of value for floats, on a logarithmic scale of its logarithm."""
    from optuna import distributions
    from optuna.samplers._tpe import parzen_estimator, sampler

    make = {
        "float": lambda low, high, log: distributions.FloatDistribution(low, high, log=log),
        "int": lambda low, high, log: distributions.IntDistribution(low, high, log=log),
        "choice": lambda count: distributions.CategoricalDistribution(range(count)),
    }
    space = {name: make[kind](*numbers) for name, (kind, *numbers) in DIMENSIONS.items()}
    parameters = parzen_estimator._ParzenEstimatorParameters(
        prior_weight=1.0,
        consider_magic_clip=True,
        consider_endpoints=False,
        weights=sampler.default_weights,
        multivariate=True,
    )
    # Of equal values NumPy's fastest sort puts another one first on another processor, and then
    # they have other widths; a stable one is the same everywhere, as ours is.
    stable = functools.partial(np.argsort, kind="stable")
    with mock.patch.object(np, "argsort", stable):
        estimator = parzen_estimator._ParzenEstimator(observed, space, parameters)
    return estimator.log_pdf(points)


def cases():
    """``(observed, points)`` for every count."""
    rng = np.random.default_rng(0)
    for count in COUNTS:
        yield drawn(rng, count, 0.3), drawn(rng, POINTS, 0.5)


def main():
    lines = [
        json.dumps(
            {
                "observed": {name: values.tolist() for name, values in observed.items()},
                "points": {name: values.tolist() for name, values in points.items()},
                "log_density": density(observed, points).tolist(),
            }
        )
        for observed, points in cases()
    ]
    out = Path(__file__).with_name("parzen_reference.json")
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
