"""Histories as numbers, tables, files and pictures."""

from metahpo.report.candidates import candidates, save_csv
from metahpo.report.data import (
    Curve,
    Interval,
    best_so_far,
    curve,
    interval,
    regret,
    t_quantile,
    without_shared_differences,
)
from metahpo.report.files import load_json, load_npz, save_json, save_npz
from metahpo.report.importance import importance
from metahpo.report.landscape import draw_importance, draw_parallel, draw_slices
from metahpo.report.plots import draw_bars, draw_curves, draw_training
from metahpo.report.run_lengths import (
    BBOB_TARGETS,
    Distribution,
    RunLengths,
    distribution,
    expected_running_time,
    run_lengths,
    running_time_interval,
)
from metahpo.report.tables import print_table, table

__all__ = [
    "BBOB_TARGETS",
    "Curve",
    "Distribution",
    "Interval",
    "RunLengths",
    "best_so_far",
    "candidates",
    "curve",
    "distribution",
    "draw_bars",
    "draw_curves",
    "draw_importance",
    "draw_parallel",
    "draw_slices",
    "draw_training",
    "expected_running_time",
    "importance",
    "interval",
    "load_json",
    "load_npz",
    "print_table",
    "regret",
    "run_lengths",
    "running_time_interval",
    "save_csv",
    "save_json",
    "save_npz",
    "t_quantile",
    "table",
    "without_shared_differences",
]
