"""Methods of a comparison: what a user has, as ``(Setting) -> Trials``."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from metahpo import inner, strategies, transfer
from metahpo import space as spaces
from metahpo.base import Estimator, HParams, Key, PyTree, Strategy, Task
from metahpo.run.agreement import check_same_problem, check_same_space
from metahpo.run.search import search
from metahpo.study.setting import Method, Setting, as_trials, on_all
from metahpo.study.trials import Trials

GRADIENT_COST = 3.0
"""Complete trainings that one hypergradient is charged for: the arithmetic of reverse mode is 2.8
times that of the training it differentiates."""
_STARTS = 2


def as_method(name: str, value: Any, setting: Setting) -> Method:
    """What stands for a method in ``compare``, as a method.

    Args:
        name: of the method.
        value: a ``Strategy``, an ``Estimator``, hyperparameters of the space or a method.
        setting: of the comparison.

    Raises:
        ValueError: for anything else, or what was made for another space or problem.
    """
    try:
        if isinstance(value, Strategy):
            check_same_space(value, setting.space)
            return searched(value)
        if isinstance(value, Estimator):
            check_same_problem(setting.problem, value, setting.steps)
            return descended(value)
    except ValueError as error:
        raise ValueError(f"the method {name!r}: {error}") from error
    if callable(value):
        return value
    try:
        spaces.encode(setting.space, value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the method {name!r} must be a Strategy, an Estimator, hyperparameters of the space "
            f"or a function (study.Setting) -> study.Trials, got {value!r} ({error})"
        ) from error
    return fixed(value)


def fixed(hparams: HParams) -> Method:
    """The same hyperparameters, trained again with another seed for every training.

    Args:
        hparams: values of the space; choices as their values or indices.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> compared = mh.compare(
        ...     mh.problems.function(lambda h: h["x"] ** 2), space,
        ...     {"default": mh.study.fixed({"x": 0.5})}, budget=4, steps=1, progress=False,
        ... )
        >>> compared["default"].reached.loss.mean().item()
        0.25
    """

    def method(setting: Setting) -> Trials:
        unit = spaces.encode(setting.space, hparams)
        # What was asked for and not what its point decodes to, which may differ by a rounding.
        exact = _as_decoded(setting.space, hparams, spaces.decode(setting.space, unit))
        train = inner.outer_loss(setting.problem, setting.steps)

        def one(key: Key, task: Task) -> tuple[chex.Array, Any]:
            def again(key: Key) -> tuple[chex.Array, Any]:
                loss, state = train(key, exact, task)
                return loss, setting.score(key, exact, task, state)

            return jax.vmap(again)(jax.random.split(key, setting.budget))

        outcome, *seconds = on_all(one, setting)
        return as_trials(outcome, 1, *seconds)

    return method


def searched(
    strategy: Strategy,
    *,
    intervals: int | None = None,
    estimator: Estimator | None = None,
    cost: float | None = None,
) -> Method:
    """A strategy's search on each task, for as many rounds as the budget has.

    Args:
        strategy: for the comparison's space.  Of the last round only what the budget covers counts.
        intervals: rounds of a complete training, for a strategy whose members go on from states
            (``pbt``); 5 by default.  They train side by side: the population spends the budget.
        estimator: for a strategy that needs gradients, ``hypergrad.reverse`` by default.
        cost: what an evaluation costs, in complete trainings: 1 by default, ``GRADIENT_COST`` with
            gradients, a part of it with intervals.

    Raises:
        ValueError: for intervals without members that go on from states, for a strategy such as
            ``hyperband`` whose members have trainings of different lengths; when it is run, for
            intervals that do not divide the steps, or more such members than the budget.
    """
    along = strategy.needs.trainings and not strategy.needs.gradients
    if intervals is not None and not along:
        raise ValueError(
            "intervals are of strategies whose members go on from states, such as pbt; leave it out"
        )

    if strategy.needs.sizes:
        raise ValueError(
            "a strategy whose members have trainings of different lengths (needs.sizes), such as "
            "hyperband, cannot be compared yet: a trial has one price"
        )

    def method(setting: Setting) -> Trials:
        size = population(strategy)
        steps, price = setting.steps, GRADIENT_COST if strategy.needs.gradients else 1.0
        if along:
            rounds = 5 if intervals is None else intervals
            if steps % rounds:
                raise ValueError(f"{rounds} intervals must divide the {steps} steps of a training")
            if size > max(2, setting.budget):
                raise ValueError(
                    "members that go on from states train side by side, so the population must be "
                    f"at most the budget of {setting.budget} trainings, got {size}"
                )
            steps, price = steps // rounds, 1 / rounds
        price = price if cost is None else cost
        if not along:
            rounds = max(1, -int(-setting.budget // (price * size)))

        def one(key: Key, task: Task) -> tuple[chex.Array, Any]:
            result = search(
                key,
                setting.problem,
                setting.space,
                strategy,
                rounds=rounds,
                steps=steps,
                task=task,
                estimator=estimator,
                metrics=setting.metric,
            )
            return result.history.loss, result.history.metrics

        outcome, *seconds = on_all(one, setting)
        return as_trials(outcome, price, *seconds)

    return method


def descended(
    estimator: Estimator, *, starts: int = _STARTS, cost: float = GRADIENT_COST
) -> Method:
    """Descent along an estimator's hypergradients from random points of the space.

    Args:
        estimator: of the comparison's problem and steps.
        starts: how many, one after another of equal length.
        cost: what a hypergradient costs, in complete trainings.
    """

    def method(setting: Setting) -> Trials:
        strategy = strategies.hypergradient(setting.space, starts)
        return searched(strategy, estimator=estimator, cost=cost)(setting)

    return method


def mapped(network: transfer.Mapping, weights: PyTree) -> Method:
    """Trainings at what a learned mapping predicts for a task, and at samples around it.

    Args:
        network: from ``transfer.network``; the problem needs a ``describe``.
        weights: learned on other tasks, by ``transfer.fit`` or ``meta_train``.
    """

    def method(setting: Setting) -> Trials:
        train = inner.outer_loss(setting.problem, setting.steps)

        def one(key: Key, task: Task, weights: PyTree) -> tuple[chex.Array, Any]:
            def at(key: Key, unit: chex.Array) -> tuple[chex.Array, Any]:
                hparams = spaces.decode(setting.space, unit)
                loss, state = train(key, hparams, task)
                return loss, setting.score(key, hparams, task, state)

            warm_key, train_key = jax.random.split(key)
            mean, std = transfer.predict(network, weights, setting.problem.describe(task))
            units = transfer.warm_start(warm_key, mean, std, setting.budget)
            return jax.vmap(at)(jax.random.split(train_key, setting.budget), units)

        outcome, *seconds = on_all(one, setting, weights)
        return as_trials(outcome, 1, *seconds)

    return method


def population(strategy: Strategy) -> int:
    """How many members a strategy proposes a round."""

    def asked(key: Key) -> chex.Array:
        return jnp.asarray(strategy.ask(key, strategy.init(key))[0].unit)

    return jax.eval_shape(asked, jax.random.key(0)).shape[0]


def _as_decoded(space: spaces.Space, hparams: HParams, decoded: HParams) -> HParams:
    """Floats as they were given, choices as indices."""
    treedef: Any
    dims, treedef = jax.tree.flatten(space)
    given = spaces.by_name(space, hparams)
    number = spaces.Float | spaces.Int
    leaves = [
        jnp.asarray(given[name], leaf.dtype) if isinstance(dim, number) and name in given else leaf
        for dim, name, leaf in zip(dims, spaces.names(space), jax.tree.leaves(decoded), strict=True)
    ]
    return treedef.unflatten(leaves)
