"""A network that makes the optimiser for a task: of its descriptor, and of what training shows."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from metahpo import checks
from metahpo.base import HParams, Key, Params, Problem, PyTree, State, Task
from metahpo.learned_optimizers import feedback as feedbacks
from metahpo.learned_optimizers.update_rule import UpdateRule, update_rule


class TaskRule(NamedTuple):
    """An optimiser for each task, with weights to learn.

    Attributes:
        init: ``(key) -> TaskRuleWeights``.
        transform: ``(weights, descriptor f[F]) -> optax.GradientTransformation``.
        weights: ``(weights, descriptor f[F]) -> weights of the rule`` before any feedback.
        familiar: ``(descriptor f[F]) -> bool[]``, whether the task is like those seen.
    """

    init: Callable[[Key], PyTree]
    transform: Callable[[PyTree, chex.Array], optax.GradientTransformation]
    weights: Callable[[PyTree, chex.Array], PyTree]
    familiar: Callable[[chex.Array], chex.Array]


class TaskRuleWeights(NamedTuple):
    """The weights of ``for_task``; ``D`` is the number of weights of the rule.

    Attributes:
        center: the rule's weights for a task in the middle.
        hidden: ``f[H, X]``, from what is known of the task to hidden units.
        bias: ``f[H]``.
        skip: ``f[D, X]``, from what is known straight to the rule's weights.
        out: ``f[D, H]``, from hidden units to the rule's weights.
    """

    center: PyTree
    hidden: chex.Array
    bias: chex.Array
    skip: chex.Array
    out: chex.Array


class TaskRuleState(NamedTuple):
    """The optax state: the rule's, and what training has shown, ``()`` without feedback."""

    rule: optax.OptState
    feedback: PyTree


class Told(NamedTuple):
    """What ``described`` tells a problem: ``weights``, and the task's ``descriptor`` f[F]."""

    weights: PyTree
    descriptor: chex.Array


class ToldState(NamedTuple):
    """The task's ``descriptor`` f[F], and the ``training`` state."""

    descriptor: chex.Array
    training: State


def for_task(
    rule: UpdateRule,
    seen: chex.ArrayTree,
    *,
    hidden: int = 16,
    feedback: bool = False,
    fallback: PyTree | None = None,
    reach: float = 2.0,
) -> TaskRule:
    """A hypernetwork: the weights of any rule as a function of the task.

    With the descriptor ``d`` in standard units of those ``seen``, the rule's weights are::

        center + skip x + out tanh(hidden x + bias),   x = d

    So of a ``mixture`` it makes the shares, the rates and the schedules of each layer for the task
    at hand, and of ``per_parameter_mlp`` another network.  With ``feedback`` ``x`` has, in every
    update, five numbers more of what training shows (``feedback.features``: loss, its trend, size
    and consistency of the gradients, time), and the weights of the rule follow them.  Untrained,
    ``skip`` and ``out`` are zero: the rule as its ``init`` makes it, for every task.

    A network says anything of a task unlike those that it was learned on.  The distance of a
    descriptor to the nearest of those seen is hence compared with ``reach`` times the largest such
    distance among those seen; beyond it the rule has the weights ``fallback``, exactly.

    Args:
        rule: any UpdateRule whose state does not hold its weights, as none of the ladder does.
        seen: ``f[N, F]``, descriptors of at least two tasks like those it will be learned on.
        hidden: units of the network.
        feedback: whether it also sees the training; ``update`` then needs ``value=``, the loss.
        fallback: weights of the rule for tasks unlike any seen, such as ``one_hot`` of the best
            single optimiser; never falls back without.
        reach: how far beyond the tasks seen others are still like them.

    Returns:
        A TaskRule.

    Raises:
        ValueError: for descriptors of another shape or that are not finite, no hidden units, a
            ``reach`` that is not positive, and weights of another rule; in ``update`` for a missing
            ``value`` with feedback.

    Example:
        >>> import metahpo as mh
        >>> lo = mh.learned_optimizers
        >>> rule = lo.mixture({"adam": optax.adam(0.1), "sgd": optax.sgd(1.0)})
        >>> best = lo.one_hot(rule.init(jax.random.key(0)), 1)
        >>> made = lo.for_task(rule, jnp.array([[0.0], [1.0]]), fallback=best)
        >>> weights = made.init(jax.random.key(0))
        >>> jax.nn.softmax(made.weights(weights, jnp.array([0.5])).logits).tolist()
        [[0.5, 0.5]]
        >>> jax.nn.softmax(made.weights(weights, jnp.array([9.0])).logits).tolist()
        [[0.0, 1.0]]
    """
    checks.record("rule", rule, UpdateRule, "a function of mh.learned_optimizers")
    hidden = checks.whole("hidden", hidden)
    checks.positive(reach=reach)
    tasks = np.asarray(seen)
    if tasks.ndim != 2 or len(tasks) < 2 or tasks.shape[1] < 1 or not np.isfinite(tasks).all():
        raise ValueError(
            f"seen must be finite descriptors f[N, F] of at least two tasks, got {tasks.shape}"
        )
    middle, spread = tasks.mean(0), tasks.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    known = (tasks - middle) / spread
    farthest = reach * _nearest_of_others(known)
    like = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    number = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(like))
    inputs = tasks.shape[1] + (feedbacks.FEATURES if feedback else 0)
    if fallback is not None:
        checks.alike("fallback", fallback, jax.tree.map(lambda x: np.zeros(x.shape, "f4"), like))

    def init(key: Key) -> TaskRuleWeights:
        rule_key, hidden_key = jax.random.split(key)
        return TaskRuleWeights(
            rule.init(rule_key),
            jax.random.normal(hidden_key, (hidden, inputs)) / math.sqrt(inputs),
            jnp.zeros(hidden),
            jnp.zeros((number, inputs)),
            jnp.zeros((number, hidden)),
        )

    def in_units(descriptor: chex.Array) -> chex.Array:
        d = jnp.asarray(descriptor, jnp.result_type(float))
        if d.shape != middle.shape:
            raise ValueError(f"a descriptor must have the shape {middle.shape}, got {d.shape}")
        return (d - middle.astype(d.dtype)) / spread.astype(d.dtype)

    def familiar(descriptor: chex.Array) -> chex.Array:
        gaps = jnp.asarray(known, jnp.result_type(float)) - in_units(descriptor)
        return jnp.sqrt(jnp.square(gaps).sum(1).min()) <= farthest

    def made(weights: TaskRuleWeights, d: chex.Array, shown: list[chex.Array]) -> PyTree:
        flat, tree = ravel_pytree(weights.center)
        x = jnp.concatenate([in_units(d), *shown])
        # Tasks unlike any seen must not poison the gradient of the others.
        x = x if fallback is None else jnp.where(familiar(d), x, 0.0)
        moved = weights.skip @ x + weights.out @ jnp.tanh(weights.hidden @ x + weights.bias)
        own = tree(flat + moved)
        if fallback is None:
            return own
        return jax.tree.map(lambda a, b: jnp.where(familiar(d), a, b), own, fallback)

    def at_start(weights: TaskRuleWeights, descriptor: chex.Array) -> PyTree:
        return made(weights, descriptor, _unheard(feedback))

    def transform(weights: TaskRuleWeights, descriptor: chex.Array) -> optax.GradientTransformation:
        def of_task(weights: TaskRuleWeights) -> optax.GradientTransformation:
            def optimizer(shown: list[chex.Array]) -> optax.GradientTransformationExtraArgs:
                own = rule.transform(made(weights, descriptor, shown))
                return optax.with_extra_args_support(own)

            def start(params: Params) -> TaskRuleState:
                inner = optimizer(_unheard(feedback)).init(params)
                return TaskRuleState(inner, feedbacks.silent(params) if feedback else ())

            def update(
                grads: Params, state: TaskRuleState, params: Params | None = None, **extra: Any
            ) -> tuple[Params, TaskRuleState]:
                heard, shown = state.feedback, []
                if feedback:
                    if extra.get("value") is None:
                        raise ValueError(
                            "a rule with feedback needs the loss: "
                            "call update(grads, state, params, value=loss)"
                        )
                    heard = feedbacks.heard(state.feedback, grads, extra["value"])
                    shown = [feedbacks.features(heard)]
                updates, inner = optimizer(shown).update(grads, state.rule, params, **extra)
                return updates, TaskRuleState(inner, heard)

            return optax.GradientTransformationExtraArgs(start, update)

        return update_rule("for_task", init, of_task).transform(weights)

    return TaskRule(init, transform, at_start, familiar)


