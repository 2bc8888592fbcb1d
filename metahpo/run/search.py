"""Search: a strategy tunes a problem on one task."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metahpo import checks, hypergrad, inner
from metahpo import space as spaces
from metahpo.base import (
    Estimator,
    Evaluation,
    HParams,
    Key,
    Problem,
    Proposal,
    PyTree,
    RoundSize,
    State,
    StopReason,
    Strategy,
    Task,
)
from metahpo.hinted import as_points, hinted
from metahpo.run.agreement import check_room, check_same_problem, check_same_space
from metahpo.run.health import warn_of_nothing
from metahpo.run.look import look
from metahpo.run.loop import Loop, scan, traced_once
from metahpo.run.member import (
    Job,
    Metrics,
    Train,
    blank,
    select,
    trainer,
    trainer_with_gradient,
)
from metahpo.run.population import Evaluate, evaluator
from metahpo.run.records import SearchHistory, SearchResult, not_run
from metahpo.run.sharding import everywhere
from metahpo.stopping import Stopping, first


class SearchState(NamedTuple):
    """All that a search needs to go on.

    Attributes:
        round: ``i32[]``, rounds behind it.
        task: what is tuned on.
        strategy: the strategy's state.
        trainings: ``[P]``, the members' trainings after the round before; ``()`` if nobody goes on
            from them.
        memory: ``[P]``, the estimator's memory, ``()`` without one.
        best_loss: ``f[]``, the lowest so far.
        best_unit: ``f[D]``, where it is.
        best_state: the training state behind it.
        stop: of the stopping rule, ``()`` without one.
        reason: ``i32[]``, a ``StopReason``.
    """

    round: chex.Array
    task: Task
    strategy: PyTree
    trainings: PyTree
    memory: PyTree
    best_loss: chex.Array
    best_unit: chex.Array
    best_state: State
    stop: PyTree
    reason: chex.Array


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
    stop: Stopping | None = None,
    state: SearchState | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    hints: list[HParams] | chex.Array | None = None,
) -> SearchResult:
    """Tunes the hyperparameters of ``problem`` with ``strategy``; pure, for ``jit`` and ``vmap``.

    Args:
        key: the only source of randomness.
        problem: the training process.
        space: the search space; ``decode`` of it gives the problem's hyperparameters.
        strategy: proposes ``P`` members a round.
        rounds: number of rounds, at least 1.
        steps: inner steps of a member in one round, at least 1 and ``strategy.needs.steps``; a
            proposal's budget may lower it.
        task: the task to tune on; drawn from ``problem.sample`` when ``None``.
        estimator: gives the gradients for a strategy that needs them; by default
            ``hypergrad.reverse(problem, steps)``.
        metrics: ``(key, hparams, task, state) -> pytree``, evaluated on every member's final
            training state and kept in the history, for example a test accuracy.
        stop: ends the run before its last round, see ``metahpo.stopping``; it then also ends when
            ``strategy.stop`` says so (``stopping.any_of()`` leaves it to the strategy alone).
            Under ``vmap`` the program ends when all lanes have stopped, and a lane's result is
            that of its run alone.
        state: goes on from an earlier result's ``state``, with ``rounds`` more; with the same key
            as if both calls had been one.  The strategy must be the same; ``stop`` begins anew, and
            may be another.  The history and the counts are those of this call, the best is that
            of both.
        chunk: members that are trained side by side, on one device; all by default.  Fewer need
            less memory: that of all members' training states remains only for a strategy whose
            members go on from states.  A chunk of idle members is skipped.
        mesh: devices to spread the members over, of one process or of several; a population that
            they do not divide is filled up with idle members.
        hints: evaluated first, whatever the strategy proposes, which then learns from there:
            hyperparameters in a list, or points ``f[K, D]`` of the unit cube, such as those that
            ``mh.transfer`` suggests; see ``metahpo.hinted``.  A search that goes on from a
            ``state`` must have the same ones.

    Returns:
        A ``SearchResult``.

    Raises:
        ValueError: for zero rounds or steps, fewer steps than the strategy grants, a chunk below 1,
            a space that is not one, a strategy made for another space, a loss that is not a scalar,
            a choice compared with text.

    Warns:
        UserWarning: for a hyperparameter that nothing in the problem reads; where it is called
            outside of a compiled function, if no loss was finite.

    Example:
        >>> import jax, metahpo as mh
        >>> space = {"x": mh.Float(-1.0, 1.0)}
        >>> result = jax.jit(lambda key: mh.search(
        ...     key, mh.problems.function(lambda h: h["x"] ** 2), space,
        ...     mh.strategies.random(space, population=8), rounds=4, steps=1,
        ... ))(jax.random.key(0))
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
        stop=stop,
        state=state,
        chunk=chunk,
        mesh=mesh,
        hints=hints,
    )
    result = scan(loop, key)
    warn_of_nothing("search", result, stacklevel=2)
    return result


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
    stop: Stopping | None = None,
    state: SearchState | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    hints: list[HParams] | chex.Array | None = None,
) -> Loop:
    """The ``Loop`` behind ``search``, to be driven in chunks; the arguments are the same."""
    whole = functools.partial(
        search_loop,
        problem,
        space,
        strategy,
        rounds=rounds,
        steps=steps,
        task=task,
        estimator=estimator,
        metrics=metrics,
        stop=stop,
        state=state,
        hints=hints,
    )
    plain = None if chunk is None and mesh is None else whole
    rounds, steps = checks.counts(rounds=rounds, steps=steps)
    chunk = None if chunk is None else checks.whole("chunk", chunk)
    spaces.size(space)  # refuses what is not a space
    checks.record("problem", problem, Problem, "mh.problems.training or mh.problems.function")
    checks.record("strategy", strategy, Strategy, "a function of mh.strategies")
    check_same_space(strategy, space)
    if hints is not None:
        strategy = hinted(strategy, as_points(space, hints))
    before = 0 if state is None or not checks.known(state.round) else np.asarray(state.round).max()
    check_room(strategy, rounds + int(before))
    for name, value, kind, made_by in (
        ("estimator", estimator, Estimator, "a function of mh.hypergrad"),
        ("stop", stop, Stopping, "mh.stopping.when"),
        ("mesh", mesh, Mesh, "jax.make_mesh"),
    ):
        if value is not None:
            checks.record(name, value, kind, made_by)
    if metrics is not None:
        checks.function("metrics", metrics, "(key, hparams, task, state)", *range(4))
    needs = strategy.needs
    if steps < needs.steps:
        raise ValueError(
            f"steps must be at least {needs.steps}, the most updates that the strategy grants in a "
            f"round, got {steps}"
        )
    sized: list[tuple[RoundSize, Train]] = []
    if needs.gradients:
        estimator = estimator or hypergrad.reverse(problem, steps)
        check_same_problem(problem, estimator, steps)
        train = trainer_with_gradient(estimator, space, steps, metrics)
    else:
        if estimator is not None:
            raise ValueError(
                "the estimator has no effect on a strategy that needs no gradients; leave it out"
            )
        cut = stop is not None or needs.budgets
        train = trainer(problem, space, steps, metrics, cut)
        # A loop, also of one update: a single one may be rounded otherwise.
        sized = [
            (size, trainer(problem, space, max(2, size.steps), metrics, cut, size.scratch))
            for size in needs.sizes
        ]
    keep = needs.trainings and not needs.gradients
    evaluate = traced_once(evaluator(train, keep, chunk, mesh, sized))
    strategy = strategy._replace(ask=traced_once(strategy.ask))

    start = jnp.zeros((), jnp.int32) if state is None else state.round

    def init(key: Key) -> SearchState:
        if state is not None:
            rule = () if stop is None else stop.init()
            state_ = state._replace(stop=rule, reason=jnp.zeros((), jnp.int32))
            return _keys_again(state_, jax.eval_shape(first_carry, key), key)
        return first_carry(key)

    def first_carry(key: Key) -> SearchState:
        return _first_carry(key, problem, estimator, space, strategy, task, stop, evaluate, keep)

    def keys(key: Key, t: chex.Array) -> Key:
        return jax.random.split(jax.random.fold_in(key, start + t), 3)

    def step(keys: Key, carry: SearchState) -> tuple[SearchState, SearchHistory]:
        ask_key, train_key, tell_key = keys
        proposal, state = strategy.ask(ask_key, carry.strategy)
        proposal = jax.tree.map(jnp.asarray, proposal)
        jobs = _jobs(carry, train_key, proposal, steps, stop is not None)
        trained, best = evaluate(carry.task, carry.trainings, jobs)
        evaluation = Evaluation(trained.loss, trained.grad, trained.steps)
        state = strategy.tell(tell_key, state, proposal, evaluation)
        record = SearchHistory(
            proposal.unit,
            trained.loss,
            proposal.parent,
            jobs.budget,
            trained.grad,
            trained.metrics,
            trained.nonfinite,
        )
        carry = _keep_best(carry, proposal, trained.loss, best.state)
        carry = _told(carry, strategy, stop, state, proposal, evaluation)
        carry, record = everywhere((carry._replace(trainings=(), memory=()), record), mesh)
        return carry._replace(trainings=trained.training, memory=trained.memory), record

    def finish(carry: SearchState, history: SearchHistory) -> SearchResult:
        # Where nothing was finite the first point would be a bound, as if that were good.
        best_unit = jnp.where(jnp.isfinite(carry.best_loss), carry.best_unit, jnp.nan)
        result = SearchResult(
            best_loss=carry.best_loss,
            best_hparams=spaces.decode(space, best_unit),
            history=history,
            best_unit=best_unit,
            best_state=carry.best_state,
            evaluations=(history.budget > 0).sum(dtype=jnp.int32),
            nonfinite=history.nonfinite.sum(dtype=jnp.int32),
            rounds=carry.round - start,
            state=(),
            stop_reason=first(carry.reason, jnp.int32(StopReason.BUDGET)),
        )
        # The members' trainings stay where they are, spread over the devices.
        return everywhere(result, mesh)._replace(state=_keys_as_data(carry))

    loop = Loop(init, step, finish, rounds, keys, plain=plain)
    if stop is None:
        return loop
    return loop._replace(done=lambda carry: carry.reason > 0, blank=not_run)


