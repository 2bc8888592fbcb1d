"""Whether runs survive what happens to them: kills, damaged files, full disks, wrong calls.

    python -m benchmarks.faults --json FILE

* ``kills``: processes killed (SIGKILL) at a random moment, with all that they started, and resumed
  until they come to an end: ``search`` and ``meta_train`` driven with a checkpoint after every
  round, ``minimize`` alone, with threads and with processes, and ``python -m metahpo compare``.
  The history must have the bytes of that of a run which nothing happened to.
* ``damaged files``: a bit flipped, a part set to zero, cut short, emptied, removed, doubled, text
  in front, in any file of a checkpoint, of saved arrays and of a comparison.  Right is an error
  that names the file or its folder, or the result of the sound files.
* ``wrong calls``: of everything public that takes numbers, names, records or functions.  Right is
  a ``ValueError`` or ``TypeError`` that names the argument or the value.
* ``full disk``, ``SIGTERM``, ``two on one folder``, ``one of two dies``: right is a clear end
  within a minute, after which the run goes on to the bytes of the undisturbed one.

The moments and the damages are drawn from fixed seeds, the moments of kills with seconds that the
machine decides.  Kills and wrong calls are no measure of a rate: every single one that does not end
right is a fault, and is printed.
"""

import os
import sys
import tempfile
from collections.abc import Iterator

from benchmarks import common
from benchmarks.common import Row


def measure(quick: bool) -> Iterator[Row]:
    # Children are forked before this process has computed anything, and compile into one cache.
    from benchmarks import _fault_kills as kills

    os.environ["JAX_PLATFORMS"] = "cpu"
    share = 0.01 if quick else 1.0
    with tempfile.TemporaryDirectory() as cache:
        found = kills.all_counted(cache, share)
        for name, (killed, runs, same, errors) in found.items():
            yield from _rows(f"kills, {name}", killed, runs, same, errors)
        from benchmarks import _fault_endings as endings

        for name, ended in endings.all_ended(share).items():
            good = min(ended.clear, ended.kept)
            yield from _rows(name, ended.times, ended.times, good, ended.errors)
            yield common.row(f"faults/{name}", "slowest_end_seconds", "s", [ended.slowest])
    from benchmarks import _fault_calls as calls
    from benchmarks import _fault_damage as damage

    ends, wrong = damage.counted(share)
    damages = sum(ends.values())
    yield from _rows("damaged files", damages, damages, ends["refused"] + ends["right"], wrong)
    yield common.row("faults/damaged files", "refused", "", [ends["refused"]])
    asked, named, others = calls.counted()
    yield from _rows("wrong calls", asked, asked, named, others)


def _rows(name: str, faults: int, runs: int, right: int, errors: list[str]) -> Iterator[Row]:
    for error in errors:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
    yield common.row(f"faults/{name}", "faults", "", [faults])
    yield common.row(f"faults/{name}", "runs", "", [runs])
    yield common.row(f"faults/{name}", "right", "", [right])


if __name__ == "__main__":
    common.main(measure, __doc__)
