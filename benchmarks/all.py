"""Runs every benchmark of this folder, each in a process of its own, and merges their rows.

    python -m benchmarks.all --out FILE

A module's new rows replace its old ones in FILE; the rows of a module that failed stay as they
were, and the exit status says that one failed.
"""

import argparse
import json
import pkgutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import benchmarks
from benchmarks import common

NOT_BENCHMARKS = {"all", "common"}


def topics() -> list[str]:
    """The names of the benchmark modules; a leading underscore is for what they share."""
    found = pkgutil.iter_modules(benchmarks.__path__)
    names = {module.name for module in found if not module.ispkg}
    return sorted(name for name in names - NOT_BENCHMARKS if not name.startswith("_"))


def merge(old: list[dict], new: list[dict], topic: str) -> list[dict]:
    """The old rows with those of ``topic`` replaced, ordered by topic."""
    kept = [row for row in old if row["name"].split("/")[0] != topic]
    return sorted(kept + new, key=lambda row: row["name"].split("/")[0])


def run(topic: str, quick: bool) -> list[dict] | None:
    """The rows of one benchmark, ``None`` if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{topic}", "--json", str(out)]
        status = subprocess.run(command + ["--quick"] * quick).returncode
        return json.loads(out.read_text()) if status == 0 and out.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/DEVICE.json")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    arguments = parser.parse_args()
    out: Path | None = arguments.out
    found, failed = topics(), []
    for number, topic in enumerate(found, 1):
        print(f"[{number}/{len(found)}] {topic}", flush=True)
        start = time.perf_counter()
        new = run(topic, arguments.quick)
        print(f"[{number}/{len(found)}] {topic}: {time.perf_counter() - start:.0f} s", flush=True)
        if not new:
            failed.append(topic)
            continue
        out = out or Path(__file__).parent / "results" / common.file_name(new[0]["device"])
        old = json.loads(out.read_text()) if out.exists() else []
        common.write(merge(old, new, topic), out)
        print(f"wrote {len(new)} rows to {out}", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