def _jobs(carry: SearchState, key: Key, proposal: Proposal, steps: int, may_stop: bool) -> Job:
    size = proposal.unit.shape[0]
    budget = jnp.clip(proposal.budget, 0, steps)
    if may_stop:  # a lane that has stopped asks for nothing
        budget = jnp.where(carry.reason > 0, 0, budget)
    scratch = (proposal.parent < 0) | (carry.round == 0)  # before round 0 nobody trained
    members = jnp.arange(size)
    source = jnp.where(scratch, members, proposal.parent)
    return Job(
        key=jax.random.split(key, size),
        unit=proposal.unit,
        memory=carry.memory,
        fresh=scratch & (budget > 0),
        source=source,
        itself=source == members,
        budget=budget,
    )


def _told(
    carry: SearchState,
    strategy: Strategy,
    stop: Stopping | None,
    state: PyTree,
    proposal: Proposal,
    evaluation: Evaluation,
) -> SearchState:
    """The round is over: counted, and perhaps the last one."""
    if stop is None:
        return carry._replace(round=carry.round + 1, strategy=state)
    rule = stop.update(carry.stop, proposal, evaluation)
    own = () if strategy.stop is None else (strategy.stop(state),)
    # Under vmap a lane that has stopped is still stepped, but neither counted nor changed.
    return carry._replace(
        round=carry.round + (carry.reason == 0),
        strategy=state,
        stop=rule,
        reason=first(carry.reason, stop.reason(rule), *own),
    )


