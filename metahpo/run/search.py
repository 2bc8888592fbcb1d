"""Search: a strategy tunes a problem on one task."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from metahpo import hypergrad
from metahpo import space as spaces
from metahpo.base import (
    Estimator,
    Evaluation,
    HParams,
    Key,
    Problem,
    Proposal,
    PyTree,
    State,
    Strategy,
    Task,
)
from metahpo.run.loop import Loop, check_positive, scan
from metahpo.run.member import (
    Metrics,
    Trained,
    as_evaluation,
    select,
    trainer,
    trainer_with_gradient,
)
from metahpo.run.sharding import batched


class SearchHistory(NamedTuple):
    """What happened to every member in every round; leading axes ``[rounds, P]``.

    Attributes:
        unit: ``f[rounds, P, D]``, the points of the unit cube.
        loss: ``f[rounds, P]``, the outer loss, ``inf`` where it was not finite.
        parent: ``i32[rounds, P]`` as proposed.
        budget: ``i32[rounds, P]``, inner steps taken.
        grad: ``f[rounds, P, D]`` on the unit cube, or ``None``.
        metrics: what ``metrics`` returned, or ``None``.
        nonfinite: ``bool[rounds, P]``, whether the loss or the gradient was not finite.
    """

    unit: chex.Array
    loss: chex.Array
    parent: chex.Array
    budget: chex.Array
    grad: chex.Array | None
    metrics: PyTree
    nonfinite: chex.Array


class SearchResult(NamedTuple):
    """The outcome of a search.

    Attributes:
        best_loss: ``f[]``, the lowest outer loss of any member in any round.
        best_hparams: the hyperparameters that reached it.
        history: a ``SearchHistory``.
        info: ``best_unit`` ``f[D]``, ``best_state`` (the training state behind the best loss) and
            ``nonfinite`` ``i32[]``, how many evaluations were not finite.
    """

    best_loss: chex.Array
    best_hparams: HParams
    history: SearchHistory
    info: dict[str, PyTree]


class _Carry(NamedTuple):
    round: chex.Array
    task: Task
    strategy: PyTree
    states: State  # [P]: the members' training states after the round before
    memory: PyTree  # [P]: the estimator's memory, () without one
    best_loss: chex.Array
    best_unit: chex.Array
    best_state: State


def search(
    key: Key,
    problem: Problem,
    space: spaces.Space,
    strategy: Strategy,
    *,
    rounds: int,
    steps: int,
    task: Task = None,
    estimator: Estimator | None = None,
    metrics: Metrics | None = None,
    mesh: Mesh | None = None,
) -> SearchResult:
    """Tunes the hyperparameters of ``problem`` with ``strategy``; pure, for ``jit`` and ``vmap``.

    Args:
        key: the only source of randomness.
        problem: the training process.
        space: the search space; ``decode`` of it gives the problem's hyperparameters.
        strategy: proposes ``P`` members a round.
        rounds: number of rounds, at least 1.
        steps: inner steps of a member in one round, at least 1; a proposal's budget may lower it.
        task: the task to tune on; drawn from ``problem.sample`` when ``None``.
        estimator: gives the gradients for a strategy that needs them; by default
            ``hypergrad.reverse(problem, steps)``.
        metrics: ``(key, hparams, task, state) -> pytree``, evaluated on every member's final
            training state and kept in the history, for example a test accuracy.
        mesh: devices to spread the members over.

    Returns:
        A ``SearchResult``.

    Raises:
        ValueError: for zero rounds or steps, a space that is not one, a loss that is not a scalar.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> result = mh.search(
        ...     jax.random.key(0), mh.problems.function(lambda h: h["x"] ** 2), space,
        ...     mh.strategies.random(space, population=8), rounds=4, steps=1,
        ... )
        >>> result.history.loss.shape
        (4, 8)
    """
    loop = search_loop(
        problem,
        space,
        strategy,
        rounds=rounds,
        steps=steps,
        task=task,
        estimator=estimator,
        metrics=metrics,
        mesh=mesh,
    )
    return scan(loop, key)


def search_loop(
    problem: Problem,
    space: spaces.Space,
    strategy: Strategy,
    *,
    rounds: int,
    steps: int,
    task: Task = None,
    estimator: Estimator | None = None,
    metrics: Metrics | None = None,
    mesh: Mesh | None = None,
) -> Loop:
    """The ``Loop`` behind ``search``, to be driven in chunks; the arguments are the same."""
    check_positive(rounds=rounds, steps=steps)
    spaces.size(space)  # refuses what is not a space
    if strategy.needs_grad:
        estimator = estimator or hypergrad.reverse(problem, steps)
        train = trainer_with_gradient(estimator, space, metrics)
    else:
        estimator = None
        train = trainer(problem, space, steps, metrics)
    evaluate = batched(train, mesh)

    def init(key: Key) -> _Carry:
        return _first_carry(key, problem, estimator, space, strategy, task, evaluate)

    def step(key: Key, carry: _Carry) -> tuple[_Carry, SearchHistory]:
        ask_key, train_key, tell_key = jax.random.split(jax.random.fold_in(key, carry.round), 3)
        proposal, state = strategy.ask(ask_key, carry.strategy)
        budget = jnp.minimum(proposal.budget, steps)
        keys = jax.random.split(train_key, proposal.unit.shape[0])
        parents = jnp.maximum(proposal.parent, 0)
        trained = evaluate(
            carry.task,
            keys,
            proposal.unit,
            jax.tree.map(lambda x: x[parents], carry.states),
            carry.memory,
            jnp.where(carry.round == 0, -1, proposal.parent),  # before round 0 nobody trained
            budget,
        )
        evaluation, nonfinite = as_evaluation(trained)
        state = strategy.tell(tell_key, state, proposal, evaluation)
        record = SearchHistory(
            proposal.unit,
            evaluation.loss,
            proposal.parent,
            budget,
            evaluation.grad,
            trained.metrics,
            nonfinite,
        )
        carry = _keep_best(carry, proposal, evaluation, trained)
        states = () if strategy.needs_grad else trained.state
        return carry._replace(
            round=carry.round + 1, strategy=state, states=states, memory=trained.memory
        ), record

    def finish(carry: _Carry, history: SearchHistory) -> SearchResult:
        info = {
            "best_unit": carry.best_unit,
            "best_state": carry.best_state,
            "nonfinite": history.nonfinite.sum(dtype=jnp.int32),
        }
        return SearchResult(carry.best_loss, spaces.decode(space, carry.best_unit), history, info)

    return Loop(init, step, finish, rounds)


def _first_carry(
    key: Key,
    problem: Problem,
    estimator: Estimator | None,
    space: spaces.Space,
    strategy: Strategy,
    task: Task,
    evaluate: Callable[..., Trained],
) -> _Carry:
    task_key, strategy_key, member_key = jax.random.split(key, 3)
    task = problem.sample(task_key) if task is None else task
    state = strategy.init(strategy_key)
    proposal, _ = jax.eval_shape(strategy.ask, strategy_key, state)
    unit = jnp.zeros(proposal.unit.shape, proposal.unit.dtype)
    hparams = jax.vmap(lambda u: spaces.decode(space, u))(unit)
    keys = jax.random.split(member_key, unit.shape[0])
    states: State = ()
    memory: PyTree = ()
    if estimator is None:
        # Zeros that nobody goes on from: only their shapes are needed, and compiling the
        # random numbers of an initialisation a second time is not cheap.
        members = jax.eval_shape(jax.vmap(problem.init, (0, 0, None)), keys, hparams, task)
        states = _blank(members, member_key)
    else:
        memory = jax.vmap(estimator.init, (0, 0, None))(keys, hparams, task)
    trained = jax.eval_shape(
        evaluate, task, keys, unit, states, memory, proposal.parent, proposal.budget
    )
    best = jax.tree.map(lambda x: x[0], _blank(trained.state, member_key))
    best_loss = jnp.full((), jnp.inf, trained.loss.dtype)
    zero = jnp.zeros((), jnp.int32)
    return _Carry(zero, task, state, states, memory, best_loss, unit[0], best)


def _keep_best(
    carry: _Carry, proposal: Proposal, evaluation: Evaluation, trained: Trained
) -> _Carry:
    i = jnp.argmin(evaluation.loss)
    better = evaluation.loss[i] < carry.best_loss
    return carry._replace(
        best_loss=jnp.where(better, evaluation.loss[i], carry.best_loss),
        best_unit=jnp.where(better, proposal.unit[i], carry.best_unit),
        best_state=select(better, jax.tree.map(lambda x: x[i], trained.state), carry.best_state),
    )


def _blank(shapes: PyTree, key: Key) -> PyTree:
    """Zeros of these shapes; a state may also hold random keys, which have no zero."""

    def blank(x: jax.ShapeDtypeStruct) -> chex.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(key, x.shape)
        return jnp.zeros(x.shape, x.dtype)

    return jax.tree.map(blank, shapes)
