"""Reference values of the BBOB functions, from the platform COCO (package ``coco-experiment``).

    python benchmarks/peers/bbob_reference.py tests/problems/bbob_reference.npz

Needs ``coco-experiment``, and ``cma``, which knows what COCO adds to each function and where its
optima are; nothing of metahpo.  ``--full`` writes all instances 1 ... 15 and more points.

Arrays of the functions F and dimensions D, for the N ``instances``: ``f.F.D`` f[N, P], the values
as COCO returns them, ``f_opt.F`` f[N] and ``x_opt.F.D`` f[N, D].  The points are the same for all
functions: ``near.D`` f[P/2, D], to be added to ``x_opt``, at distances from 1e-1 down to 1e-6, and
after them ``far.D`` f[P/2, D], uniform in [-5, 5]^D, the last one in [-8, 8]^D.
"""

import sys
import warnings

import cocoex
import numpy as np
from cma import bbobbenchmarks

DIMENSIONS = (2, 3, 5, 10, 20, 40)
SCHWEFEL_OPTIMUM = 4.2096874637 / 2  # cma rounds it another way than COCO


def optimum(function: int, dimension: int, instance: int) -> tuple[float, np.ndarray]:
    """The lowest value and where it is."""
    peer = bbobbenchmarks.dictbbob[function](instance)
    peer(np.zeros(dimension))  # sets the dimension
    x_opt = np.array(peer.xopt, dtype=float)
    if function == 20:
        x_opt = np.sign(x_opt) * SCHWEFEL_OPTIMUM
    return peer.fopt, x_opt


def main(path: str, full: bool) -> None:
    warnings.simplefilter("ignore")
    suite = cocoex.Suite("bbob", "instances: 1-15", "")
    instances = np.arange(1, 16) if full else np.array([1, 4, 15])
    half = 10 if full else 3
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"instances": instances}
    for dimension in DIMENSIONS:
        distances = 10.0 ** np.linspace(-1, -6, half)[:, None]
        near = distances * rng.standard_normal((half, dimension))
        far = rng.uniform(-5, 5, (half, dimension))
        far[-1] *= 1.6
        arrays[f"near.{dimension}"], arrays[f"far.{dimension}"] = near, far
        for function in range(1, 25):
            optima = [optimum(function, dimension, int(i)) for i in instances]
            values = np.empty((len(instances), 2 * half))
            for row, (instance, (_, x_opt)) in enumerate(zip(instances, optima, strict=True)):
                problem = suite.get_problem_by_function_dimension_instance(
                    function, dimension, int(instance)
                )
                values[row] = [problem(x) for x in (*(x_opt + near), *far)]
            name = f"{function}.{dimension}"
            arrays[f"f.{name}"] = values
            arrays[f"x_opt.{name}"] = np.stack([x_opt for _, x_opt in optima])
            arrays[f"f_opt.{function}"] = np.array([f_opt for f_opt, _ in optima])
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], "--full" in sys.argv)
