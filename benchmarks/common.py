"""What benchmarks share: rows, interleaved timing, the device's name, the command line.

A benchmark is a module ``benchmarks/<topic>.py`` that calls ``main(measure)``, where ``measure``
yields rows; ``benchmarks.all`` finds it by itself.  It imports the core alone.
"""

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Row(NamedTuple):
    """One measured number.

    Attributes:
        name: ``topic/case``.
        metric: what was measured, such as ``run_seconds``.
        value: median over the repeats.
        unit: of ``value`` and of ``baseline``.
        baseline: the baseline's median in the same run, ``None`` without one.
        ratio: ``value / baseline``, the median over the pairs measured next to each other.
        repeats: how often it was measured (run times after one run to warm up).
        device: kind of the device, with the number of cores for a CPU.
        jax: version.
        python: version.
    """

    name: str
    metric: str
    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    repeats: int
    device: str
    jax: str
    python: str


def row(
    name: str, metric: str, unit: str, values: Sequence[float], baseline: Sequence[float] = ()
) -> Row:
    """A row from repeated measurements; ``baseline[i]`` was measured next to ``values[i]``."""
    pairs = [value / other for value, other in zip(values, baseline, strict=False) if other]
    return Row(
        name,
        metric,
        statistics.median(values),
        unit,
        statistics.median(baseline) if baseline else None,
        statistics.median(pairs) if pairs else None,
        len(values),
        device_name(),
        jax.__version__,
        platform.python_version(),
    )


def device_name() -> str:
    """``"cpu 2 cores"``, or what an accelerator calls itself."""
    kind = jax.devices()[0].device_kind
    return f"{kind} {cores()} cores" if kind == "cpu" else kind


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_name(device: str) -> str:
    """``"NVIDIA H100 80GB HBM3"`` -> ``"nvidia-h100-80gb-hbm3.json"``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def interleaved(repeats: int, *calls: Callable[[], Any], warm_up: bool = True) -> list[list[float]]:
    """Seconds of every call, ``[calls][repeats]``, measured in turns: A B A B.

    A neighbour that loads the machine for a while then slows all of them, and the ratio of the two
    measurements of one turn stays fair.
    """
    if warm_up:
        for call in calls:
            jax.block_until_ready(call())
    turns = [[seconds(call) for call in calls] for _ in range(repeats)]
    return [list(column) for column in zip(*turns, strict=True)]


def seconds(call: Callable[[], Any]) -> float:
    """Wall-clock seconds until the call's result is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def write(rows: Sequence[Row | dict[str, Any]], path: Path) -> None:
    """Writes rows as a JSON list, one row a line; never leaves half a file."""
    records = [r if isinstance(r, dict) else r._asdict() for r in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("[\n" + ",\n".join(json.dumps(r) for r in records) + "\n]\n")
    temporary.replace(path)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """A Markdown page with each table put between ``<!-- its name -->`` and ``<!-- end -->``."""
    for name, text in tables.items():
        mark = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
        page, count = re.subn(mark, lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"the page needs the marks of the table {name!r} once, not {count}")
    return page


def main(measure: Callable[[bool], Iterator[Row]], doc: str | None) -> None:
    """The command line of a benchmark: ``--json FILE`` and ``--quick``."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    arguments = parser.parse_args()
    # A compilation that is read from a cache says nothing about compile seconds, and one XLA device
    # a core is what lets a CPU train small models on all of its cores (see benchmarks.core).
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_num_cpu_devices", cores())
    rows = []
    for measured in measure(arguments.quick):
        rows.append(measured)
        print(readable(measured), flush=True)
    if arguments.json:
        write(rows, arguments.json)


def readable(measured: Row) -> str:
    """One line for people."""
    text = f"{measured.name:42} {measured.metric:24} {measured.value:12.5g} {measured.unit}"
    if measured.baseline is not None and measured.ratio is not None:
        text += f"  (baseline {measured.baseline:.5g}, ratio {measured.ratio:.3g})"
    return text
