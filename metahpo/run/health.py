"""How a run is doing, read off its history while it runs."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from metahpo import checks
from metahpo.base import PyTree

WORRYING = 0.05
"""The share of failures above which a run warns at its end."""
_WINDOW = 20  # a smoothed loss is the mean of the last twentieth of the run, or of so many rounds


class Health(NamedTuple):
    """What a run shows of itself.

    Attributes:
        value: of a search the lowest loss so far, of a meta-training the mean of the last ones.
        kind: which of them.
        failed: updates or tasks that were left out, or candidates without a finite loss (or
            gradient).
        of: how many there were.
        what: their name.
    """

    value: float
    kind: str
    failed: int = 0
    of: int = 0
    what: str = ""

    @property
    def note(self) -> str:
        """The failures in words, nothing without any."""
        return f"{self.failed} of {self.of} {self.what}" if self.failed else ""

    def warn(self, name: str, stacklevel: int) -> None:
        """Warns if more than ``WORRYING`` of them failed."""
        if self.failed > WORRYING * self.of:
            warnings.warn(
                f"{name}: {self.note} ({self.failed / self.of:.0%})", stacklevel=stacklevel + 1
            )


def health(history: PyTree, done: int, lanes: bool) -> Health:
    """Of the first ``done`` rounds of a history, with a leading axis of runs if ``lanes``."""

    def rows(leaf: PyTree) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf[:, :done] if lanes else leaf[:done]

    losses = getattr(history, "loss", None)
    if losses is None:
        return Health(math.nan, "loss")
    losses = rows(losses)
    if hasattr(history, "skipped"):
        skipped = rows(history.skipped)
        last = losses[..., -max(_WINDOW, done // 20) :]
        finite = last[np.isfinite(last)]
        value = float(finite.mean()) if finite.size else math.nan
        left_out, tasks = int(rows(history.left_out).sum()), int(rows(history.tasks).sum())
        if left_out:
            return Health(value, "mean loss", left_out, tasks, "tasks left out")
        return Health(value, "mean loss", int(skipped.sum()), skipped.size, "updates left out")
    value = float(losses.min()) if losses.size else math.nan
    if not hasattr(history, "nonfinite"):
        return Health(value, "lowest loss")
    evaluated = rows(history.budget) > 0
    failed = rows(history.nonfinite) & evaluated
    what = "candidates not finite"
    return Health(value, "lowest loss", int(failed.sum()), int(evaluated.sum()), what)


def warn_of_nothing(name: str, result: PyTree, stacklevel: int) -> None:
    """Warns if a search, or one of many, has found no finite loss; nothing is known of traced ones.

    Its best hyperparameters are then none.
    """
    losses = getattr(result, "best_loss", None)
    if losses is None or not checks.known(losses):
        return
    found = np.isfinite(np.asarray(losses))
    if found.all():
        return
    which = f" in {(~found).sum()} of {found.size} runs" if found.ndim else ""
    warnings.warn(
        f"{name}: no loss of any candidate was finite{which}, so best_hparams is not a result",
        stacklevel=stacklevel + 1,
    )
