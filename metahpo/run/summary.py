"""What ``print(result)`` says of a run: five lines."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from metahpo import space as spaces
from metahpo.base import StopReason

_ENDED = {
    StopReason.RUNNING: "not ended",
    StopReason.BUDGET: "all rounds, or granted evaluations, are used up",
    StopReason.TARGET: "the wanted loss is reached",
    StopReason.STAGNATION: "the best loss no longer improves",
    StopReason.TOLERANCE: "losses or points no longer differ by more than a tolerance",
    StopReason.CONDITION: "the search distribution is too ill-conditioned for its float type",
    StopReason.COLLAPSE: "the population, or the step size, has shrunk to nothing",
}
_LONGEST = 96


def known(result: Any) -> bool:
    """Whether a result has values, and is not one within a program that is being traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(result))


def of_candidates(result: Any) -> str:
    """Five lines about a ``SearchResult`` or a ``MinimizeResult``, of one run or of several."""
    loss = np.asarray(result.best_loss)
    evaluations, bad = int(np.sum(result.evaluations)), int(np.sum(result.nonfinite))
    counts = f"evaluations: {evaluations}, of which {bad} were not finite"
    if loss.ndim:
        return _lines(
            f"{type(result).__name__} of {loss.size} runs, as arrays {list(loss.shape)}",
            f"lowest losses: {_spread(loss)}",
            f"best hyperparameters: {_shapes(result.best_hparams)}",
            counts,
            f"ended: {_reasons(result.stop_reason)}",
        )
    if not np.isfinite(loss):
        best = "best hyperparameters: none, as nothing was finite"
    else:
        best = f"best hyperparameters: {_values(result.best_hparams)}"
    return _lines(
        f"{type(result).__name__} of {int(result.rounds)} rounds",
        f"lowest loss: {_number(loss)}",
        best,
        counts,
        f"ended: {_reasons(result.stop_reason)}",
    )


def of_updates(result: Any) -> str:
    """Five lines about a ``MetaResult``, of one run or of several."""
    losses = np.asarray(result.history.loss)
    runs = "" if losses.ndim == 1 else f" of {math.prod(losses.shape[:-1])} runs"
    rounds = losses.shape[-1]
    last = losses[..., -max(1, rounds // 20) :]
    return _lines(
        f"{type(result).__name__}{runs} of {rounds} rounds",
        f"loss: {_number(losses[..., 0].mean())} in the first round, "
        f"{_number(last.mean())} in the last {last.shape[-1]} on average",
        f"hyperparameters: {_values(result.hparams)}",
        f"updates left out: {int(np.sum(result.skipped))} of {losses.size}",
        "to go on: meta_train(..., state=result.state)",
    )


def _lines(*lines: str) -> str:
    first, *rest = lines
    return "\n  ".join([first, *(_short(line) for line in rest)])


def _short(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 4] + " ..."


def _number(value: Any) -> str:
    return f"{float(value):.6g}"


def _spread(losses: np.ndarray) -> str:
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        return "none is finite"
    ends = f"{_number(finite.min())} to {_number(finite.max())}"
    return f"{ends}, median {_number(np.median(losses))}"


def _reasons(reasons: Any) -> str:
    names = [_ENDED[StopReason(int(reason))] for reason in np.unique(np.asarray(reasons))]
    return "; ".join(names)


def _values(hparams: Any) -> str:
    """Few numbers as they are, more by their shapes; of conditional ones those that are chosen."""
    hparams = spaces.chosen(hparams)
    sizes = [np.size(leaf) for leaf in _arrays(hparams)]
    return _text(hparams, _value) if sum(sizes) <= 16 else _shapes(hparams)


def _shapes(hparams: Any) -> str:
    return _text(hparams, lambda leaf: f"{list(np.shape(leaf))}")


def _value(leaf: Any) -> str:
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub":
        return str(leaf)
    return np.array2string(array, precision=4, separator=", ")


def _arrays(hparams: Any) -> Sequence[Any]:
    return [leaf for leaf in jax.tree.leaves(hparams) if not _is_key(leaf)]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _text(hparams: Any, say: Any) -> str:
    named: Mapping[str, Any] = {
        spaces.path_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(hparams)
        if not _is_key(leaf)
    }
    return ", ".join(f"{name} {say(leaf)}".strip() for name, leaf in named.items())
