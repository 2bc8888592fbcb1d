"""Studies: methods or sizes in, tables, files and pictures out, parts kept as they are finished."""

from metahpo.study.command import command
from metahpo.study.comparison import Comparison, Outcome, run
from metahpo.study.findings import Findings, write
from metahpo.study.paired import paired
from metahpo.study.panels import draw_intervals, draw_runs, panels
from metahpo.study.results import against, as_findings
from metahpo.study.trials import Reached, Trials, reached, timed
from metahpo.study.work import Work, prepare

__all__ = [
    "Comparison",
    "Findings",
    "Outcome",
    "Reached",
    "Trials",
    "Work",
    "against",
    "as_findings",
    "command",
    "draw_intervals",
    "draw_runs",
    "paired",
    "panels",
    "prepare",
    "reached",
    "run",
    "timed",
    "write",
]