def _first_carry(
    key: Key,
    problem: Problem,
    estimator: Estimator | None,
    space: spaces.Space,
    strategy: Strategy,
    task: Task,
    stop: Stopping | None,
    evaluate: Evaluate,
    keep: bool,
) -> SearchState:
    task_key, strategy_key, member_key = jax.random.split(key, 3)
    task = problem.sample(task_key) if task is None else task
    look(problem, space, task)
    asked = strategy.init(strategy_key)
    shape = jax.eval_shape(strategy.ask, strategy_key, asked)[0].unit
    unit = jnp.zeros(shape.shape, shape.dtype)
    size = unit.shape[0]
    hparams = jax.vmap(lambda u: spaces.decode(space, u))(unit)
    keys = jax.random.split(member_key, size)
    trainings: PyTree = ()
    memory: PyTree = ()
    if keep:
        # Zeros that nobody goes on from: only their shapes are needed, and compiling the
        # random numbers of an initialisation a second time is not cheap.
        def started(key: Key, hparams: HParams) -> PyTree:
            return inner.begin(problem, key, hparams, task)._replace(task=())

        trainings = blank(jax.eval_shape(jax.vmap(started), keys, hparams), member_key)
    if estimator is not None:
        memory = jax.vmap(estimator.init, (0, 0, None))(keys, hparams, task)
    numbers = jnp.zeros(size, jnp.int32)
    flags = jnp.ones(size, bool)
    jobs = Job(keys, unit, memory, flags, numbers, flags, numbers)
    trained, best = jax.eval_shape(evaluate, task, trainings, jobs)
    zero = jnp.zeros((), jnp.int32)
    return SearchState(
        round=zero,
        task=task,
        strategy=asked,
        trainings=trainings,
        memory=memory,
        best_loss=jnp.full((), jnp.inf, trained.loss.dtype),
        best_unit=unit[0],
        best_state=blank(best.state, member_key),
        stop=() if stop is None else stop.init(),
        reason=zero,
    )


def _keys_as_data(state: SearchState) -> SearchState:
    """Typed keys as numbers, which every program can store."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _keys_again(state: SearchState, like: SearchState, key: Key) -> SearchState:
    """The same as keys of the kind of ``key`` again, where ``like`` has them."""
    impl = jax.random.key_impl(key)

    def restored(data: chex.Array, like: chex.Array) -> chex.Array:
        return jax.random.wrap_key_data(data, impl=impl) if _is_key(like) else data

    return jax.tree.map(restored, state, like)


def _is_key(leaf: chex.Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _keep_best(
    carry: SearchState, proposal: Proposal, loss: chex.Array, state: State
) -> SearchState:
    i = jnp.argmin(loss)
    better = loss[i] < carry.best_loss
    return carry._replace(
        best_loss=jnp.where(better, loss[i], carry.best_loss),
        best_unit=jnp.where(better, proposal.unit[i], carry.best_unit),
        best_state=select(better, state, carry.best_state),
    )
