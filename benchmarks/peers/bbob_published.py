"""Run lengths of optimisers on the BBOB functions, published in 2009, as shipped with ``cocopp``.

    python benchmarks/peers/bbob_published.py experiments/bbob_2009.json

Needs ``cocopp`` 2.9.1, whose file ``pprldistr2009_1e-8.pickle.gz`` holds, for every optimiser of
the workshop BBOB 2009, function and dimension, the evaluations that 15 runs (three on each of
instances 1 ... 5) took to come within 1e-8 of the optimum, and those that they had in all.
"""

import gzip
import importlib.util
import json
import math
import pickle
import sys
from pathlib import Path

import numpy as np

FILE = "pprldistr2009_1e-8.pickle.gz"
KEPT = {
    "BIPOP-CMA-ES": (2, 3, 5, 10, 20),
    "PSO": (5,),
    "GA": (5,),
    "DE-PSO": (5,),
    "iAMALGAM": (5,),
}
SOURCE = (
    "Data of the workshop on black-box optimization benchmarking (BBOB) 2009, GECCO, as shipped "
    "with cocopp 2.9.1 (" + FILE + "); BIPOP-CMA-ES: Hansen, 'Benchmarking a BI-population CMA-ES "
    "on the BBOB-2009 function testbed', GECCO workshop 2009"
)


def runs(entry) -> dict[str, list[float | None]]:
    """Evaluations of each run up to the target, ``None`` for a failure, and in all."""
    hits, total = np.asarray(entry[0], float)[1:], np.asarray(entry[1], float)
    assert len(hits) == len(total) == 15
    return {
        "hits": [int(hit) if math.isfinite(hit) else None for hit in hits],
        "total": [int(evaluations) for evaluations in total],
    }


def main(path: str) -> None:
    spec = importlib.util.find_spec("cocopp")
    assert spec is not None and spec.origin is not None
    with gzip.open(Path(spec.origin).parent / FILE) as file:
        data = pickle.load(file, encoding="latin1")
    optimisers = {
        name: {
            str(dimension): {str(f): runs(data[name][f][dimension]) for f in range(1, 25)}
            for dimension in dimensions
        }
        for name, dimensions in KEPT.items()
    }
    text = json.dumps({"source": SOURCE, "target": 1e-8, "optimisers": optimisers})
    Path(path).write_text(text.replace('}, "', '},\n"') + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
