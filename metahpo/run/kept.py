"""The evaluations in the folder of a minimisation."""

import os
from pathlib import Path

import numpy as np

from metahpo.run import checkpoint, log


def kept(directory: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``minimize(directory=...)`` has kept; the folder stays as it is.

    Args:
        directory: with the log of an asynchronous run, or with checkpoints.

    Returns:
        ``(unit f[N, D], loss f64[N], steps i32[N])`` of all evaluations, in the order in which
        their losses were told; NaN or infinite losses are failures.

    Raises:
        ValueError: if the folder holds neither, or what it holds is damaged.
        ImportError: for checkpoints without the extra ``checkpoint``.

    Example:
        >>> import tempfile, metahpo as mh
        >>> space, folder = {"x": mh.Float(0.0, 1.0)}, tempfile.mkdtemp()
        >>> strategy = mh.strategies.random(space, population=1)
        >>> result = mh.minimize(
        ...     lambda h: h["x"], space, strategy, rounds=3, directory=folder, asynchronous=True,
        ...     progress=False,
        ... )
        >>> unit, loss, steps = kept(folder)
        >>> bool(loss.min() == result.best_loss), unit.shape
        (True, (3, 1))
    """
    folder = Path(directory).expanduser().absolute()
    file = folder / log.NAME
    if file.is_file():
        state = log.read(file)
        found = [] if state is None else [state.number, state.loss, state.steps, state.unit]
    else:
        found = checkpoint.read(folder) if folder.is_dir() else []
    if len(found) != 4:
        raise ValueError(f"there must be evaluations of a minimisation in {str(folder)!r}")
    number, loss, steps, unit = map(np.asarray, found)
    told = number >= 0
    return unit[told], loss[told].astype(np.float64), steps[told].astype(np.int32)
