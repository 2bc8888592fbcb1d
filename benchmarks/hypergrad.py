"""Hypergradients: seconds, operations, memory and error of metahpo and of its peers.

python benchmarks/peers/install.py    # once: the peers' environment; without it, our rows only
python -m benchmarks.hypergrad --json FILE
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import _implicit, _peers, _unrolled, common
from benchmarks._reference import REFERENCE, SMALL, Size
from benchmarks._regression import DESCENT, KINDS, QUASI_NEWTON, Inner
from benchmarks._variants import Effort
from benchmarks.common import Row


class Sizes(NamedTuple):
    """How much is measured."""

    reference: Size
    small: Size
    tasks: int
    long: Size
    budget: int  # bytes, for the long training
    longest: Size
    states: int  # to be stored of the longest training
    short: int  # steps that compile seconds are compared with
    examples: int  # of the regressions
    features: int
    regressions: tuple[tuple[str, Inner], ...]
    modes: tuple[str, ...]
    growing: tuple[str | int, ...]  # modes whose compile seconds should not
    effort: Effort


FULL = Sizes(
    REFERENCE,
    SMALL,
    tasks=64,
    long=Size((64, 64, 64, 10), batch=64, steps=1000),
    budget=2 * 2**20,
    longest=Size((64, 64, 64, 10), batch=64, steps=10_000),
    states=60,
    short=100,
    examples=1024,
    features=256,
    regressions=tuple((kind, inner) for kind in KINDS for inner in (DESCENT, QUASI_NEWTON)),
    modes=("none", "step", "sqrt", "auto"),
    growing=("none", "step", "sqrt", 60),
    effort=Effort(repeats=7, compilations=3, limit=30.0),
)
QUICK = Sizes(
    Size((6, 8, 4), batch=6, steps=5),
    Size((4, 6, 3), batch=5, steps=4),
    tasks=2,
    long=Size((6, 8, 4), batch=6, steps=30),
    budget=100_000,
    longest=Size((6, 8, 4), batch=6, steps=100),
    states=20,
    short=10,
    examples=40,
    features=5,
    regressions=(("ridge", DESCENT),),
    modes=("auto",),
    growing=("sqrt",),
    effort=Effort(repeats=1, compilations=1, limit=5.0),
)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes = QUICK if quick else FULL
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    modes, effort = sizes.modes, sizes.effort
    yield from _unrolled.one_training(sizes.reference, modes, effort)
    yield from _unrolled.many_trainings(sizes.small, sizes.tasks, modes, effort)
    yield from _unrolled.under_a_cap(sizes.long, sizes.budget, effort)
    yield from _unrolled.in_few_states(sizes.longest, sizes.states, effort)
    yield from _unrolled.compile_growth(sizes.longest, sizes.short, sizes.growing, effort)
    for kind, inner in sizes.regressions:
        yield from _implicit.regression(kind, inner, sizes.examples, sizes.features, effort)


if __name__ == "__main__":
    common.main(measure, __doc__)
