"""The digits comparison's methods that learn on other tasks before they meet the new one.

What they learn comes from fresh tasks of the same family, and never from a test image.  Their
learning is timed apart from what they spend on the new task.
"""

import time
from collections.abc import Callable
from typing import Any

import chex
import jax
import optax

from metahpo import hypergrad, inner, learned_optimizers, rl, strategies, transfer
from metahpo import space as spaces
from metahpo.base import HParams, Key, PyTree, Task
from metahpo.comparisons.digits import (
    ACTIVATIONS,
    DEFAULTS,
    MAX_WIDTH,
    SPACE,
    STEPS,
    defaults,
    evolution_population,
    problem,
    run_search,
    test_accuracy,
)
from metahpo.problems import digits, digits_minibatch, training
from metahpo.run import meta_train, search
from metahpo.study.methods import mapped
from metahpo.study.setting import Reach, Setting, as_trials, on_all
from metahpo.study.trials import Trials, timed

SEGMENTS = 5
META_TASKS = 64
SEARCH_BUDGET = 64
MEMBERS = 4


def policy(setting: Setting) -> Trials:
    """A policy that moves rates and regularisers between the fifths of a training (REINFORCE)."""
    mean, scale = _standardisation(setting.key)
    environment = rl.tuning_environment(
        problem(),
        SPACE,
        STEPS // SEGMENTS,
        SEGMENTS,
        hparams=defaults(),
        adjust=("learning_rate", "weight_decay", "label_smoothing"),
        moves=(-0.3, -0.1, 0.0, 0.1, 0.3),
        mean=mean,
        scale=scale,
    )
    actor = rl.softmax_policy(environment)
    tuner = rl.problem(environment, actor, loss=lambda state: state.loss)
    estimator = rl.reinforce(environment, actor, SEGMENTS, rollouts=8)

    def learn(key: Key) -> PyTree:
        init_key, train_key = jax.random.split(key)
        return meta_train(
            train_key,
            tuner,
            estimator,
            actor.init(init_key),
            optax.adam(0.01),
            rounds=setting.share(100),
            tasks=8,
        ).hparams

    def score(key: Key, task: Task, played: rl.Played) -> chex.Array:
        state = played.state
        return test_accuracy(key, spaces.decode(SPACE, state.unit), task, state.training.state)

    tune = inner.outer_loss(tuner, SEGMENTS)
    return _learned(setting, learn, tune, score)


def learned_optimizer(setting: Setting) -> Trials:
    """A learned update rule in place of AdamW, the architecture at its defaults."""
    rule = learned_optimizers.per_parameter_mlp(hidden=4)
    width, activation = DEFAULTS["width"], DEFAULTS["activation"]
    family = digits(MAX_WIDTH, width, activation, activations=ACTIVATIONS)
    learner = training(family, rule.transform, minibatch=digits_minibatch)

    def learn(key: Key) -> PyTree:
        init_key, train_key = jax.random.split(key)
        return meta_train(
            train_key,
            learner,
            hypergrad.reverse(learner, STEPS, "step"),
            rule.init(init_key),
            optax.adam(0.01),
            rounds=setting.share(60),
            tasks=4,
        ).hparams

    def score(key: Key, task: Task, state: Any) -> chex.Array:
        return test_accuracy(key, defaults(), task, state)

    train = inner.outer_loss(learner, STEPS)
    return _learned(setting, learn, train, score)


def mapping(setting: Setting) -> Trials:
    """An ensemble from descriptor to floats, learned end to end; more budget samples around it."""
    network = _network(setting, floats_only=True)
    learner = transfer.mapping(problem(), network)
    estimator = hypergrad.reverse(learner, STEPS, "none")

    def learn(key: Key) -> PyTree:
        def member(key: Key) -> PyTree:
            init_key, train_key = jax.random.split(key)
            start, optimizer = network.init(init_key), optax.adam(0.02)
            rounds = setting.share(60)
            return meta_train(
                train_key, learner, estimator, start, optimizer, rounds=rounds, tasks=4
            ).hparams

        return jax.lax.map(member, jax.random.split(key, MEMBERS))

    return _predicted(setting, network, learn)


