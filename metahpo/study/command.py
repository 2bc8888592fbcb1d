"""The command line of an experiment: one call."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from metahpo import checks, report
from metahpo._extras import require
from metahpo.study.findings import Findings, Picture, redraw, write
from metahpo.study.work import Work, prepare


def command(
    name: str,
    about: str,
    study: Callable[[Any, Work], Findings],
    full: NamedTuple,
    quick: NamedTuple,
    pictures: Mapping[str, Picture] = MappingProxyType({}),
    *,
    choices: Collection[str] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Reads the command line of an experiment, runs it, prints its table and writes its files.

    The options are ``--out`` (the results folder), ``--quick``, ``--resume`` (finished parts are
    taken from the folder), ``--redraw`` (only the pictures, of the results in the folder) and
    every field of the size.  A wrong one ends with one line and exit status 2.

    Args:
        name: of its module; the last part is the experiment's, and that of its results folder.
        about: what it is about; the first line is shown by ``--help``.
        study: ``(size, work) -> Findings``.
        full: how much is computed.  Whole numbers are counts, at least 1, but for ``seed``.
        quick: the same for a trial run.
        pictures: by file name, ``(results, path) -> ...``, of what ``results.json`` holds.
        choices: fields that choose among parts and change none: a run may be resumed with others,
            and they are no settings in ``results.json``.
        arguments: of the command line, those of the process by default.

    Example:
        >>> class Size(NamedTuple):
        ...     seeds: int = 30
        >>> def study(size, work):
        ...     parts = work.each(range(size.seeds), lambda seed: {"loss": 2.0**seed})
        ...     return Findings([{"seed": seed, **part} for seed, part in parts.items()])
        >>> import tempfile
        >>> command(
        ...     "experiments.powers", "Powers of two.", study, Size(), Size(seeds=2),
        ...     arguments=["--quick", "--out", tempfile.mkdtemp()],
        ... )  # doctest: +ELLIPSIS
        seed  loss
        ----  ----
           0     1
           1     2
        <BLANKLINE>
        Results are in ...
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        default = quick if "--quick" in arguments else full
        size, out, resume, only_drawn = _read(name, about, default, arguments)
        if only_drawn:
            redraw(out, pictures)
            print(f"Drawn in {out}: {', '.join(pictures) or 'nothing, all pictures need a run'}")
            return
        fields = size._asdict()
        whole = {field: value for field, value in fields.items() if type(value) is int}
        checks.counts(**{field: value for field, value in whole.items() if field != "seed"})
        settings = {field: value for field, value in fields.items() if field not in choices}
        out = prepare(out, {"experiment": name.split(".")[-1], **settings}, resume)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    found = study(size, Work(out, shown=True))
    report.print_table(found.rows, formats=found.formats)
    write(out, found, settings)
    redraw(out, pictures)
    print(f"\nResults are in {out}")


def _read(
    name: str, about: str, default: Any, arguments: Sequence[str]
) -> tuple[Any, Path, bool, bool]:
    """The size, the results folder, whether its run goes on, and whether to draw alone."""
    tyro = require("tyro", "cli")
    folder = Path("results") / name.split(".")[-1]

    def options(
        size: Any = default,
        out: Path = folder,
        quick: bool = False,
        resume: bool = False,
        redraw: bool = False,
    ) -> tuple[Any, Path, bool, bool]:
        """What the command line says.

        Args:
            size: how much is computed.
            out: results folder.
            quick: a trial run: other defaults for the sizes below.
            resume: go on with the run in the results folder; finished parts are taken from there.
            redraw: run nothing; draw the pictures of the results.json in the results folder.
        """
        del quick  # it has chosen the default
        return size, out, resume, redraw

    options.__annotations__["size"] = type(default)
    return tyro.cli(
        options,
        prog=f"python -m {name}",
        description=about.strip().splitlines()[0],
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
