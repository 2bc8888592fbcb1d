"""Tables of the user as arrays of fixed shapes, on the host."""

from metahpo.automl.tables.columns import Columns, read
from metahpo.automl.tables.encoder import Encoder, Rule, encode, learn
from metahpo.automl.tables.folds import folds
from metahpo.automl.tables.padding import Rows, Table, pad, pad_rows
from metahpo.automl.tables.targets import Labels, Numbers, labels, numbers, values

__all__ = [
    "Columns",
    "Encoder",
    "Labels",
    "Numbers",
    "Rows",
    "Rule",
    "Table",
    "encode",
    "folds",
    "labels",
    "learn",
    "numbers",
    "pad",
    "pad_rows",
    "read",
    "values",
]
