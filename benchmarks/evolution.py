"""Evolution: generations per second beside other libraries, and populations of trainings.

    python benchmarks/peers/install.py    # once: the peers' environment; without it, our rows only
    python -m benchmarks.evolution --json FILE

Cases: CMA-ES (D = 10, P = 10; D = 40, P = 15; one run and 64 vmapped), differential evolution,
particle swarms and genetic algorithms (D = 30, P = 100; one run and 64 vmapped) on the sphere; and
populations of 4 to 1,024 trainings of an MLP on handwritten digits.

Generations run on one core, ours and the peers' alike: where XLA may use two, a small generation
spends about as long in handing work from one thread to another as in doing it (CMA-ES with D = 10
fell from 132,000 to 78,000 generations a second, particle swarms from 95,000 to 45,000).  Trainings
use all cores, one XLA device each.

Metrics:

* ``generations_per_second``: of all runs together; ask, evaluate and tell alone.  The baseline is
  the library named, measured in turns with ours; a ratio above 1 says that metahpo is faster.
  ``..., search`` is the same through ``mh.search``, which also keeps the whole history.
* ``first_seconds``: tracing, compilation and the first run; the baseline is evosax's.
* ``members_per_second`` on digits; ``operations_share`` and ``memory_share`` are the shares of the
  device's matrix-product and memory ceilings (rows ``digits, ceiling``) that such a rate uses, if
  no value stayed in a cache.
* ``temporary_bytes``: XLA's temporary memory of a population's training.

What was learned (CPU):

* A generation of a small population is kernels of a microsecond, so what counts is how many there
  are, and random numbers.  Threefry in one flat loop that uses both words of each block costs half
  of ``jax.random.uniform`` for as many numbers; XLA inlines cheap producers into every consumer, so
  without a barrier the same random numbers are hashed again for each of them (DE was 5 times
  slower).
* CMA-ES needs no eigendecomposition: a Cholesky factor samples as well, and with the steps' path
  kept in the samples' own coordinates its inverse is never needed.  At D = 40 that is 4 times as
  fast as the lazy eigendecomposition for one run, and 7 times for 64.
* Populations of trainings are bound by memory, not by products: beyond the cache, chunks of 32 are
  1.5 to 2 times faster than all members at once, in a sixteenth of the memory.  A memory share
  above 1 says that values stayed in the cache.
* evosax's PSO draws two random numbers a particle, ours two for each of its coordinates; for 64
  swarms at once it stays ahead.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax

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
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    yield from _trainings.measure((QUICK if quick else FULL).trainings)
    # A process of its own, because threads stay on the cores that they were started on.
    call = f"from benchmarks import evolution; evolution.on_one_core({quick})"
    with subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            yield Row(**json.loads(line))._replace(device=common.device_name())
    if child.returncode:
        raise RuntimeError(f"the generations on one core ended with status {child.returncode}")


def on_one_core(quick: bool) -> None:
    """Prints the rows of all cases as JSON; the peers' processes stay on the same core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    jax.config.update("jax_enable_compilation_cache", False)
    sizes = QUICK if quick else FULL
    for case in sizes.cases:
        for row in _generations.measure(case, sizes.effort):
            print(json.dumps(row._asdict()), flush=True)


if __name__ == "__main__":
    common.main(measure, __doc__)
