"""Meta-training: an optax optimiser follows an estimator's hypergradients over many tasks."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metahpo import checks, floats, inner, updates
from metahpo._deprecation import warn
from metahpo.base import Estimator, HParams, Key, Problem, PyTree
from metahpo.run import summary
from metahpo.run.agreement import check_same_problem
from metahpo.run.loop import Loop, scan
from metahpo.run.sharding import batched, everywhere
from metahpo.run.task_mean import task_mean

# A block of tasks larger than a core's cache would be fetched again in every round.
_MOST_AHEAD, _BYTES_AHEAD = 64, 2**18


OnDivergence = Literal["skip", "leave_out"]


class MetaHistory(NamedTuple):
    """One entry a round; leading axis ``[rounds]``.

    Attributes:
        loss: ``f[rounds]``, the mean outer loss over the round's tasks.
        grad_norm: ``f[rounds]``, the norm of the mean hypergradient.
        skipped: ``bool[rounds]``, whether the update was left out because the mean loss or the
            mean gradient was not finite.
        left_out: ``i32[rounds]``, tasks whose loss or gradient was not finite and which the means
            are without; 0 with ``on_divergence="skip"``.
        tasks: ``i32[rounds]``, tasks of the round.
    """

    loss: chex.Array
    grad_norm: chex.Array
    skipped: chex.Array
    left_out: chex.Array
    tasks: chex.Array


class MetaState(NamedTuple):
    """Everything that a later ``meta_train`` needs to go on."""

    round: chex.Array
    hparams: HParams
    opt_state: optax.OptState
    memory: PyTree


class _MetaResult(NamedTuple):
    hparams: HParams
    history: MetaHistory
    state: MetaState
    skipped: chex.Array


class MetaResult(_MetaResult):
    """The outcome of a meta-training.

    Attributes:
        hparams: the learned hyperparameters.
        history: a ``MetaHistory``.
        state: a ``MetaState``, to go on from.
        skipped: ``i32[]``, the number of updates left out.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Five lines: the losses, what was learned and how to go on."""
        return summary.of_updates(self) if summary.known(self) else repr(self)

    @property
    def left_out(self) -> chex.Array:
        """``i32[]``, the number of tasks left out of a mean."""
        return self.history.left_out.sum(dtype=jnp.int32)

    @property
    def info(self) -> dict[str, PyTree]:
        """The old spelling of ``skipped``."""
        warn('result.info["skipped"] of meta_train is now result.skipped')
        return {"skipped": self.skipped}


def meta_train(
    key: Key,
    problem: Problem,
    estimator: Estimator,
    hparams: HParams,
    optimizer: optax.GradientTransformation,
    *,
    rounds: int,
    tasks: int,
    state: MetaState | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    on_divergence: OnDivergence = "skip",
) -> MetaResult:
    """Learns hyperparameters over the tasks of ``problem``; pure, for ``jit`` and ``vmap``.

    Args:
        key: the only source of randomness; a round depends on it and on the round's number.
        problem: the training process; its ``sample`` draws ``tasks`` tasks a round.
        estimator: gives the hypergradient of one task.
        hparams: where to start; leaves that are not floats stay as they are.
        optimizer: an optax optimiser of the float leaves.  It sees the pytree of ``hparams``, with
            ``None`` for other leaves, so masks and labels choose by name; ``value=`` is the loss.
        rounds: number of updates, at least 1.
        tasks: tasks averaged in an update, at least 1.
        state: goes on from an earlier result's ``state`` (``hparams`` is then not used), as if
            both calls had been one.
        mesh: devices to spread the tasks over.
        chunk: tasks that are computed at once, all by default; the gradients of a round are
            added up over its chunks, so that ``tasks`` may exceed what the memory holds.
        on_divergence: what it means if the loss or the gradient of a task is not finite:
            ``"skip"`` leaves out the whole update, ``"leave_out"`` the task.  The mean over the
            other tasks is that of those that can be learned: it favours hyperparameters that
            diverge where they would be bad.  It takes a gradient for every task.

    Returns:
        A ``MetaResult``.

    Raises:
        ValueError: for zero rounds or tasks, a ``chunk`` that does not divide ``tasks``, or another
            ``on_divergence``.

    Example:
        >>> import jax, jax.numpy as jnp, optax, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> result = mh.meta_train(
        ...     jax.random.key(0), problem, mh.hypergrad.reverse(problem, steps=1),
        ...     {"x": jnp.array(1.0)}, optax.sgd(0.25), rounds=10, tasks=1,
        ... )
        >>> float(result.hparams["x"])
        0.0009765625
    """
    _check_hparams(hparams)
    what = (problem, estimator, optimizer, rounds, tasks, mesh, chunk, on_divergence)
    run = _train
    if checks.known(*jax.tree.leaves((key, hparams, state))) and _hashable(what):
        run = _jitted
    return run(*what)(key, hparams, state)


def _hashable(what: Any) -> bool:
    """Whether a part can be told from others."""
    try:
        hash(what)
    except TypeError:
        return False
    return True


def _train(
    problem: Problem,
    estimator: Estimator,
    optimizer: optax.GradientTransformation,
    rounds: int,
    tasks: int,
    mesh: Mesh | None,
    chunk: int | None,
    on_divergence: OnDivergence,
) -> Callable[[Key, HParams, MetaState | None], MetaResult]:
    def train(key: Key, hparams: HParams, state: MetaState | None) -> MetaResult:
        loop = meta_loop(
            problem,
            estimator,
            hparams,
            optimizer,
            rounds=rounds,
            tasks=tasks,
            state=state,
            mesh=mesh,
            chunk=chunk,
            on_divergence=on_divergence,
        )
        return scan(loop, key)

    return train


@functools.lru_cache(8)
def _jitted(*what: Any) -> Callable[[Key, HParams, MetaState | None], MetaResult]:
    """Kept, so that going on and on by ``state`` in a Python loop compiles once."""
    return jax.jit(_train(*what))


def meta_loop(
    problem: Problem,
    estimator: Estimator,
    hparams: HParams,
    optimizer: optax.GradientTransformation,
    *,
    rounds: int,
    tasks: int,
    state: MetaState | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    on_divergence: OnDivergence = "skip",
) -> Loop:
    """The ``Loop`` behind ``meta_train``, to be driven in chunks; the arguments are the same."""
    whole = functools.partial(
        meta_loop, problem, estimator, hparams, optimizer, rounds=rounds, tasks=tasks, state=state
    )
    plain = None if chunk is None and mesh is None else whole
    rounds, tasks = checks.counts(rounds=rounds, tasks=tasks)
    checks.record("problem", problem, Problem, "mh.problems.training or mh.meta.maml")
    checks.record("estimator", estimator, Estimator, "a function of mh.hypergrad")
    made_by = "a function of optax"
    checks.record("optimizer", optimizer, optax.GradientTransformation, made_by)
    check_same_problem(problem, estimator)
    checks.one_of("on_divergence", on_divergence, ("skip", "leave_out"))
    chunk = tasks if chunk is None else chunk
    if not checks.is_whole(chunk) or chunk < 1 or tasks % chunk:
        raise ValueError(f"chunk must divide the tasks of a round, got {chunk=} for {tasks=}")
    chunk = int(chunk)
    hparams = jax.tree.map(jnp.asarray, hparams)

    ahead = _rounds_ahead(problem, rounds, tasks)
    sample = problem.sample if ahead == 1 else lambda task: task  # which ``draw`` has drawn
    average = task_mean(sample, estimator, mesh, tasks // chunk, on_divergence == "leave_out")
    start = jnp.zeros((), jnp.int32) if state is None else state.round

    def init(key: Key) -> MetaState:
        if state is not None:
            return state
        task_key, memory_key = jax.random.split(key)
        keys = jax.random.split(memory_key, tasks)
        some = jax.vmap(problem.sample)(jax.random.split(task_key, tasks))
        memory = jax.vmap(estimator.init, (0, None, 0))(keys, hparams, some)
        params = floats.named(hparams, floats.split(hparams)[0])
        opt_state = updates.started(optimizer, params)
        return MetaState(start, hparams, opt_state, memory)

    def keys_of(key: Key, t: chex.Array) -> Key:
        return jax.random.split(jax.random.fold_in(key, start + t))

    def split(keys: Key) -> tuple[Key, Key]:
        task_key, estimate_key = keys
        return jax.random.split(task_key, tasks), jax.random.split(estimate_key, tasks)

    def draw(keys: Key) -> tuple[PyTree, Key]:
        task_keys, estimate_keys = jax.vmap(split)(keys)
        # One axis for all: with two, XLA compiles the hashes for three times as long.
        some = jax.vmap(problem.sample)(task_keys.reshape(-1))
        some = jax.tree.map(lambda x: x.reshape(*task_keys.shape, *x.shape[1:]), some)
        return everywhere((some, estimate_keys), mesh)

    def step(drawn: PyTree, carry: MetaState) -> tuple[MetaState, MetaHistory]:
        of_tasks = drawn if ahead > 1 else split(drawn)
        (loss, grads), memory, left_out = average(carry.hparams, of_tasks, carry.memory)
        values, merge = floats.split(carry.hparams)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(loss)
        learned, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            updates.updated(
                optimizer,
                floats.named(carry.hparams, grads),
                carry.opt_state,
                floats.named(carry.hparams, values),
                value=loss,
            ),
            (floats.named(carry.hparams, values), carry.opt_state),
        )
        record = MetaHistory(loss, norm, ~finite, left_out, jnp.full((), tasks, jnp.int32))
        learned = merge(jax.tree.leaves(learned))
        return MetaState(carry.round + 1, learned, opt_state, memory), record

    def finish(carry: MetaState, history: MetaHistory) -> MetaResult:
        skipped = history.skipped.sum(dtype=jnp.int32)
        return MetaResult(carry.hparams, history, carry, skipped)

    loop = Loop(init, step, finish, rounds, keys_of, plain=plain)
    return loop if ahead == 1 else loop._replace(draw=draw, ahead=ahead)


def _check_hparams(hparams: HParams) -> None:
    for path, leaf in jax.tree.leaves_with_path(hparams):
        try:
            jnp.asarray(leaf)
        except TypeError as error:
            raise ValueError(
                f"hparams must be a pytree of numbers, where learning starts, got {leaf!r} at "
                f"{jax.tree_util.keystr(path)}"
            ) from error


def _rounds_ahead(problem: Problem, rounds: int, tasks: int) -> int:
    """For how many rounds tasks are drawn at once: as many as a core's cache holds."""
    task = jax.eval_shape(problem.sample, jax.eval_shape(lambda: jax.random.key(0)))
    size = tasks * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(task))
    most = min(_MOST_AHEAD, _BYTES_AHEAD // max(size, 1))
    return max(n for n in range(1, max(most, 1) + 1) if rounds % n == 0)


def fresh_losses(
    key: Key,
    problem: Problem,
    hparams: HParams,
    *,
    steps: int,
    tasks: int,
    mesh: Mesh | None = None,
) -> chex.Array:
    """Outer losses of fixed hyperparameters on fresh tasks; pure, for ``jit`` and ``vmap``.

    Args:
        key: draws the tasks, and the keys of their trainings.
        problem: the training process.
        hparams: the same for all tasks, for example what ``meta_train`` has learned.
        steps: updates of each training, at least 0.
        tasks: how many, at least 1.
        mesh: devices to spread the tasks over.

    Returns:
        ``f[tasks]``, the outer loss after ``steps`` updates on each task; ``inf`` where it was not
        finite, as in ``search``: a training that diverged is the worst, and never the best.

    Raises:
        ValueError: for no tasks.

    Example:
        >>> import jax, metahpo as mh
        >>> problem = mh.problems.function(lambda h: h["x"] ** 2)
        >>> losses = jax.jit(lambda key, h: fresh_losses(key, problem, h, steps=0, tasks=2))
        >>> losses(jax.random.key(0), {"x": 3.0}).tolist()
        [9.0, 9.0]
    """
    tasks = checks.whole("tasks", tasks)
    task_key, train_key = jax.random.split(key)
    some = jax.vmap(problem.sample)(jax.random.split(task_key, tasks))
    loss = inner.outer_loss(problem, steps)
    one = batched(lambda hparams, key, task: loss(key, hparams, task)[0], mesh)
    losses = one(hparams, jax.random.split(train_key, tasks), some)
    return jnp.where(jnp.isfinite(losses), losses, jnp.inf)
