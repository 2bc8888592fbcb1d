"""The command line: ``python -m metahpo compare digits``."""

import datetime
import sys
from pathlib import Path

from metahpo._extras import require


def compare(
    name: str,
    strategies: tuple[str, ...] = (),
    tasks: int | None = None,
    seeds: int | None = None,
    budget: int | None = None,
    seed: int = 0,
    quick: bool = False,
    out: Path | None = None,
    resume: bool = False,
) -> None:
    """Compares methods on the same tasks and seeds; prints a table, writes results and plots.

    Args:
        name: digits (real classification tasks) or quadratics (the optimum is known).
        strategies: methods to compare, all by default; "default" and the like included.
        tasks: held-out tasks.
        seeds: repetitions on each task.
        budget: complete trainings that a method may spend on a task.
        seed: of everything random.
        quick: a trial run: other defaults for the sizes above, hardly any learning beforehand.
        out: results folder, a new one below results/ by default.
        resume: go on with the run in --out; finished methods are taken from there.
    """
    from metahpo import report
    from metahpo.compare import catalogue
    from metahpo.study import as_findings, run, write

    require("matplotlib", "plot")  # say it now rather than after minutes of work
    what = catalogue.comparison(name, tasks, seeds, budget, seed, quick)
    if resume and out is None:
        raise ValueError("--resume needs --out, the results folder to go on with")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    out = out or Path("results") / f"compare-{name}-{stamp}"
    outcomes = run(what, strategies or tuple(what.methods), out, resume)
    found = as_findings(what, outcomes)
    write(out, found)
    settings = ", ".join(f"{key} {value}" for key, value in what.settings.items())
    report.print_table(found.rows, formats=found.formats, title=f"compare {name}: {settings}")
    print(f"\nMeans and 95 % intervals. Results and plots are in {out}")


def info() -> None:
    """Prints the versions and the devices, for a bug report."""
    import jax

    import metahpo

    print(f"metahpo {metahpo.__version__}, jax {jax.__version__}, python {sys.version.split()[0]}")
    print(f"devices: {', '.join(map(str, jax.devices()))}")


def main() -> None:
    """Reads the command line; a wrong input ends with one line and exit status 2."""
    try:
        tyro = require("tyro", "cli")
        app = tyro.extras.SubcommandApp()
        app.command(compare)
        app.command(info)
        app.cli(
            prog="python -m metahpo",
            description=__doc__,
            config=(tyro.conf.PositionalRequiredArgs,),
        )
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
