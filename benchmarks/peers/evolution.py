"""Evolution libraries on a sphere: ``python evolution.py LIBRARY:ALGORITHM:SIZE:POPULATION:... F``.

A case is named ``library:algorithm:size:population:generations:runs``.  All start in [-4, 4]^size;
a run's result is the best value, to see that it works.  Where runs are more than one they are one
vmapped program.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import serve

SIGMA = 2.0
EVOSAX = {
    "cma_es": "CMA_ES",
    "de": "DifferentialEvolution",
    "pso": "PSO",
    "ga": "SimpleGA",
}

Run = Callable[[], dict[str, Any]]


def evosax(algorithm: str, size: int, population: int, generations: int, runs: int) -> Run:
    import evosax.algorithms
    import jax
    import jax.numpy as jnp

    make = getattr(evosax.algorithms, EVOSAX[algorithm])
    es = make(population_size=population, solution=jnp.zeros(size))
    params = es.default_params
    if algorithm == "cma_es":
        params = params.replace(std_init=SIGMA)

    def fitness(x: Any) -> Any:
        return jnp.sum(x**2, axis=-1)

    def generation(state: Any, key: Any) -> tuple[Any, None]:
        ask_key, tell_key = jax.random.split(key)
        x, state = es.ask(ask_key, state, params)
        state, _ = es.tell(tell_key, x, fitness(x), state, params)
        return state, None

    def run(key: Any) -> Any:
        start_key, init_key, key = jax.random.split(key, 3)
        if algorithm == "cma_es":
            start = jax.random.uniform(start_key, (size,), minval=-4.0, maxval=4.0)
            state = es.init(init_key, start, params)
        else:
            start = jax.random.uniform(start_key, (population, size), minval=-4.0, maxval=4.0)
            state = es.init(init_key, start, fitness(start), params)
        state, _ = jax.lax.scan(generation, state, jax.random.split(key, generations))
        return state.best_fitness

    program = jax.jit(jax.vmap(run) if runs > 1 else run)
    key = jax.random.key(0)
    keys = jax.random.split(key, runs) if runs > 1 else key
    return lambda: {"best": np.asarray(program(keys))}


def pycma(algorithm: str, size: int, population: int, generations: int, runs: int) -> Run:
    import cma

    def run() -> dict[str, Any]:
        options = {"popsize": population, "seed": 1, "verbose": -9}
        es = cma.CMAEvolutionStrategy(np.full(size, 3.0), SIGMA, options)
        for _ in range(generations):
            points = es.ask()
            es.tell(points, [float(x @ x) for x in points])
        return {"best": es.result.fbest}

    return run


def cmaes(algorithm: str, size: int, population: int, generations: int, runs: int) -> Run:
    from cmaes import CMA

    def run() -> dict[str, Any]:
        es = CMA(mean=np.full(size, 3.0), sigma=SIGMA, population_size=population, seed=1)
        best = np.inf
        for _ in range(generations):
            told = [(x, float(x @ x)) for x in (es.ask() for _ in range(population))]
            es.tell(told)
            best = min(best, *(value for _, value in told))
        return {"best": best}

    return run


def pymoo(algorithm: str, size: int, population: int, generations: int, runs: int) -> Run:
    from pymoo.algorithms.soo.nonconvex.de import DE
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.algorithms.soo.nonconvex.pso import PSO
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    class Sphere(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=size, n_obj=1, xl=-5.0, xu=5.0)

        def _evaluate(self, x: np.ndarray, out: dict, *args: Any, **kwargs: Any) -> None:
            out["F"] = np.sum(x**2, axis=1)

    def run() -> dict[str, Any]:
        made = {"de": DE, "ga": GA, "pso": PSO}[algorithm](pop_size=population)
        found = minimize(Sphere(), made, ("n_gen", generations), seed=1, verbose=False)
        return {"best": found.F}

    return run


LIBRARIES = {"evosax": evosax, "pycma": pycma, "cmaes": cmaes, "pymoo": pymoo}


def case(name: str, arrays: dict[str, np.ndarray]) -> Run:
    library, algorithm, *numbers = name.split(":")
    return LIBRARIES[library](algorithm, *map(int, numbers))


def device(library: str) -> str:
    """Where a library runs; all but evosax know the CPU alone."""
    if library != "evosax":
        return "cpu"
    import jax

    return jax.default_backend()


if __name__ == "__main__":
    name = sys.argv[1]
    serve.serve({name: partial(case, name)}, device(name.split(":")[0]))
