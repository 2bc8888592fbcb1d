"""How a peer's process talks to the benchmark: a line in, a line of JSON out.

A peer's script calls ``serve(cases)`` and is started as ``python SCRIPT CASE ARRAYS.npz``.  A case
is ``(arrays) -> run`` and ``run() -> {name: gradient}``, awaited.  The process answers

* at the start: ``device`` (``cpu`` or ``gpu``) and ``first_seconds``, those of the first run, which
  is where a compiler compiles;
* to ``run``: ``seconds`` of one more run;
* to ``result FILE``: writes the gradients to FILE, an npz; ``peak_bytes`` is by how much the
  process's peak memory exceeded what it held before the first run.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Case = Callable[[Arrays], Callable[[], dict[str, Any]]]


def serve(cases: Mapping[str, Case], device: str) -> None:
    """Answers until the input ends."""
    name, path = sys.argv[1:]
    run = cases[name](dict(np.load(path)))
    forget_peak()
    before = status("VmRSS")
    start = time.perf_counter()
    result = run()
    answer(device=device, first_seconds=time.perf_counter() - start)
    for line in sys.stdin:
        order, *rest = line.split(maxsplit=1)
        if order == "run":
            start = time.perf_counter()
            result = run()
            answer(seconds=time.perf_counter() - start)
        elif order == "result":
            np.savez(rest[0].strip(), **{key: np.asarray(value) for key, value in result.items()})
            answer(peak_bytes=max(status("VmHWM") - before, 0))


def answer(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def status(field: str) -> int:
    """Bytes that Linux says of this process, 0 elsewhere."""
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    except OSError:
        return 0


def forget_peak() -> None:
    """Lets the peak memory count anew from here."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass
