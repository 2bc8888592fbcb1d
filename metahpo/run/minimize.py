"""Minimising any Python function with any strategy, from the host."""

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo.base import Evaluation, HParams, Key, Proposal, PyTree, Strategy
from metahpo.run import checkpoint
from metahpo.run.host import check_first
from metahpo.run.loop import check_positive, loop_keys, strongly_typed
from metahpo.run.progress import reporter
from metahpo.run.search import SearchHistory


class MinimizeResult(NamedTuple):
    """The outcome of a minimisation; plain Python values and numpy arrays.

    Attributes:
        best_loss: the lowest loss, rounded to the strategy's float type.
        best_hparams: the hyperparameters that reached it, as the function got them.
        history: a ``SearchHistory`` of numpy arrays, leading axes ``[rounds, P]``; its
            ``metrics["failed"]`` is ``bool[rounds, P]``, whether the function raised an error.
        info: ``best_unit`` ``f[D]``, ``nonfinite`` (how many losses were not finite, failures
            included), ``failed`` (how many calls raised an error) and ``strategy``, the strategy's
            last state.
    """

    best_loss: float
    best_hparams: HParams
    history: SearchHistory
    info: dict[str, PyTree]


def minimize(
    fn: Callable[[HParams], float],
    space: spaces.Space,
    strategy: Strategy,
    *,
    rounds: int,
    key: Key | None = None,
    seed: int = 0,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    on_error: Literal["raise", "inf"] = "raise",
    about: str = "",
) -> MinimizeResult:
    """Minimises a Python function; it is called with Python values and is never traced.

    A function that JAX can trace is better off in ``search``, which compiles the whole run.  The
    strategy sees the same keys in both, so it makes the same proposals for the same losses.

    Args:
        fn: ``(hparams) -> loss``; ``hparams`` has the structure of ``space``, with floats, ints and
            the values of choices.  Called for one candidate after the other.
        space: the search space.
        strategy: proposes a population of candidates a round; one that trains from scratch and
            needs no gradient.
        rounds: rounds, at least 1.
        key: the only source of randomness; ``jax.random.key(seed)`` without one.
        seed: makes the key.
        directory: a folder for a checkpoint after each round, as in ``drive``.
        resume: goes on from the newest checkpoint there.  The function must be the same.
        progress: whether to show progress on the standard error stream.
        on_error: what an exception of ``fn`` means: ``"raise"`` ends the run with a
            ``RuntimeError`` that names the candidate, ``"inf"`` counts as an infinite loss.
        about: what else must be the same for a checkpoint to fit, in words of your own.

    Returns:
        A ``MinimizeResult``.

    Raises:
        ValueError: for zero rounds, a space that is not one, a strategy that needs gradients or
            goes on from training states, a loss that is not a scalar, or when no loss of the first
            round is finite; and for ``directory`` as in ``drive``.
        RuntimeError: if ``fn`` raises an exception and ``on_error`` is ``"raise"``.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Int(0, 3), "kind": mh.Choice(("round", "square"))}
        >>> result = mh.minimize(
        ...     lambda h: h["x"] + (h["kind"] == "square"), space,
        ...     mh.strategies.random(space, population=16), rounds=4, progress=False,
        ... )
        >>> result.best_loss, result.best_hparams
        (0.0, {'kind': 'round', 'x': 0})
    """
    _check_arguments(space, strategy, rounds, on_error)
    key = jax.random.key(seed) if key is None else key
    folder = None if directory is None else checkpoint.prepare(directory, resume)
    init_key, round_key = loop_keys(key)
    _, strategy_key, _ = jax.random.split(init_key, 3)  # the keys of ``search``
    ask, tell = _compiled(strategy)
    decode = jax.jit(jax.vmap(lambda unit: spaces.decode(space, unit)))
    state = _start(strategy, strategy_key, rounds)
    done, mark = 0, None
    if folder is not None:
        dims = "; ".join(f"{name}: {dim}" for name, dim in spaces.dimensions(space).items())
        mark = checkpoint.fingerprint(key, rounds, state, f"{dims} {about}".strip())
        done, state = checkpoint.restore(folder, state, mark) or (0, state)
    strategy_state, history = state[0], jax.tree.map(np.array, state[1])
    with reporter(progress, "minimize", rounds, done) as report:
        for t in range(done, rounds):
            proposal, between, tell_key = ask(round_key, np.int32(t), strategy_state)
            _check_parents(proposal)
            losses, failed = _evaluate(fn, _candidates(space, decode, proposal.unit), on_error)
            with np.errstate(over="ignore"):  # too large for the type is infinite, and counted
                losses = losses.astype(proposal.unit.dtype)
            nonfinite = ~np.isfinite(losses)
            losses[nonfinite] = np.inf
            evaluation = Evaluation(jnp.asarray(losses), None, ())
            strategy_state = tell(tell_key, between, proposal, evaluation)
            row = _row(proposal, losses, failed, nonfinite)
            jax.tree.map(lambda rows, x, t=t: rows.__setitem__(t, x), history, row)
            if t == 0:
                check_first(history)
            if folder is not None and mark is not None:
                checkpoint.save(folder, t + 1, (strategy_state, history), mark)
            report(t + 1, float(history.loss[: t + 1].min()), t + 1 == rounds)
    return _result(space, decode, strategy_state, history)


