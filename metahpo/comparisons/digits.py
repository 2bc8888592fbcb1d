"""The comparison on real data: every method on the same held-out tasks of handwritten digits.

Here are the problem and the methods that only see the new task; those that learned from other tasks
before are in ``digits_learned``.
"""

import chex
import jax.numpy as jnp
import optax

from metahpo import hypergrad, strategies
from metahpo.base import HParams, Key, Problem, Strategy, Task, TaskFamily
from metahpo.problems import TrainState, digits, digits_accuracy, digits_minibatch, training
from metahpo.run import search
from metahpo.space import Choice, Float, Int, encode
from metahpo.study.methods import fixed, searched
from metahpo.study.setting import Setting, make_setting
from metahpo.study.trials import Trials

STEPS = 100
MAX_WIDTH = 64
ACTIVATIONS = ("relu", "tanh")

SPACE = {
    "learning_rate": Float(1e-4, 1e-1, log=True),
    "weight_decay": Float(1e-4, 10.0, log=True),
    "width": Int(4, MAX_WIDTH, log=True),
    "label_smoothing": Float(0.0, 0.5),
    "activation": Choice(ACTIVATIONS),
}
DEFAULTS = {
    "learning_rate": 1e-3,  # the usual rate of Adam (Kingma & Ba 2015)
    "weight_decay": 1e-4,  # optax.adamw's own
    "width": 32,
    "label_smoothing": 0.0,
    "activation": 0,
}


def problem() -> Problem:
    """Training of the masked MLP with AdamW; its hyperparameters are those of ``SPACE``."""

    def optimizer(hparams: HParams) -> optax.GradientTransformation:
        # eps_root keeps hypergradients finite for weights whose gradient is zero.
        return optax.adamw(
            hparams["learning_rate"], weight_decay=hparams["weight_decay"], eps_root=1e-8
        )

    def configure(hparams: HParams) -> TaskFamily:
        return digits(
            MAX_WIDTH,
            hparams["width"],
            hparams["activation"],
            hparams["label_smoothing"],
            ACTIVATIONS,
        )

    return training(digits(MAX_WIDTH), optimizer, configure, digits_minibatch)


def defaults() -> HParams:
    """The default hyperparameters as arrays."""
    return {name: jnp.asarray(value) for name, value in DEFAULTS.items()}


def test_accuracy(key: Key, hparams: HParams, task: Task, state: TrainState) -> chex.Array:
    """The share of the test images that a training state classifies correctly."""
    del key
    width, activation = hparams["width"], hparams["activation"]
    return digits_accuracy(state.params, task, width, activation, ACTIVATIONS)


def setting(seed: int, tasks: int, seeds: int, budget: int) -> Setting:
    """The held-out tasks and the keys."""
    sizes = {"seed": seed, "tasks": tasks, "seeds": seeds, "budget": budget}
    return make_setting(problem(), SPACE, STEPS, test_accuracy, **sizes)


def run_search(
    key: Key, task: Task, strategy: Strategy, rounds: int
) -> tuple[chex.Array, chex.Array]:
    """Losses and test accuracies of all evaluations of one search."""
    result = search(
        key,
        problem(),
        SPACE,
        strategy,
        rounds=rounds,
        steps=STEPS,
        task=task,
        metrics=test_accuracy,
    )
    return result.history.loss, result.history.metrics


default = fixed(DEFAULTS)
"""The default hyperparameters, trained again with another seed for every training."""


def random(setting: Setting) -> Trials:
    """Random search, all at once."""
    return searched(strategies.random(SPACE, setting.budget))(setting)


def grid(setting: Setting) -> Trials:
    """A full grid with as many values a dimension as the budget allows, in random order."""
    points = max(1, int(setting.budget ** (1 / len(SPACE)) + 1e-9))
    return searched(strategies.grid(SPACE, setting.budget, points=points))(setting)


def differential_evolution(setting: Setting) -> Trials:
    """Differential evolution with 8 members, fewer for budgets below 16."""
    population = evolution_population(setting.budget)
    return searched(strategies.differential_evolution(SPACE, population))(setting)


def evolution_population(budget: int) -> int:
    """Members of differential evolution: at least two generations, at most 8 members."""
    return min(8, max(4, budget // 2))


def pbt(setting: Setting) -> Trials:
    """As many members as the budget has trainings, five intervals; the architecture is frozen."""
    strategy = strategies.pbt(SPACE, max(2, setting.budget), frozen=("width", "activation"))
    return searched(strategy, intervals=5)(setting)


def hypergradient(setting: Setting) -> Trials:
    """Hypergradient descent from two starts, the default hyperparameters and a random point."""
    initial = encode(SPACE, defaults())[None]
    strategy = strategies.hypergradient(SPACE, 2, initial=initial)
    estimator = hypergrad.reverse(problem(), STEPS, "none")
    return searched(strategy, estimator=estimator)(setting)
