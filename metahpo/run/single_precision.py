"""Losses of double precision for strategies that work in single precision, in the same order.

A loss of 1,000,000.000001 is the worse of two whose other is 1,000,000, and a float of 32 bits has
room for neither.  Strategies compare losses, of one round and of all rounds before, so what must
survive is the order; and for those that weigh differences, the size of a difference.
"""

import sys
from bisect import bisect_left

import numpy as np

LARGEST = 1e30  # of what is told as it is; its squares are not
LEAST_SPREAD = 1e-3  # of losses relative to their size, which leaves 14 bits for them
WIDENED = 0.1  # what becomes of a spread that is too small, relative to the size
GAP = 2**12  # floats left free beside one that could not be told as it is

_LIMITS = np.finfo(np.float32)
_BELOW_NORMAL = int(np.float32(_LIMITS.tiny).view(np.int32)) - 1
_END = int(np.float32(_LIMITS.max).view(np.int32)) - _BELOW_NORMAL


class SinglePrecision:
    """Gives every loss its float of 32 bits, and never another one.

    A loss is rounded.  If the first losses differ too little for that, the lowest of them is
    subtracted, and if they are too large or too small, they are divided by their size; all later
    losses are treated alike.  A loss that would thereby meet or pass another one gets one of the
    next floats that keep the order.  The same float serves two losses only where no other is left
    between their neighbours.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []  # sorted
        self._places: list[int] = []  # of their floats, among all floats of 32 bits
        self._shift, self._scale, self._origin = 0.0, 1.0, 0.0

    def told(self, loss: np.ndarray) -> np.ndarray:
        """``f32[P]`` for ``f64[P]``; what is not finite becomes infinite."""
        new = np.unique(loss[np.isfinite(loss)]).tolist()
        if new and len(self._losses) < 2:
            self._choose_units(new)
        self._add(new)
        found = np.full(loss.shape, np.inf, np.float32)
        for i in np.flatnonzero(np.isfinite(loss)).tolist():
            found[i] = _float(self._places[bisect_left(self._losses, float(loss[i]))])
        return found

    def _choose_units(self, new: list[float]) -> None:
        """Decides what is told of a loss: ``origin + (loss - shift) / scale``."""
        losses = sorted({*self._losses, *new})
        best, middle = losses[0], losses[len(losses) // 2]  # the worse half may be penalties
        size = max(abs(best), abs(middle))
        spread = min(middle - best or losses[-1] - best or size, sys.float_info.max)
        narrow = spread < LEAST_SPREAD * size
        if not self._losses:
            self._shift, largest = (best, spread) if narrow else (0.0, size)
            if largest and not (spread >= 1 / LARGEST and largest <= LARGEST):
                self._scale = largest
        elif narrow:  # all losses so far were one, which keeps its float
            self._shift, self._origin = self._losses[0], float(_float(self._places[0]))
            self._scale = spread / abs(WIDENED * self._origin)

    def _add(self, losses: list[float]) -> None:
        """Sorted losses, the middle one first, so that a gap is shared evenly."""
        if not losses:
            return
        middle = len(losses) // 2
        self._add_one(losses[middle])
        self._add(losses[:middle])
        self._add(losses[middle + 1 :])

    def _add_one(self, loss: float) -> None:
        at = bisect_left(self._losses, loss)
        if at < len(self._losses) and self._losses[at] == loss:
            return
        below = self._places[at - 1] if at else -_END - 1
        above = self._places[at] if at < len(self._places) else _END + 1
        place = self._rounded(loss)
        if not below < place < above:
            free = min(GAP, (above - below) // 2)
            place = min(max(place, below + free), above - free)
        self._losses.insert(at, loss)
        self._places.insert(at, place)

    def _rounded(self, loss: float) -> int:
        with np.errstate(over="ignore"):
            number = self._origin + (np.float64(loss) - self._shift) / self._scale
        single = np.float32(np.clip(number, -(2.0**126), 2.0**126))
        size = int(np.abs(single).view(np.int32)) - _BELOW_NORMAL
        return int(np.sign(single)) * max(size, 0)  # below the normal numbers all is 0 to XLA


def _float(place: int) -> np.float32:
    if not place:
        return np.float32(0)
    size = np.int32(abs(place) + _BELOW_NORMAL).view(np.float32)
    return size if place > 0 else -size
