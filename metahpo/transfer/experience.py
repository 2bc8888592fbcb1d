"""What was evaluated in the past: tasks, their descriptors, configurations and scores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import HParams
from metahpo.space import Space

CLOSE = 1e-6
"""By which a bound may be missed in the unit cube."""


class Experience(NamedTuple):
    """Evaluations of the past, as ``experience`` makes it; plain numpy arrays.

    There is one list of configurations, those of all tasks; a task that has not tried one has no
    score there.

    Attributes:
        space: of the configurations.
        tasks: the names of the ``T`` tasks.
        names: those of the ``F`` descriptors.
        descriptors: ``f64[T, F]``, NaN where unknown.
        unit: ``f64[C, D]``, the configurations as points of the unit cube.
        scores: ``f64[T, C, R, E]``, losses of every repeat after every epoch; ``inf`` for a
            failure, 0 where there is none.
        there: ``bool[T, C, R, E]``, where there are scores.
        groups: ``i64[T]``, the same number for tasks that are near-duplicates of one another.
    """

    space: Space
    tasks: tuple[str, ...]
    names: tuple[str, ...]
    descriptors: np.ndarray
    unit: np.ndarray
    scores: np.ndarray
    there: np.ndarray
    groups: np.ndarray

    def losses(self) -> np.ndarray:
        """``f64[T, C]``: means over repeats, each after its last epoch; NaN where there is none."""
        last = self.there.shape[-1] - 1 - self.there[..., ::-1].argmax(-1)
        final = np.take_along_axis(self.scores, last[..., None], -1)[..., 0]
        has = self.there.any(-1)
        counts = has.sum(-1)
        total = np.where(has, final, 0.0).sum(-1)
        return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

    def take(self, tasks: Sequence[int] | np.ndarray) -> "Experience":
        """The same with some of the tasks only, by number."""
        rows = np.asarray(tasks, int)
        return self._replace(
            tasks=tuple(self.tasks[i] for i in rows),
            descriptors=self.descriptors[rows],
            scores=self.scores[rows],
            there=self.there[rows],
            groups=self.groups[rows],
        )

    def hparams(self, numbers: Sequence[int] | np.ndarray | None = None) -> list[HParams]:
        """Configurations as Python values, all of them or those of some numbers."""
        unit = self.unit if numbers is None else self.unit[np.asarray(numbers, int)]
        return spaces.decoder(self.space)(unit) if len(unit) else []


def experience(
    space: Space,
    descriptors: Any,
    configurations: Any,
    scores: Any,
    *,
    names: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
) -> Experience:
    """Makes a record of past evaluations out of arrays.

    Args:
        space: of the configurations.
        descriptors: ``f[T, F]``, NaN where unknown, or a list of ``T`` mappings from names to
            numbers, in which a name that is missing is unknown.
        configurations: of all tasks, hyperparameters in a list or points of the unit cube
            ``f[C, D]``; or of each its own, a list of ``T`` such.
        scores: losses ``f[T, C]``, with repeats ``f[T, C, R]``, with learning curves
            ``f[T, C, R, E]``; NaN where there is none, ``inf`` for a failure.  Where tasks have
            their own configurations a list of ``T`` arrays without the first axis.
        names: of the descriptors; numbers by default.
        tasks: names of the tasks; numbers by default.
        groups: what tasks that are near-duplicates have in common; by default every task is alone.

    Returns:
        An ``Experience``.

    Raises:
        ValueError: if lengths do not match, a task has no finite score, a point lies outside of
            the cube, a name stands twice, or a descriptor is infinite.

    Example:
        >>> import metahpo as mh
        >>> space = {"rate": mh.Float(0.01, 1.0, log=True)}
        >>> rates = [{"rate": rate} for rate in (0.01, 0.1, 1.0)]
        >>> past = experience(space, [{"rows": 100}, {"rows": 900}], rates,
        ...                   [[0.3, 0.1, 0.2], [0.1, 0.2, np.nan]])
        >>> past.losses().tolist(), past.names
        ([[0.3, 0.1, 0.2], [0.1, 0.2, nan]], ('rows',))
    """
    table, names = _descriptors(descriptors, names)
    count = len(table)
    if not count:
        raise ValueError("there must be at least one task, got none")
    unit, scores = _evaluations(space, configurations, scores, count)
    named = tuple(map(str, range(count) if tasks is None else tasks))
    _check_names("tasks", named, count)
    kinds = range(count) if groups is None else list(groups)
    if len(kinds) != count:
        raise ValueError(f"groups must be one for each of {count} tasks, got {len(kinds)}")
    numbers = np.unique(np.asarray([str(kind) for kind in kinds]), return_inverse=True)[1]
    there = ~np.isnan(scores)
    if (bad := ~np.isfinite(scores).any((1, 2, 3))).any():
        raise ValueError(f"every task must have a finite score, not so: {named[bad.argmax()]}")
    return Experience(
        space, named, names, table, unit, np.where(there, scores, 0.0), there, numbers
    )


def joined(*parts: Experience) -> Experience:
    """One record of several, of the same space and descriptors: experience that grows.

    Configurations that are the same are one.  A task of a later part that has the name of an
    earlier one is the same task, with more evaluations: its scores are those of both, the later
    ones where both have some, and its descriptor is the later one.

    Raises:
        ValueError: for none, or parts of other spaces or descriptors.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> first = experience(space, [[1.0]], [[0.1], [0.2]], [[3.0, 4.0]], tasks=["a"])
        >>> more = experience(space, [[2.0]], [[0.2], [0.3]], [[5.0, 6.0]], tasks=["b"])
        >>> joined(first, more).losses().tolist()
        [[3.0, 4.0, nan], [nan, 5.0, 6.0]]
    """
    if not parts:
        raise ValueError("there must be at least one experience, got none")
    first = parts[0]
    for part in parts:
        checks.record("experience", part, Experience, "mh.transfer.experience")
        if part.space != first.space:
            raise ValueError(f"the space must be the same, {first.space}, got {part.space}")
        check_names(first, part.names)
    unit, place = np.unique(np.concatenate([p.unit for p in parts]), axis=0, return_inverse=True)
    order = _by_first(place, len(unit))
    unit, place = unit[np.argsort(order)], order[place]
    repeats, epochs = (max(p.scores.shape[axis] for p in parts) for axis in (2, 3))
    tasks = tuple(dict.fromkeys(name for part in parts for name in part.tasks))
    scores = np.full((len(tasks), len(unit), repeats, epochs), np.nan)
    table = np.full((len(tasks), len(first.names)), np.nan)
    groups: dict[str, Any] = {}
    start = 0
    for number, part in enumerate(parts):
        columns = place[start : start + len(part.unit)]
        start += len(part.unit)
        for row, name in enumerate(part.tasks):
            at = tasks.index(name)
            table[at] = part.descriptors[row]
            groups.setdefault(name, (number, part.groups[row]))
            r, e = part.scores.shape[2:]
            known = part.there[row].any((1, 2))
            new = np.full((known.sum(), repeats, epochs), np.nan)
            new[:, :r, :e] = np.where(part.there[row], part.scores[row], np.nan)[known]
            scores[at, columns[known]] = new
    there = ~np.isnan(scores)
    # Groups are known within a part only.
    kinds = np.unique([str(groups[name]) for name in tasks], return_inverse=True)[1]
    return Experience(
        first.space, tasks, first.names, table, unit, np.where(there, scores, 0.0), there, kinds
    )


def check_names(past: Experience, names: Sequence[str]) -> None:
    """Raises ``ValueError`` unless descriptors are called as those of an experience."""
    if tuple(names) != past.names:
        differ = sorted(set(names) ^ set(past.names))[:4] or "their order"
        raise ValueError(
            f"descriptors must have the names of the experience, {len(past.names)} of them, got "
            f"{len(names)}; not in both: {differ}"
        )


def descriptor_of(names: Sequence[str], descriptor: Any) -> np.ndarray:
    """``f64[F]``: numbers in the order of ``names``, from such an array or from a mapping.

    Raises:
        ValueError: for another length, or names that do not match.
    """
    if isinstance(descriptor, Mapping):
        if unknown := sorted(set(descriptor) ^ set(names))[:4]:
            raise ValueError(
                f"a descriptor must have the names of the experience, not in both: {unknown}"
            )
        descriptor = [descriptor[name] for name in names]
    numbers = np.asarray(descriptor, np.float64)
    if numbers.shape != (len(names),):
        raise ValueError(
            f"a descriptor must have {len(names)} numbers, got the shape {numbers.shape}"
        )
    if np.isinf(numbers).any():
        raise ValueError(f"descriptors must be finite or NaN, got {numbers}")
    return numbers


def points(space: Space, configurations: Any) -> np.ndarray:
    """``f64[C, D]``: hyperparameters in a list, or points of the unit cube.

    Raises:
        ValueError: for points of another length, or outside of the cube or the space.
    """
    listed = configurations if hasattr(configurations, "shape") else list(configurations)
    if hasattr(listed, "shape") or (listed and not spaces.fits(space, listed[0])):
        unit, size = np.asarray(listed, np.float64), spaces.size(space)
        if unit.ndim != 2 or unit.shape[1] != size:
            raise ValueError(f"points of this space must be [C, {size}], got shape {unit.shape}")
        if not ((unit >= 0) & (unit <= 1)).all():
            raise ValueError(f"points must lie in the unit cube [0, 1]^{size}")
        return unit
    with jax.enable_x64(True):
        rows = [np.asarray(spaces.encode(space, hparams), np.float64) for hparams in listed]
    for hparams, row in zip(listed, rows, strict=True):
        if not ((row > -CLOSE) & (row < 1 + CLOSE)).all():
            raise ValueError(f"a configuration must lie within its space, got {hparams}")
    return np.clip(np.reshape(rows, (len(listed), spaces.size(space))), 0.0, 1.0)


def _descriptors(given: Any, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    if not hasattr(given, "shape") and all(isinstance(row, Mapping) for row in given):
        found = dict.fromkeys(name for row in given for name in row) if names is None else names
        names = tuple(found)
        given = [[row.get(name, np.nan) for name in names] for row in given]
    table = np.asarray(given, np.float64)
    if table.ndim != 2:
        raise ValueError(f"descriptors must be [tasks, F], got the shape {table.shape}")
    named = tuple(map(str, range(table.shape[1]) if names is None else names))
    _check_names("names", named, table.shape[1])
    if np.isinf(table).any():
        raise ValueError("descriptors must be finite, or NaN where they are not known")
    return table, named


def _check_names(what: str, names: tuple[str, ...], count: int) -> None:
    if len(names) != count or len(set(names)) < len(names):
        raise ValueError(f"{what} must be {count} different names, got {names[:8]}")


def _evaluations(
    space: Space, configurations: Any, scores: Any, tasks: int
) -> tuple[np.ndarray, np.ndarray]:
    """``f64[C, D]`` and ``f64[T, C, R, E]``, NaN where there is none."""
    own = isinstance(scores, list) and not hasattr(configurations, "shape")
    own = own and len(configurations) == tasks and _is_nested(space, configurations)
    if not own:
        unit, losses = points(space, configurations), np.asarray(scores, np.float64)
        if losses.ndim not in (2, 3, 4) or losses.shape[:2] != (tasks, len(unit)):
            raise ValueError(
                f"scores must be [tasks, configurations] with further axes for repeats and epochs, "
                f"of {tasks} tasks and {len(unit)} configurations, got the shape {losses.shape}"
            )
        losses = losses.reshape(losses.shape + (1,) * (4 - losses.ndim))
        kept, place = np.unique(unit, axis=0, return_inverse=True)
        if len(kept) < len(unit):
            raise ValueError(
                f"a configuration must stand once, got {unit[_repeated(place)]} repeatedly"
            )
        return unit, losses
    if len(scores) != tasks:
        raise ValueError(f"scores must be a list of {tasks} arrays, got {len(scores)}")
    units = [points(space, listed) for listed in configurations]
    curves: list[np.ndarray] = []
    for row, listed in zip(scores, units, strict=True):
        losses = np.asarray(row, np.float64)
        if losses.ndim not in (1, 2, 3) or len(losses) != len(listed):
            raise ValueError(
                f"a task's scores must be [configurations] with further axes for repeats and "
                f"epochs, of {len(listed)} configurations, got the shape {losses.shape}"
            )
        curves.append(losses.reshape(losses.shape + (1,) * (3 - losses.ndim)))
    repeats = max(curve.shape[1] for curve in curves)
    epochs = max(curve.shape[2] for curve in curves)
    unit, place = np.unique(np.concatenate(units), axis=0, return_inverse=True)
    result = np.full((tasks, len(unit), repeats, epochs), np.nan)
    start = 0
    for task, curve in enumerate(curves):
        at = place[start : start + len(curve)]
        start += len(curve)
        if len(np.unique(at)) < len(at):
            result = _with_room(result, np.bincount(at).max() * curve.shape[1])
        for row, column in zip(curve, at, strict=True):  # the same point again is a repeat
            used = int((~np.isnan(result[task, column])).any(-1).sum())
            result[task, column, used : used + len(row), : row.shape[1]] = row
    return unit, result


def _with_room(scores: np.ndarray, repeats: int) -> np.ndarray:
    more = max(0, repeats - scores.shape[2])
    return np.pad(scores, ((0, 0), (0, 0), (0, more), (0, 0)), constant_values=np.nan)


def _is_nested(space: Space, configurations: Sequence[Any]) -> bool:
    """Whether every task has a list of its own."""
    first = configurations[0]
    return not spaces.fits(space, first) and (np.ndim(first) == 2 or _holds(space, first))


def _holds(space: Space, listed: Any) -> bool:
    return isinstance(listed, list) and bool(listed) and spaces.fits(space, listed[0])


def _repeated(place: np.ndarray) -> int:
    return int(np.flatnonzero(place == np.bincount(place).argmax())[0])


def _by_first(place: np.ndarray, count: int) -> np.ndarray:
    """``i64[count]``: the order in which sorted rows first stood."""
    first = np.full(count, len(place))
    np.minimum.at(first, place, np.arange(len(place)))
    order = np.empty(count, int)
    order[np.argsort(first)] = np.arange(count)
    return order
