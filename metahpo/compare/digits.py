"""The comparison on real data: every method on the same held-out tasks of handwritten digits.

A method is a function ``(Setting) -> Trials``.  Here are the methods that only see the new task;
those that learned from other tasks before are in ``digits_learned``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metahpo import hypergrad, inner, strategies
from metahpo.base import HParams, Key, Problem, Strategy, Task, TaskFamily
from metahpo.problems import TrainState, digits, digits_accuracy, digits_minibatch, training
from metahpo.run import search
from metahpo.space import Choice, Float, Int, encode
from metahpo.study.trials import Trials, timed

STEPS = 100
MAX_WIDTH = 64
ACTIVATIONS = ("relu", "tanh")
GRADIENT_COST = 3
"""Complete trainings that one reverse-mode hypergradient is charged for: its arithmetic is 2.8
times that of the training it differentiates."""

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


class Setting(NamedTuple):
    """What all methods share.

    Attributes:
        key: for what is learned on other tasks.
        tasks: the held-out tasks, leading axis ``[tasks]``.
        keys: ``key[tasks, seeds]``, the same for every method.
        budget: complete trainings that a method may spend on a task.
        effort: the share of its usual work that a method puts into learning on other tasks.
    """

    key: Key
    tasks: Task
    keys: Key
    budget: int
    effort: float = 1.0

    def share(self, work: int) -> int:
        """So much of the usual work on other tasks."""
        return max(1, round(self.effort * work))


Method = Callable[[Setting], Trials]


def setting(seed: int, tasks: int, seeds: int, budget: int, effort: float = 1.0) -> Setting:
    """Draws the held-out tasks and the keys of a comparison."""
    task_key, run_key, learn_key = jax.random.split(jax.random.key(seed), 3)
    held_out = jax.jit(jax.vmap(digits(MAX_WIDTH).sample))(jax.random.split(task_key, tasks))
    return Setting(learn_key, held_out, jax.random.split(run_key, (tasks, seeds)), budget, effort)


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


def on_all(one: Callable[..., Any], setting: Setting, *shared: Any) -> tuple[Any, float, float]:
    """Runs ``one(key, task, *shared)`` on all tasks and seeds; result, compile and run seconds.

    The tasks follow one another inside the compiled program: what trains at the same time then
    fits into the processor's cache.
    """

    def everything(keys: Key, tasks: Task, *shared: Any) -> Any:
        over_seeds = jax.vmap(one, (0, None) + (None,) * len(shared))
        return jax.lax.map(lambda pair: over_seeds(*pair, *shared), (keys, tasks))

    return timed(everything, setting.keys, setting.tasks, *shared)


def as_trials(outcome: tuple[chex.Array, chex.Array], cost: float, *seconds: float) -> Trials:
    """Flattens the evaluations of each task and seed."""
    loss, score = (np.asarray(x).reshape(*x.shape[:2], -1) for x in outcome)
    return Trials(loss, score, float(cost), *seconds)


def default(setting: Setting) -> Trials:
    """The default hyperparameters, trained again with another seed for every training."""
    train, hparams = inner.outer_loss(problem(), STEPS), defaults()

    def one(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        def again(key: Key) -> tuple[chex.Array, chex.Array]:
            loss, state = train(key, hparams, task)
            return loss, test_accuracy(key, hparams, task, state)

        return jax.vmap(again)(jax.random.split(key, setting.budget))

    outcome, *seconds = on_all(one, setting)
    return as_trials(outcome, 1, *seconds)


def searched(
    setting: Setting, strategy: Strategy, rounds: int, steps: int = STEPS, cost: float = 1
) -> Trials:
    """A strategy's search on each task."""

    def one(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        return run_search(key, task, strategy, rounds, steps)

    outcome, *seconds = on_all(one, setting)
    return as_trials(outcome, cost, *seconds)


def run_search(
    key: Key, task: Task, strategy: Strategy, rounds: int, steps: int = STEPS
) -> tuple[chex.Array, chex.Array]:
    """Losses and test accuracies of all evaluations of one search."""
    estimator = hypergrad.reverse(problem(), steps, "none") if strategy.needs_grad else None
    result = search(
        key,
        problem(),
        SPACE,
        strategy,
        rounds=rounds,
        steps=steps,
        task=task,
        estimator=estimator,
        metrics=test_accuracy,
    )
    return result.history.loss, result.history.metrics


def random(setting: Setting) -> Trials:
    """Random search, all at once."""
    return searched(setting, strategies.random(SPACE, setting.budget), rounds=1)


def grid(setting: Setting) -> Trials:
    """A full grid with as many values a dimension as the budget allows, in random order."""
    points = max(1, int(setting.budget ** (1 / len(SPACE)) + 1e-9))
    return searched(setting, strategies.grid(SPACE, setting.budget, points=points), rounds=1)


def differential_evolution(setting: Setting) -> Trials:
    """Differential evolution with 8 members, fewer for budgets below 16."""
    population = evolution_population(setting.budget)
    strategy = strategies.differential_evolution(SPACE, population)
    return searched(setting, strategy, rounds=-(-setting.budget // population))


def evolution_population(budget: int) -> int:
    """Members of differential evolution: at least two generations, at most 8 members."""
    return min(8, max(4, budget // 2))


def pbt(setting: Setting) -> Trials:
    """As many members as the budget has trainings, five intervals; the architecture is frozen."""
    intervals = 5
    strategy = strategies.pbt(SPACE, max(2, setting.budget), frozen=("width", "activation"))
    return searched(setting, strategy, intervals, STEPS // intervals, 1 / intervals)


def hypergradient(setting: Setting) -> Trials:
    """Hypergradient descent from two starts, the default hyperparameters and a random point."""
    starts = 2
    initial = encode(SPACE, defaults())[None]
    strategy = strategies.hypergradient(SPACE, starts, initial=initial)
    rounds = max(1, setting.budget // (GRADIENT_COST * starts))
    return searched(setting, strategy, rounds, cost=GRADIENT_COST)
