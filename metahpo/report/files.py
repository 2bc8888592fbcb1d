"""Results as JSON and NPZ files, each written whole or not at all."""

import dataclasses
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metahpo import space as spaces
from metahpo._files import atomic_write
from metahpo.base import PyTree

PathLike = str | os.PathLike[str]

_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def save_json(path: PathLike, obj: Any) -> None:
    """Writes a result as JSON that every reader accepts.

    Named tuples and dataclasses become objects by field name, arrays become lists and numpy and
    JAX scalars become numbers.  JSON has no number that is not finite: such floats are written as
    the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``load_json`` turns back.

    Args:
        path: the file; its folder is made where it is missing.
        obj: a nest of mappings, sequences, records, arrays, numbers, strings, booleans and None.

    Raises:
        TypeError: for anything else; the message says where it stands.
        ValueError: for what would come back as something else: keys that are the same text, and the
            texts that stand for numbers.
        OSError: if the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "result.json"
        >>> save_json(path, {"loss": np.array([0.5, np.inf])})
        >>> load_json(path)
        {'loss': [0.5, inf]}
    """
    text = json.dumps(_plain(obj, ""), indent=1, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")


def load_json(path: PathLike) -> Any:
    """Reads what ``save_json`` wrote: objects, lists, numbers (also not finite) and strings.

    Raises:
        ValueError: if the file is damaged, or no JSON; the message names it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return _with_nonfinite(json.load(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged, or no JSON: {error}") from error


def save_npz(path: PathLike, tree: PyTree) -> None:
    """Writes the arrays of a pytree into one NPZ file, by their path names joined by dots.

    Typed keys are written as their key data and bfloat16, which NPZ does not know, as float32.
    The same arrays give the same bytes.

    Args:
        path: the file; its folder is made where it is missing.
        tree: a pytree of arrays and numbers.

    Raises:
        ValueError: if two leaves have the same name, or a leaf is not an array of numbers.
        OSError: if the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "result.npz"
        >>> save_npz(path, {"history": {"loss": np.ones(2)}})
        >>> load_npz(path)
        {'history.loss': array([1., 1.])}
    """
    arrays = {name: _array(name, leaf) for name, leaf in _named(tree).items()}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_npz(path: PathLike, like: PyTree | None = None) -> Any:
    """Reads the arrays of an NPZ file.

    Args:
        path: the file.
        like: a pytree, of arrays or shapes (``jax.eval_shape``), like the one that was saved.

    Returns:
        All arrays by name; with ``like`` its pytree of JAX arrays, each of the type there, which
        brings back what NPZ does not know: bfloat16 and typed keys.

    Raises:
        ValueError: if the file is damaged or no NPZ file; if the names in it are not those of
            ``like``, or a shape is another.

    Example:
        >>> import pathlib, tempfile
        >>> path, weights = pathlib.Path(tempfile.mkdtemp()) / "weights.npz", [{"w": jnp.ones(2)}]
        >>> save_npz(path, weights)
        >>> load_npz(path, like=weights)
        [{'w': Array([1., 1.], dtype=float32)}]
    """
    arrays = _arrays(path)
    if like is None:
        return arrays
    wanted = _named(like)
    if set(arrays) != set(wanted):
        raise ValueError(
            f"{os.fspath(path)} is not like the pytree: missing are "
            f"{sorted(set(wanted) - set(arrays))}, not wanted {sorted(set(arrays) - set(wanted))}"
        )
    leaves = [_restored(name, arrays[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _arrays(path: PathLike) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:  # once: another process may replace it meanwhile
            with zipfile.ZipFile(file) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in names}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, zlib.error) as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged, or no NPZ file of arrays of numbers"
        ) from error


def _restored(name: str, array: np.ndarray, like: Any) -> jax.Array:
    dtype = jnp.result_type(like)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        impl = jax.random.key_impl(like) if isinstance(like, jax.Array) else _kind_of_key(dtype)
        restored = jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
    else:
        restored = jnp.asarray(array, dtype)
    if restored.shape != jnp.shape(like):
        raise ValueError(f"{name} has the shape {restored.shape}, not {jnp.shape(like)}")
    return restored


def _kind_of_key(dtype: Any) -> str:
    """Of a shape alone it is known by its type."""
    kinds = ("threefry2x32", "rbg", "unsafe_rbg")
    like = {jax.eval_shape(lambda k=k: jax.random.key(0, impl=k)).dtype: k for k in kinds}
    if dtype not in like:
        raise ValueError(f"keys of the type {dtype} need an array of keys in like=, not its shape")
    return like[dtype]


def _named(tree: PyTree) -> dict[str, Any]:
    """The leaves by their path names, in the order of the tree."""
    named: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(keys, simple=True, separator=".")
        if keys and (not name or "\0" in name):
            raise ValueError(f"a file cannot have an array called {name!r}")
        name = name or "array"
        if name in named:
            raise ValueError(f"two leaves have the name {name!r}")
        named[name] = leaf
    return named


def _array(name: str, leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    if array.dtype == jnp.bfloat16:
        return array.astype(np.float32)
    if array.dtype.kind not in "biufcU":
        raise ValueError(f"{name} must be an array of numbers, got {leaf!r}")
    return array


def _plain(obj: Any, where: str) -> Any:
    """Python values only, floats that are not finite as strings, a branch as ``{name: values}``."""
    if isinstance(obj, spaces.OneOf):
        obj = spaces.chosen(obj)
    if isinstance(obj, spaces.Branch):
        obj = {obj.name: obj.values}
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        obj = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
    elif hasattr(obj, "_asdict"):
        obj = obj._asdict()
    elif isinstance(obj, np.ndarray | np.generic | jax.Array):
        obj = _array(where, obj).tolist()
    if isinstance(obj, Mapping):
        _check_keys(obj, where)
        return {str(key): _plain(value, f"{where}[{key!r}]") for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value, f"{where}[{i}]") for i, value in enumerate(obj)]
    if isinstance(obj, float) and not math.isfinite(obj):
        return next(
            name
            for name, value in _NONFINITE.items()
            if value == obj or (math.isnan(value) and math.isnan(obj))
        )
    if isinstance(obj, str) and obj in _NONFINITE:
        raise ValueError(
            f"the text {obj!r} stands for a number in these files, at {where or 'the top'}"
        )
    if obj is None or isinstance(obj, str | bool | int | float):
        return obj
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    raise TypeError(f"cannot write {obj!r} ({type(obj).__name__}) as JSON, at {where or 'the top'}")


def _check_keys(obj: Mapping[Any, Any], where: str) -> None:
    """JSON knows only text for keys."""
    keys: dict[str, Any] = {}
    for key in obj:
        if str(key) in keys:
            raise ValueError(
                f"the keys {keys[str(key)]!r} and {key!r} are one text in JSON, "
                f"at {where or 'the top'}"
            )
        keys[str(key)] = key


def _with_nonfinite(obj: Any) -> Any:
    if isinstance(obj, dict):
        return {key: _with_nonfinite(value) for key, value in obj.items()}
    if isinstance(obj, list):
        return [_with_nonfinite(value) for value in obj]
    return _NONFINITE.get(obj, obj) if isinstance(obj, str) else obj
