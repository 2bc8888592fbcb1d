"""An optimiser's steps as a Markov decision process.

State: the parameters, the optimisers' states and what the last steps did.  Action: which of several
optimisers makes the step, or how far one of them goes.  Reward: the fall of the loss.  (Li & Malik
2016, arXiv 1606.01885, for optimisation as such a process and for a history of losses and gradients
as what is seen of it; Daniel et al. 2016 and Xu et al. 2019, arXiv 1909.09712, for policies that
scale the step.)
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from metahpo import checks
from metahpo.base import Key, Params, PyTree, Task, TaskFamily
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.falls import capped, fall
from metahpo.space import Choice, Float, Space
from metahpo.updates import started, updated


class OptimizationState(NamedTuple):
    """The state of an ``optimizer_environment``.

    Attributes:
        task: what is optimised, as ``reset`` was told.
        params: where the optimisation is.
        grad: the gradient there.
        batch: the key of the minibatch that it is of.
        opt_states: of all optimisers, a tuple.
        time: ``i32[]``, steps done.
        initial: ``f[]``, the loss at the beginning.
        loss: ``f[]``, the loss now, as it is: not finite if the optimisation diverged.
        diverged: ``i32[]``, how many steps ended with a loss that is not finite.
        history: ``f[history, 4 + A]``, what the last steps did, the latest first.
    """

    task: Task
    params: Params
    grad: Params
    batch: Key
    opt_states: tuple[PyTree, ...]
    time: chex.Array
    initial: chex.Array
    loss: chex.Array
    diverged: chex.Array
    history: chex.Array


def optimizer_environment(
    family: TaskFamily,
    optimizers: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    steps: int,
    *,
    scale: float = 10.0,
    history: int = 5,
    minibatch: Callable[[Key, Task], Task] | None = None,
    split: Literal["support", "query"] = "support",
    log_reward: bool = False,
    penalty: float = 1.0,
) -> Environment:
    """Optimisation step by step, with a decision about every step.

    Of several optimisers an action chooses which one makes the step: a ``Choice`` of their names.
    All of them see every gradient, so each has the momentum that it would have had as an onlooker.
    Of a single optimiser an action ``a`` in [-1, 1] scales the step: by ``scale ** a``, so that 0
    leaves it alone.  Such a process is differentiable.

    An optimisation that diverges stays diverged.  For rewards and observations a loss counts as at
    most ``initial + penalty * |initial|``, and as just that when it is not finite, so that every
    reward is finite and the rewards of an episode sum to the fall of the (capped, log) loss.

    An observation is the time from -1 to 1 and, for each of the last steps, the latest first,

    * the fall of the loss, ``(before - after) / (|before| + |after|)``, and that of the gradient's
      norm;
    * the cosine between the gradients before and after the step, and between the step and the
      gradient after it: below 0 the step might have been longer, above 0 shorter;
    * the action: 1 for the optimiser that was chosen and 0 for the others, or the number.

    All are in [-1, 1], zero for steps before the first, and the same for a loss, or for parameters,
    in other units.

    Args:
        family: the tasks, how parameters begin and their loss; one state is kept a task.
        optimizers: one, or several by name.
        steps: in an episode, at least 1.  The last one terminates it, as the time is observed;
            whoever steps on nevertheless optimises on.
        scale: the most that an action multiplies the step by, and divides it; above 1.
        history: how many steps are seen, at least 1.
        minibatch: ``(key, task) -> task``, the part of the task that one gradient sees; all of it
            by default.
        split: what the loss of rewards and observations is computed on, all of it; gradients are
            those of ``"support"``.
        log_reward: whether the reward is the fall of the loss's logarithm, which suits losses that
            are positive and fall by orders of magnitude.
        penalty: how far above the initial loss a diverged optimisation counts, relative to it.

    Returns:
        An Environment whose state is an ``OptimizationState``.

    Raises:
        ValueError: for what is no family or no optimiser, no optimisers, zero steps or history, a
            ``scale`` that is not above 1, another split, and a penalty that is not positive.

    Example:
        >>> import metahpo as mh
        >>> environment = optimizer_environment(
        ...     mh.problems.quadratics(4, kappa=10.0),
        ...     {"slow": optax.sgd(0.01), "fast": optax.sgd(0.15)},
        ...     steps=20,
        ... )
        >>> environment.action_space
        Choice(values=('slow', 'fast'), shape=(), ordered=False)
        >>> key = jax.random.key(0)
        >>> state = environment.reset(key, environment.sample(key))
        >>> state, transition = jax.jit(environment.step)(key, state, jnp.int32(1))
        >>> bool(transition.reward > 0), environment.observe(state).shape
        (True, (31,))
    """
    _check(family, optimizers, scale, split, penalty)
    steps, history = checks.counts(steps=steps, history=history)
    actions: Space
    if isinstance(optimizers, Mapping):
        each, actions = list(optimizers.values()), Choice(tuple(optimizers))
    else:
        each, actions = [_scaled(optimizers, 1.0)], Float(-1.0, 1.0)
    wide = len(each)  # an action in the history

    def support_loss(key: Key, task: Task) -> Callable[[Params], chex.Array]:
        batch = task if minibatch is None else minibatch(key, task)
        return lambda params: family.loss(params, batch, "support")

    def reset(key: Key, task: Task) -> OptimizationState:
        init_key, batch_key = jax.random.split(key)
        params = jax.tree.map(jnp.asarray, family.init(init_key, task))
        grad = jax.grad(support_loss(batch_key, task))(params)
        loss = family.loss(params, task, split)
        return OptimizationState(
            task,
            params,
            grad,
            batch_key,
            tuple(started(one, params) for one in each),
            jnp.int32(0),
            loss,
            loss,
            jnp.int32(0),
            jnp.zeros((history, 4 + wide), loss.dtype),
        )

    def step(
        key: Key, state: OptimizationState, action: chex.Array
    ) -> tuple[OptimizationState, Transition]:
        here = support_loss(state.batch, state.task)
        extra = {"value": here(state.params), "grad": state.grad, "value_fn": here}

        def by(optimizer: optax.GradientTransformation, own: PyTree) -> tuple[Params, PyTree]:
            return updated(optimizer, state.grad, own, state.params, **extra)

        if isinstance(actions, Choice):
            moved, opt_states = zip(*map(by, each, state.opt_states), strict=True)
            params = jax.tree.map(lambda *all_: jax.lax.select_n(action, *all_), *moved)
            shown = jax.nn.one_hot(action, wide, dtype=state.history.dtype)
        else:
            number = jnp.clip(action, -1.0, 1.0).astype(state.history.dtype)
            params, own = by(_scaled(optimizers, scale**number), state.opt_states[0])
            opt_states, shown = (own,), number[None]
        grad = jax.grad(support_loss(key, state.task))(params)
        loss = family.loss(params, state.task, split)
        before, after = (capped(each, state.initial, penalty) for each in (state.loss, loss))
        row = jnp.concatenate([_seen(before, after, state, params, grad), shown])
        state = OptimizationState(
            state.task,
            params,
            grad,
            key,
            tuple(opt_states),
            state.time + 1,
            state.initial,
            loss,
            state.diverged + ~jnp.isfinite(loss),
            jnp.concatenate([row[None], state.history[:-1]]).astype(state.history.dtype),
        )
        reward = fall(before, after, log_reward)
        return state, Transition(reward, state.time >= steps, jnp.array(False))

    def observe(state: OptimizationState) -> chex.Array:
        time = 2 * jnp.minimum(state.time, steps).astype(state.history.dtype) / steps - 1
        return jnp.concatenate([time[None], state.history.reshape(-1)])

    seen = Float(-1.0, 1.0, shape=(1 + history * (4 + wide),))
    return Environment(reset, step, observe, actions, seen, family.sample)


def _scaled(
    optimizer: optax.GradientTransformation, factor: chex.Numeric
) -> optax.GradientTransformation:
    return optax.chain(optimizer, optax.scale(factor))


def _seen(
    before: chex.Array,
    after: chex.Array,
    state: OptimizationState,
    params: Params,
    grad: Params,
) -> chex.Array:
    """What a step did to loss and gradient, ``f[4]`` in [-1, 1], in no units."""
    old, new = (ravel_pytree(tree)[0] for tree in (state.grad, grad))
    step = ravel_pytree(jax.tree.map(jnp.subtract, params, state.params))[0]
    (old, old_norm), (new, new_norm), (step, _) = map(_polar, (old, new, step))
    row = jnp.stack([_part(before, after), _part(old_norm, new_norm), old @ new, step @ new])
    return jnp.clip(jnp.where(jnp.isfinite(row), row, 0), -1.0, 1.0)


def _polar(x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The direction of a vector, zero for zero, and its length; no square over- or underflows."""
    largest = jax.lax.stop_gradient(jnp.abs(x).max())
    x = x / jnp.where(largest > 0, largest, 1)
    square = jnp.square(x).sum()
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return x / jnp.where(norm > 0, norm, 1), largest * norm


def _part(before: chex.Array, after: chex.Array) -> chex.Array:
    """The fall relative to both values; of positive ones ``tanh(log(before / after) / 2)``."""
    both = jnp.abs(before) + jnp.abs(after)
    return jnp.where(both > 0, (before - after) / jnp.where(both > 0, both, 1), 0)


def _check(family: Any, optimizers: Any, scale: float, split: str, penalty: float) -> None:
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    if isinstance(optimizers, Mapping):
        if not optimizers:
            raise ValueError("optimizers must be one or several by name, got none")
        for name, one in optimizers.items():
            _check_optimizer(f"optimizers[{name!r}]", one)
    else:
        _check_optimizer("optimizers", optimizers)
    checks.positive(scale=scale, penalty=penalty)
    if scale <= 1:
        raise ValueError(f"scale must be above 1, got {scale}")
    checks.one_of("split", split, ("support", "query"))


def _check_optimizer(name: str, value: Any) -> None:
    checks.record(name, value, optax.GradientTransformation, "optax.adam or a dict of such")
