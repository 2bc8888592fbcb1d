"""The loops that drive problems, strategies and estimators."""

from metahpo._deprecation import renamed
from metahpo.run.as_problem import MetaTraining, as_problem
from metahpo.run.ask_tell import AskTell, Candidate, WaitingError
from metahpo.run.footprint import Footprint, footprint
from metahpo.run.host import drive
from metahpo.run.kept import kept
from metahpo.run.loop import Loop, scan
from metahpo.run.meta_train import (
    MetaHistory,
    MetaResult,
    MetaState,
    fresh_losses,
    meta_loop,
    meta_train,
)
from metahpo.run.minimize import minimize
from metahpo.run.records import (
    EvaluationError,
    Failure,
    InterruptedRun,
    MinimizeResult,
    SearchHistory,
    SearchResult,
)
from metahpo.run.search import search, search_loop

__getattr__ = renamed(
    __name__, {"Memory": "Footprint", "memory": "footprint", "evaluate": "fresh_losses"}
)

__all__ = [
    "AskTell",
    "Candidate",
    "EvaluationError",
    "Failure",
    "Footprint",
    "InterruptedRun",
    "Loop",
    "MetaHistory",
    "MetaResult",
    "MetaState",
    "MetaTraining",
    "MinimizeResult",
    "SearchHistory",
    "SearchResult",
    "WaitingError",
    "as_problem",
    "drive",
    "footprint",
    "fresh_losses",
    "kept",
    "meta_loop",
    "meta_train",
    "minimize",
    "scan",
    "search",
    "search_loop",
]
