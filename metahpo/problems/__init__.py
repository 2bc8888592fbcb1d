"""Problems: training processes, and the task families that they train on."""

from metahpo.problems.augmented import (
    Augmented,
    Counted,
    Horizon,
    augmented,
    log_uniform_horizons,
)
from metahpo.problems.averaged import averaged
from metahpo.problems.batches import minibatch
from metahpo.problems.bbob import BBOBInstance, bbob, bbob_instance, bbob_space
from metahpo.problems.criteria import accuracy, cross_entropy, squared_error
from metahpo.problems.digits import (
    DigitsTask,
    digits,
    digits_accuracy,
    digits_minibatch,
)
from metahpo.problems.digits_few_shot import digits_few_shot
from metahpo.problems.early_stopping import EarlyStopped, early_stopping
from metahpo.problems.episode_checks import check_episode
from metahpo.problems.episodes import episodes
from metahpo.problems.few_shot import Episode, Examples, few_shot, padded
from metahpo.problems.joint import joint
from metahpo.problems.linen import linen
from metahpo.problems.masked_mlp import MaskedMLP
from metahpo.problems.mixed_integer import (
    MixedIntegerInstance,
    mixed_integer,
    mixed_integer_instance,
    mixed_integer_space,
)
from metahpo.problems.nnx import nnx
from metahpo.problems.omniglot import omniglot
from metahpo.problems.omniglot_files import OmniglotImages, read_omniglot
from metahpo.problems.quadratics import (
    Quadratic,
    chebyshev_rates,
    chebyshev_ratio,
    quadratics,
    schedule_problem,
    schedule_space,
    static_ratio,
)
from metahpo.problems.regressions import Regression, regressions
from metahpo.problems.regret import normalised_regret
from metahpo.problems.rosenbrock import Valley, rosenbrock
from metahpo.problems.sinusoid import sinusoid
from metahpo.problems.small_mlps import small_mlps
from metahpo.problems.splits import Split, split
from metahpo.problems.stateful import StatefulFamily
from metahpo.problems.surrogate import Surrogate, read_surrogate, surrogate
from metahpo.problems.synthetic import function
from metahpo.problems.tabular import Table, hpobench_nn, hpolib, table, tabular
from metahpo.problems.training import TrainState, training
from metahpo.problems.uniform_quadratics import UniformQuadratic, uniform_quadratics
from metahpo.problems.weight_average import weight_average
from metahpo.safe_sqrt import with_safe_sqrt

__all__ = [
    "Augmented",
    "BBOBInstance",
    "Counted",
    "DigitsTask",
    "EarlyStopped",
    "Episode",
    "Examples",
    "Horizon",
    "MaskedMLP",
    "MixedIntegerInstance",
    "OmniglotImages",
    "Quadratic",
    "Regression",
    "Split",
    "StatefulFamily",
    "Surrogate",
    "Table",
    "TrainState",
    "UniformQuadratic",
    "Valley",
    "accuracy",
    "augmented",
    "averaged",
    "bbob",
    "bbob_instance",
    "bbob_space",
    "chebyshev_rates",
    "chebyshev_ratio",
    "check_episode",
    "cross_entropy",
    "digits",
    "digits_accuracy",
    "digits_few_shot",
    "digits_minibatch",
    "early_stopping",
    "episodes",
    "few_shot",
    "function",
    "hpobench_nn",
    "hpolib",
    "joint",
    "linen",
    "log_uniform_horizons",
    "minibatch",
    "mixed_integer",
    "mixed_integer_instance",
    "mixed_integer_space",
    "nnx",
    "normalised_regret",
    "omniglot",
    "padded",
    "quadratics",
    "read_omniglot",
    "read_surrogate",
    "regressions",
    "rosenbrock",
    "schedule_problem",
    "schedule_space",
    "sinusoid",
    "small_mlps",
    "split",
    "squared_error",
    "static_ratio",
    "surrogate",
    "table",
    "tabular",
    "training",
    "uniform_quadratics",
    "weight_average",
    "with_safe_sqrt",
]