def _check_arguments(space: spaces.Space, strategy: Strategy, rounds: int, on_error: str) -> None:
    check_positive(rounds=rounds)
    spaces.size(space)  # refuses what is not a space
    if on_error not in ("raise", "inf"):
        raise ValueError(f"on_error must be 'raise' or 'inf', got {on_error!r}")
    if strategy.needs_grad:
        raise ValueError(
            "a strategy with needs_grad=True cannot minimise a plain callable, which has no "
            "gradient: make a problem of it with metahpo.problems.function and use search"
        )


def _compiled(strategy: Strategy) -> tuple[Callable, Callable]:
    """The strategy's ``ask``, with the keys of a round of ``search``, and its ``tell``."""

    @jax.jit
    def ask(key: Key, t: jax.Array, state: PyTree) -> tuple[Proposal, PyTree, Key]:
        ask_key, _, tell_key = jax.random.split(jax.random.fold_in(key, t), 3)
        return *strategy.ask(ask_key, state), tell_key

    return ask, jax.jit(strategy.tell)


def _start(strategy: Strategy, key: Key, rounds: int) -> tuple[PyTree, SearchHistory]:
    """The strategy's state and an empty history."""
    state = jax.jit(lambda key: jax.tree.map(strongly_typed, strategy.init(key)))(key)
    proposal, _ = jax.eval_shape(strategy.ask, key, state)
    shape = (rounds, *proposal.parent.shape)

    def empty(dtype: Any, *more: int) -> np.ndarray:
        return np.zeros((*shape, *more), dtype)

    float_type = proposal.unit.dtype
    unit = empty(float_type, proposal.unit.shape[1])
    parent, budget = empty(proposal.parent.dtype), empty(proposal.budget.dtype)
    metrics = {"failed": empty(bool)}
    losses = empty(float_type)
    return state, SearchHistory(unit, losses, parent, budget, None, metrics, empty(bool))


def _check_parents(proposal: Proposal) -> None:
    if (parent := int(np.max(proposal.parent))) >= 0:
        raise ValueError(
            "every proposal must train from scratch (parent -1), because a plain callable has no "
            f"training state to go on from; the strategy proposed parent {parent}"
        )


def _candidates(space: spaces.Space, decode: Callable, unit: Any) -> list[HParams]:
    """The points ``[P, D]`` as Python values; the same program always, so the same values."""
    decoded = jax.device_get(decode(unit))
    members = [jax.tree.map(lambda x, i=i: x[i], decoded) for i in range(len(unit))]
    return [spaces.readable(space, hparams) for hparams in members]


def _evaluate(
    fn: Callable[[HParams], float], candidates: list[HParams], on_error: str
) -> tuple[np.ndarray, np.ndarray]:
    """``f64[P]``, the losses, and ``bool[P]``, which calls failed."""
    losses, failed = np.full(len(candidates), np.inf), np.zeros(len(candidates), bool)
    for i, hparams in enumerate(candidates):
        try:
            value = fn(hparams)
        except Exception as error:
            if on_error == "raise":
                raise RuntimeError(f"the function failed at {hparams}: {error!r}") from error
            failed[i] = True
        else:
            losses[i] = _scalar(value, hparams)
    return losses, failed


def _scalar(value: Any, hparams: HParams) -> float:
    number = np.asarray(value)
    # The name of a bfloat16 stands only in jax's table of types.
    real = number.dtype.kind in "biu" or jnp.issubdtype(number.dtype, jnp.floating)
    if number.shape != () or not real:
        raise ValueError(
            f"the function must return a real scalar, got {value!r} "
            f"({type(value).__name__}) at {hparams}"
        )
    return float(number)


def _row(
    proposal: Proposal, losses: np.ndarray, failed: np.ndarray, nonfinite: np.ndarray
) -> SearchHistory:
    budget = np.minimum(proposal.budget, 1)  # one call is the whole of a candidate's training
    unit, parent = np.asarray(proposal.unit), np.asarray(proposal.parent)
    return SearchHistory(unit, losses, parent, budget, None, {"failed": failed}, nonfinite)


def _result(
    space: spaces.Space, decode: Callable, strategy_state: PyTree, history: SearchHistory
) -> MinimizeResult:
    t, member = np.unravel_index(np.argmin(history.loss), history.loss.shape)
    info = {
        "best_unit": history.unit[t, member],
        "nonfinite": int(history.nonfinite.sum()),
        "failed": int(history.metrics["failed"].sum()),
        "strategy": strategy_state,
    }
    hparams = _candidates(space, decode, history.unit[t])[member]
    return MinimizeResult(float(history.loss[t, member]), hparams, history, info)
