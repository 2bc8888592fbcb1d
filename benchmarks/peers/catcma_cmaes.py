"""Generations of CatCMA with margin by its authors' package cmaes, the oracle of the tests of ours.

    python benchmarks/peers/catcma_cmaes.py [FILE]

Run it with an interpreter that has cmaes; it needs nothing of metahpo.  Written are the categorical
distributions before and after generations of a search, with the values that were told in between,
the best first; and how many of 30 searches find all three choices of a mixed function within 600
evaluations.

cmaes steps with the length that it adapted one generation earlier, the publication with the last
one.  So the length is set to the last one before each generation that is written.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
from cmaes import CatCMAwM

COUNTS, POPULATION, WRITTEN = [2, 5, 3], 9, (0, 1, 4, 12, 30)
RUNS, EVALUATIONS = 30, 600
COST = np.array([[0, 5, 4, 3, 2, 1], [3, 1, 0.5, 4, 0, 2], [1, 2, 0, 3, 4, 5.0]])


def state(search):
    """The distributions and what adapts their steps; paths with a row for each choice."""
    rows, at = np.zeros((len(COUNTS), max(COUNTS) - 1)), 0
    for row, count in zip(rows, COUNTS, strict=True):
        row[: count - 1] = search._s[at : at + count - 1]
        at += count - 1
    return {
        "probability": search._q.tolist(),
        "path": rows.tolist(),
        "expected": float(search._gamma),
        "slowness": float(search._Delta),
    }


def generations():
    """Of a search for one integer and three choices, whose loss is noisy."""
    rng = np.random.default_rng(0)
    search = CatCMAwM(z_space=[list(range(10))], c_space=COUNTS, population_size=POPULATION, seed=1)
    written = []
    for generation in range(max(WRITTEN) + 1):
        asked = [search.ask() for _ in range(POPULATION)]
        value = np.array([solution.c.argmax(axis=1) for solution in asked])
        loss = (value != [1, 3, 0]).sum(axis=1) + rng.normal(size=POPULATION)
        search._delta = search._delta_init / search._Delta
        before = state(search)
        search.tell(list(zip(asked, loss, strict=True)))
        if generation in WRITTEN:
            best_first = value[np.argsort(loss)].tolist()
            written.append({"before": before, "values": best_first, "after": state(search)})
    return {"margin": search._qmin.tolist(), "generations": written}


def found(seed):
    """Whether one search finds all three choices, beside three floats and two integers."""
    search = CatCMAwM(
        x_space=[[-1.0, 1.0]] * 3,
        z_space=[np.log(np.arange(1, 1001)), np.arange(1, 17)],
        c_space=[6, 6, 6],
        seed=seed,
    )
    best, right = np.inf, False
    for _ in range(EVALUATIONS // search.population_size):
        told = []
        for _ in range(search.population_size):
            asked = search.ask()
            value = asked.c.argmax(axis=1)
            loss = ((asked.x - 0.3) ** 2).sum() + (asked.z[0] - np.log(130.0)) ** 2
            loss += 0.1 * (asked.z[1] - 11) ** 2 + COST[[0, 1, 2], value].sum()
            told.append((asked, loss))
            if loss < best:
                best, right = loss, value.tolist() == [0, 4, 2]
        search.tell(told)
    return right


if __name__ == "__main__":
    default = Path(__file__).parents[2] / "tests" / "strategies" / "cmaes_categories.json"
    result = {
        "cmaes": importlib.metadata.version("cmaes"),
        "counts": COUNTS,
        "population": POPULATION,
        **generations(),
        "runs": RUNS,
        "evaluations": EVALUATIONS,
        "found": sum(found(seed) for seed in range(1, RUNS + 1)),
    }
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    path.write_text(json.dumps(result) + "\n")
