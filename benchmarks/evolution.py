"""Evolution: generations per second beside other libraries, and populations of trainings.

    python benchmarks/peers/install.py    # once: the peers' environment; without it, our rows only
    python -m benchmarks.evolution --json FILE

Cases: CMA-ES (D = 10, P = 10; D = 40, P = 15; one run and 64 vmapped), differential evolution,
particle swarms and genetic algorithms (D = 30, P = 100; one run and 64 vmapped) on the sphere; and
populations of 4 to 1,024 trainings of an MLP on handwritten digits.

Metrics:

* ``generations_per_second``: of all runs together; ask, evaluate and tell alone.  The baseline is
  the library named, measured in turns with ours; a ratio above 1 says that metahpo is faster.
  ``..., search`` is the same through ``mh.search``, which also keeps the whole history.
* ``first_seconds``: tracing, compilation and the first run; the baseline is evosax's.
* ``members_per_second`` on digits; ``operations_share`` and ``memory_share`` are the shares of the
  device's matrix-product and memory ceilings (rows ``digits, ceiling``) that such a rate uses, if
  no value stayed in a cache.
* ``temporary_bytes``: XLA's temporary memory of a population's training.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import _generations, _peers, _trainings, common
from benchmarks._generations import CMA_ES, DE, DE_DEFAULT, GA, PSO, Case
from benchmarks._variants import Effort
from benchmarks.common import Row


class Sizes(NamedTuple):
    """How much is measured."""

    cases: tuple[Case, ...]
    effort: Effort
    trainings: _trainings.Sizes


FULL = Sizes(
    (
        Case(CMA_ES, 10, 10, generations=1000, few=200),
        Case(CMA_ES, 10, 10, generations=300, few=0, runs=64),
        Case(CMA_ES, 40, 15, generations=1000, few=200),
        Case(CMA_ES, 40, 15, generations=100, few=0, runs=64),
        Case(DE, 30, 100, generations=1000, few=20),
        Case(DE, 30, 100, generations=50, few=0, runs=64),
        Case(DE_DEFAULT, 30, 100, generations=1000, few=0),
        Case(PSO, 30, 100, generations=1000, few=20),
        Case(PSO, 30, 100, generations=50, few=0, runs=64),
        Case(GA, 30, 100, generations=1000, few=20),
        Case(GA, 30, 100, generations=50, few=0, runs=64),
    ),
    Effort(repeats=9, compilations=1, limit=15.0),
    _trainings.FULL,
)
QUICK = Sizes(
    (Case(CMA_ES, 2, 6, generations=3, few=1),),
    Effort(repeats=1, compilations=1, limit=5.0),
    _trainings.QUICK,
)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes = QUICK if quick else FULL
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    for case in sizes.cases:
        yield from _generations.measure(case, sizes.effort)
    yield from _trainings.measure(sizes.trainings)


if __name__ == "__main__":
    common.main(measure, __doc__)
