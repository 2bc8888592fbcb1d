"""Studies: methods or sizes in, tables, files and pictures out, parts kept as they are finished."""

from metahpo.study.command import command
from metahpo.study.compare import Compared, compare
from metahpo.study.comparison import Comparison, Outcome, run
from metahpo.study.findings import Findings, redraw, write
from metahpo.study.methods import GRADIENT_COST, descended, fixed, mapped, searched
from metahpo.study.paired import paired
from metahpo.study.panels import (
    beside,
    column,
    draw_intervals,
    draw_runs,
    label_exit,
    panels,
)
from metahpo.study.results import against, as_findings
from metahpo.study.setting import Setting, make_setting, on_all
from metahpo.study.trials import Reached, Trials, reached, timed
from metahpo.study.work import Work, prepare

__all__ = [
    "GRADIENT_COST",
    "Compared",
    "Comparison",
    "Findings",
    "Outcome",
    "Reached",
    "Setting",
    "Trials",
    "Work",
    "against",
    "as_findings",
    "beside",
    "column",
    "command",
    "compare",
    "descended",
    "draw_intervals",
    "draw_runs",
    "fixed",
    "label_exit",
    "make_setting",
    "mapped",
    "on_all",
    "paired",
    "panels",
    "prepare",
    "reached",
    "redraw",
    "run",
    "searched",
    "timed",
    "write",
]
