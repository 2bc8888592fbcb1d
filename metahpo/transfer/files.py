"""Experience in a file: arrays as NPZ, and what they mean as JSON within it."""

import json
from typing import Any

import numpy as np

from metahpo.report.files import PathLike, load_npz, save_npz
from metahpo.space import Choice, Constant, Float, Int, OneOf, Space
from metahpo.transfer.experience import Experience

FORMAT = 1
"""Of the file; one of another number is refused."""


def save(path: PathLike, past: Experience) -> None:
    """Writes an experience into one NPZ file, whole or not at all.

    Its member ``about`` is JSON, as bytes, with the space and all names; nothing is pickled.

    Raises:
        ValueError: for a space with choices that are no text, number, truth value or ``None``, or
            nested in something else than dicts and ``OneOf``.

    Example:
        >>> import pathlib, tempfile
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> past = mh.transfer.experience(space, [[1.0]], [[0.5]], [[2.0]])
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "past.npz"
        >>> save(path, past)
        >>> load(path).losses().tolist(), load(path).space == space
        ([[2.0]], True)
    """
    about = {
        "format": FORMAT,
        "space": _described(past.space),
        "tasks": past.tasks,
        "names": past.names,
    }
    arrays = {name: getattr(past, name) for name in _ARRAYS}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    save_npz(path, {"about": text, **arrays})


def load(path: PathLike) -> Experience:
    """Reads what ``save`` wrote.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is damaged, something else, or of another format.
    """
    found = load_npz(path)
    try:
        about = json.loads(found.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this version reads {FORMAT}")
        space = _space(about["space"])
        arrays = {name: found[name] for name in _ARRAYS}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no experience: {error}") from error
    return Experience(
        space=space, tasks=tuple(about["tasks"]), names=tuple(about["names"]), **arrays
    )


_ARRAYS = ("descriptors", "unit", "scores", "there", "groups")
_KINDS = {"Float": Float, "Int": Int, "Choice": Choice, "Constant": Constant}


def _described(space: Space) -> Any:
    if isinstance(space, OneOf):
        return {"OneOf": [[name, _described(space[name])] for name in space.names]}
    if isinstance(space, dict):
        return {"dict": [[name, _described(part)] for name, part in space.items()]}
    kind = type(space).__name__
    if kind not in _KINDS:
        raise ValueError(f"a space in a file must be of dicts, OneOf and dimensions, got {space!r}")
    fields = {name: getattr(space, name) for name in space.__dataclass_fields__}
    values = [*fields.get("values", ()), *([fields["value"]] if "value" in fields else [])]
    if odd := [v for v in values if not isinstance(v, str | int | float | bool | type(None))]:
        raise ValueError(f"choices in a file must be texts, numbers or None, got {odd[0]!r}")
    return {kind: fields}


def _space(described: Any) -> Space:
    ((kind, content),) = described.items()
    if kind == "OneOf":
        return OneOf({name: _space(part) for name, part in content})
    if kind == "dict":
        return {name: _space(part) for name, part in content}
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return _KINDS[kind](**fields)
