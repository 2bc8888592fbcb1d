"""Problems: training processes, and the task families that they train on."""

from metahpo.problems.averaged import averaged
from metahpo.problems.bbob import BBOBInstance, bbob, bbob_instance, bbob_space
from metahpo.problems.digits import (
    DigitsTask,
    digits,
    digits_accuracy,
    digits_minibatch,
)
from metahpo.problems.digits_few_shot import digits_few_shot
from metahpo.problems.episode_checks import check_episode
from metahpo.problems.episodes import episodes
from metahpo.problems.few_shot import (
    Episode,
    Examples,
    accuracy,
    cross_entropy,
    few_shot,
    squared_error,
)
from metahpo.problems.joint import joint
from metahpo.problems.masked_mlp import MaskedMLP
from metahpo.problems.mixed_integer import (
    MixedIntegerInstance,
    mixed_integer,
    mixed_integer_instance,
    mixed_integer_space,
)
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
from metahpo.problems.sinusoid import sinusoid
from metahpo.problems.splits import Split, split
from metahpo.problems.synthetic import function
from metahpo.problems.training import TrainState, training
from metahpo.safe_sqrt import with_safe_sqrt

__all__ = [
    "BBOBInstance",
    "DigitsTask",
    "Episode",
    "Examples",
    "MaskedMLP",
    "MixedIntegerInstance",
    "OmniglotImages",
    "Quadratic",
    "Split",
    "TrainState",
    "accuracy",
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
    "episodes",
    "few_shot",
    "function",
    "joint",
    "mixed_integer",
    "mixed_integer_instance",
    "mixed_integer_space",
    "omniglot",
    "quadratics",
    "read_omniglot",
    "schedule_problem",
    "schedule_space",
    "sinusoid",
    "split",
    "squared_error",
    "static_ratio",
    "training",
    "with_safe_sqrt",
]