def described(problem: Problem) -> Problem:
    """A problem whose optimiser is told the task's descriptor, to learn a ``TaskRule`` by.

    Args:
        problem: with ``Told`` hyperparameters, such as ``problems.training(family, lambda told:
            task_rule.transform(*told))``, and a family that has a descriptor.

    Returns:
        A Problem whose hyperparameters are the weights alone.

    Example:
        >>> import metahpo as mh
        >>> lo, family = mh.learned_optimizers, mh.problems.quadratics(4)
        >>> made = lo.for_task(lo.learnable(optax.sgd, {"learning_rate": 0.01}), np.eye(2))
        >>> family = family._replace(describe=lambda task: task.eigenvalues[:2])
        >>> training = mh.problems.training(family, lambda told: made.transform(*told))
        >>> weights, problem = made.init(jax.random.key(0)), lo.described(training)
        >>> float(mh.inner.outer_loss(problem, 3)(
        ...     jax.random.key(1), weights, family.sample(jax.random.key(2)))[0]) < 1.0
        True
    """
    checks.record("problem", problem, Problem, "mh.problems.training")

    def init(key: Key, hparams: HParams, task: Task) -> ToldState:
        descriptor = problem.describe(task)  # once a training
        return ToldState(descriptor, problem.init(key, Told(hparams, descriptor), task))

    def step(key: Key, hparams: HParams, task: Task, state: ToldState) -> ToldState:
        told = Told(hparams, state.descriptor)
        return state._replace(training=problem.step(key, told, task, state.training))

    def loss(key: Key, hparams: HParams, task: Task, state: ToldState) -> chex.Array:
        return problem.loss(key, Told(hparams, state.descriptor), task, state.training)

    return Problem(problem.sample, init, step, loss, problem.describe)


def _unheard(feedback: bool) -> list[chex.Array]:
    return [jnp.zeros(feedbacks.FEATURES, jnp.result_type(float))] if feedback else []


def _nearest_of_others(points: np.ndarray) -> float:
    """The largest distance of any point to the nearest of the others."""
    gaps = np.square(points[:, None] - points[None]).sum(-1)
    np.fill_diagonal(gaps, np.inf)
    return float(np.sqrt(gaps.min(1).max()))
