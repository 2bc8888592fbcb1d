"""Describe a training problem once, then tune it, or learn to tune it, in one XLA program."""

from metahpo import (
    automl,
    base,
    floats,
    hypergrad,
    inner,
    learned_optimizers,
    links,
    meta,
    networks,
    problems,
    report,
    rl,
    run,
    schedules,
    space,
    stopping,
    strategies,
    study,
    surrogates,
    testing,
    transfer,
)
from metahpo._deprecation import renamed
from metahpo.base import (
    Estimate,
    Estimator,
    Evaluation,
    Needs,
    Network,
    Problem,
    Proposal,
    RoundSize,
    StopReason,
    Strategy,
    TaskFamily,
)
from metahpo.choose import choose
from metahpo.hinted import hinted
from metahpo.mixed_mode import mixed_gradient
from metahpo.reparametrised import reparametrised
from metahpo.run import meta_train, minimize, search
from metahpo.space import Choice, Constant, Float, Int, OneOf
from metahpo.study.compare import compare

__version__ = "0.1.0"

__getattr__ = renamed(__name__, {"checkpointing": "recomputation"})

__all__ = [
    "Choice",
    "Constant",
    "Estimate",
    "Estimator",
    "Evaluation",
    "Float",
    "Int",
    "Needs",
    "Network",
    "OneOf",
    "Problem",
    "Proposal",
    "RoundSize",
    "StopReason",
    "Strategy",
    "TaskFamily",
    "automl",
    "base",
    "compare",
    "choose",
    "floats",
    "hinted",
    "hypergrad",
    "inner",
    "learned_optimizers",
    "links",
    "meta",
    "meta_train",
    "minimize",
    "mixed_gradient",
    "networks",
    "problems",
    "reparametrised",
    "report",
    "rl",
    "run",
    "schedules",
    "search",
    "space",
    "stopping",
    "strategies",
    "study",
    "surrogates",
    "testing",
    "transfer",
]
