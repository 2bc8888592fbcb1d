"""MAML++: rates per layer and step, a loss at every step, a normalisation for every step."""

from typing import NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Params, Problem, Task, TaskFamily
from metahpo.meta.gradients import Gradient, clip
from metahpo.meta.leaves import Chooses, Leaves, by_path, choose, in_norm, in_tree, replace
from metahpo.meta.maml import initial_params
from metahpo.meta.step_sizes import rates_at, unbounded_rate
from metahpo.problems.stateful import keyed_loss


class PlusPlusParams(TypedDict):
    """What MAML++ learns.

    ``params`` are those of the network, with a leading axis ``[steps]`` for the leaves that every
    step has for itself; ``rates`` are f[steps] by path of the leaves that adapt, before they are
    bounded (``bounded_rate``).
    """

    params: Params
    rates: Leaves


class PlusPlusState(NamedTuple):
    """The state of an adaptation.

    Attributes:
        params: as in the hyperparameters, adapted.
        step: ``i32[]``, updates made.
        loss: ``f[]``, the weighted query losses so far; ``None`` without ``weights``.
    """

    params: Params
    step: chex.Array
    loss: chex.Array | None


def maml_plus_plus(
    family: TaskFamily,
    steps: int,
    *,
    initial_rate: chex.Numeric = 0.01,
    largest_rate: chex.Numeric = 10.0,
    largest_gradient: chex.Numeric = 10.0,
    weights: chex.Array | None = None,
    per_step: Chooses = in_norm,
    adapt_per_step: bool = False,
    gradient: Gradient = jax.grad,
) -> Problem:
    """How to train your MAML (Antoniou, Edwards & Storkey 2019), as a Problem.

    * *Learned rates*, one a parameter tensor and step (LSLR).  A rate is
      ``largest_rate * tanh(raw / largest_rate)`` of the learned number, and the inner gradient is
      clipped to a norm of ``largest_gradient``: without both, a learned rate that overshoots
      overflows within a few steps and meta-training ends in NaN.  No update is longer than
      ``largest_rate * largest_gradient``, so that every number stays finite.
    * *Multi-step loss* (MSL, eq. 1): ``weights`` f[steps] sum the query losses after every step.
      They may be traced, as ``step_weights`` anneals them; ``None`` judges the last step alone
      and costs no query passes on the way.
    * *Normalisation per step* (BNWB): leaves that ``per_step`` names, by default those of
      normalisations (``in_norm``), have one copy a step.  The prediction after an update uses its
      copy.
    * *Order annealing* (DA): with ``gradient=mh.meta.constant_gradient`` reverse mode gives
      the first-order meta-gradient.  The hyperparameters are the same, so train with it first
      and hand the result's ``state`` to a second ``meta_train`` without it.  Each of the two
      programs contains only what it uses, which a switch inside one would not.

    What runs beyond ``steps`` repeats the last step's rates and normalisation.

    Args:
        family: data, model and loss; its ``init`` draws the initial parameters.
        steps: inner updates that have rates of their own, at least 1.
        initial_rate: of every tensor and step in the Problem's ``initial``.
        largest_rate: bound of the rates' size, above that of ``initial_rate``.
        largest_gradient: bound of the inner gradient's norm.
        weights: ``f[steps]``, of the query losses after every step; train with exactly ``steps``
            updates and, as ``hypergrad.first_order`` does not see losses on the way, by
            ``reverse`` or ``forward``.
        per_step: ``(path) -> bool``, the leaves with one copy a step.
        adapt_per_step: whether these also adapt to the task.
        gradient: of the support loss, as for ``maml``.

    Returns:
        A Problem with hyperparameters ``{"params": ..., "rates": {path: f[steps]}}``.

    Raises:
        ValueError: if ``steps`` is below 1, ``weights`` of another shape, or a known bound not
            positive; when traced, if no leaf adapts.

    Example:
        >>> import functools, jax, optax, metahpo as mh
        >>> family, steps = mh.problems.quadratics(kappa=10.0), 3
        >>> @functools.partial(jax.jit, static_argnums=1)
        ... def train(weights, gradient, state):
        ...     problem = mh.meta.maml_plus_plus(family, steps, weights=weights, gradient=gradient)
        ...     return mh.meta_train(
        ...         jax.random.key(0), problem, mh.hypergrad.reverse(problem, steps),
        ...         problem.initial(jax.random.key(1)), optax.adam(1e-3),
        ...         rounds=2, tasks=4, state=state,
        ...     )
        >>> early = train(mh.meta.step_weights(0.0, steps), mh.meta.constant_gradient, None)
        >>> late = train(None, jax.grad, early.state)
        >>> int(late.state.round)
        4
    """
    checks.record("family", family, TaskFamily, "mh.problems.few_shot")
    steps = checks.whole("steps", steps)
    _check(steps, weights, largest_rate, largest_gradient)

    def adapts(path: str) -> bool:
        return adapt_per_step or not per_step(path)

    def at(params: Params, step: chex.Array) -> Params:
        """The network's own parameters at a step."""
        copies = {path: leaf for path, leaf in by_path(params).items() if per_step(path)}
        return replace(params, {path: leaf[step] for path, leaf in copies.items()})

    def at_last(state: PlusPlusState) -> Params:
        return at(state.params, jnp.clip(state.step - 1, 0, steps - 1))

    def init(key: Key, hparams: PlusPlusParams, task: Task) -> PlusPlusState:
        del key, task
        params = hparams["params"]
        dtype = jnp.result_type(*jax.tree.leaves(params))
        nothing = None if weights is None else jnp.zeros((), dtype)
        return PlusPlusState(params, jnp.zeros((), jnp.int32), nothing)

    def step(key: Key, hparams: PlusPlusParams, task: Task, state: PlusPlusState) -> PlusPlusState:
        now = jnp.minimum(state.step, steps - 1)

        def support_loss(leaves: Leaves) -> chex.Array:
            return keyed_loss(family, key, at(replace(state.params, leaves), now), task, "support")

        leaves = choose(state.params, adapts)
        grads = clip(in_tree(gradient, state.params)(support_loss)(leaves), largest_gradient)
        rates = rates_at(hparams["rates"], now, largest_rate)
        moved = {path: leaf - rates[path] * grads[path] for path, leaf in leaves.items()}
        params, loss = replace(state.params, moved), state.loss
        if weights is not None and getattr(task, "query", True) is not None:
            query_loss = family.loss(at(params, now), task, "query")
            loss = loss + (jnp.asarray(weights)[now] * query_loss).astype(jnp.result_type(loss))
        return PlusPlusState(params, state.step + 1, loss)

    def loss(key: Key, hparams: PlusPlusParams, task: Task, state: PlusPlusState) -> chex.Array:
        del key, hparams
        return family.loss(at_last(state), task, "query") if weights is None else state.loss

    def initial(key: Key) -> PlusPlusParams:
        params = initial_params(key, family)
        rate = unbounded_rate(initial_rate, largest_rate)
        rates = {
            path: jnp.full(steps, rate, leaf.dtype) for path, leaf in choose(params, adapts).items()
        }
        copies = {
            path: jnp.broadcast_to(leaf, (steps, *leaf.shape))
            for path, leaf in by_path(params).items()
            if per_step(path)
        }
        return {"params": replace(params, copies), "rates": rates}

    network = family.network
    predict = None if network is None else lambda state, x: network.apply(at_last(state), x)
    return Problem(family.sample, init, step, loss, family.describe, predict, initial)


def _check(
    steps: int,
    weights: chex.Array | None,
    largest_rate: chex.Numeric,
    largest_gradient: chex.Numeric,
) -> None:
    if weights is not None and jnp.shape(weights) != (steps,):
        raise ValueError(f"{steps} steps need weights [{steps}], got {list(jnp.shape(weights))}")
    checks.positive(largest_rate=largest_rate, largest_gradient=largest_gradient)