def mapping_regression(setting: Setting) -> Trials:
    """An ensemble fitted to the best hyperparameters of a search on each of 64 other tasks."""
    network = _network(setting)
    return _predicted(setting, network, lambda key: _regression(key, network, setting))


def mapping_differential_evolution(setting: Setting) -> Trials:
    """Differential evolution from a first population around the regression's prediction."""
    network = _network(setting)
    population = evolution_population(setting.budget)

    def one(key: Key, task: Task, weights: PyTree) -> Reach:
        warm_key, search_key = jax.random.split(key)
        mean, std = transfer.predict(network, weights, problem().describe(task))
        initial = transfer.warm_start(warm_key, mean, std, population)
        strategy = strategies.differential_evolution(SPACE, population, initial)
        return run_search(search_key, task, strategy, -(-setting.budget // population))

    weights, learning = _learn(setting, lambda key: _regression(key, network, setting))
    outcome, *seconds = on_all(one, setting, weights)
    return as_trials(outcome, 1, *seconds, learning)


def _learned(
    setting: Setting,
    learn: Callable[[Key], PyTree],
    train: Callable[[Key, PyTree, Task], tuple[chex.Array, Any]],
    score: Callable[[Key, Task, Any], chex.Array],
) -> Trials:
    """Learns weights, then trains with them on each task, once for every training in the budget."""

    def one(key: Key, task: Task, weights: PyTree) -> Reach:
        def again(key: Key) -> Reach:
            loss, state = train(key, weights, task)
            return loss, score(key, task, state)

        return jax.vmap(again)(jax.random.split(key, setting.budget))

    weights, learning = _learn(setting, learn)
    outcome, *seconds = on_all(one, setting, weights)
    return as_trials(outcome, 1, *seconds, learning)


def _predicted(
    setting: Setting, network: transfer.Mapping, learn: Callable[[Key], PyTree]
) -> Trials:
    """Learns an ensemble, then trains at its prediction and at samples around it."""
    weights, learning = _learn(setting, learn)
    return mapped(network, weights)(setting)._replace(learning_seconds=learning)


def _regression(key: Key, network: transfer.Mapping, setting: Setting) -> PyTree:
    """Searches on other tasks at random, and fits the ensemble to what was best."""
    count = setting.share(META_TASKS)
    task_key, search_key, fit_key = jax.random.split(key, 3)
    tasks = jax.vmap(problem().sample)(jax.random.split(task_key, count))
    strategy = strategies.random(SPACE, SEARCH_BUDGET)

    def best(pair: tuple[Key, Task]) -> chex.Array:
        key, task = pair
        result = search(key, problem(), SPACE, strategy, rounds=1, steps=STEPS, task=task)
        return result.best_unit

    units = jax.lax.map(best, (jax.random.split(search_key, count), tasks))
    descriptors = jax.vmap(problem().describe)(tasks)
    return transfer.fit(fit_key, network, descriptors, units)


def _network(setting: Setting, floats_only: bool = False) -> transfer.Mapping:
    mean, scale = _standardisation(setting.key)
    return transfer.network(SPACE, defaults(), mean, scale, floats_only=floats_only)


def _standardisation(key: Key) -> tuple[chex.Array, chex.Array]:
    """Mean and standard deviation of the descriptors of other tasks."""
    keys = jax.random.split(jax.random.fold_in(key, 0), META_TASKS)
    descriptors = jax.jit(jax.vmap(lambda k: problem().describe(problem().sample(k))))(keys)
    return descriptors.mean(axis=0), descriptors.std(axis=0)


def _learn(setting: Setting, learn: Callable[[Key], HParams]) -> tuple[PyTree, float]:
    """What was learned, and the seconds it took, compilation included."""
    start = time.perf_counter()
    weights, _, _ = timed(learn, jax.random.fold_in(setting.key, 1))
    return weights, time.perf_counter() - start
