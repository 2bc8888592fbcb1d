"""Results come back from their files as they were, and no file is ever half written."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo._files import atomic_write, writable_folder
from metahpo.report import Interval, load_json, load_npz, save_json, save_npz

pytestmark = pytest.mark.versions


class Point(NamedTuple):
    x: float
    y: object


@dataclasses.dataclass
class Setting:
    name: str
    rate: np.float32


def test_json_holds_every_kind_of_result(tmp_path):
    save_json(
        tmp_path / "new" / "result.json",
        {
            "point": Point(0.1, (1, None, True)),
            "setting": Setting("a|b", np.float32(0.5)),
            "array": jnp.arange(4).reshape(2, 2),
            "half": jnp.array([1.5], jnp.bfloat16),
            "interval": Interval(np.array(1.0), np.array(np.nan), 1),
            "path": Path("results"),
            3: "three",
        },
    )
    assert str(load_json(tmp_path / "new" / "result.json")) == str(
        {
            "point": {"x": 0.1, "y": [1, None, True]},
            "setting": {"name": "a|b", "rate": 0.5},
            "array": [[0, 1], [2, 3]],
            "half": [1.5],
            "interval": {"mean": 1.0, "half_width": float("nan"), "n": 1},
            "path": "results",
            "3": "three",
        }
    )


def test_floats_come_back_to_the_bit_and_the_file_is_strict_json(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, np.inf, -np.inf]
    save_json(tmp_path / "a.json", values)
    assert np.array(load_json(tmp_path / "a.json")).tobytes() == np.array(values).tobytes()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    strict = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert strict[-2:] == ["Infinity", "-Infinity"]


def test_what_json_cannot_hold_is_told_with_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"cannot write .* \(set\) as JSON, at \['a'\]\[1\]"):
        save_json(tmp_path / "a.json", {"a": [0, {1}]})
    assert list(tmp_path.iterdir()) == []


def test_npz_holds_arrays_by_path_names(tmp_path):
    tree = {
        "history": Point(jnp.arange(3.0), {"flag": np.array([True]), "count": 2}),
        "key": jax.random.key(3),
        "half": jnp.array([1.5, -2.0], jnp.bfloat16),
        "names": np.array(["lr", "width"]),
    }
    save_npz(tmp_path / "a.npz", tree)
    found = load_npz(tmp_path / "a.npz")
    assert sorted(found) == [
        "half",
        "history.x",
        "history.y.count",
        "history.y.flag",
        "key",
        "names",
    ]
    np.testing.assert_array_equal(found["history.x"], np.arange(3, dtype=np.float32))
    assert found["history.x"].dtype == np.float32
    assert found["history.y.count"] == 2 and found["history.y.flag"].dtype == bool
    np.testing.assert_array_equal(found["half"], np.array([1.5, -2.0], np.float32))
    np.testing.assert_array_equal(found["key"], jax.random.key_data(tree["key"]))
    assert found["names"].tolist() == ["lr", "width"]


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save_npz(tmp_path / name, {"x": np.arange(5), "file": np.eye(2)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as plain:  # numpy reads it too
        np.testing.assert_array_equal(plain["file"], np.eye(2))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a.b": 1, "a": {"b": 2}}, "two leaves have the name 'a.b'"),
        ({"fn": print}, "fn must be an array of numbers, got <built-in"),
    ],
)
def test_what_npz_cannot_hold_is_told(tmp_path, tree, message):
    with pytest.raises(ValueError, match=message):
        save_npz(tmp_path / "a.npz", tree)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    save_json(path, 1)
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert load_json(path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(ValueError, match=f"must be writable, got '{tmp_path}/results/new'"):
        writable_folder(tmp_path / "results" / "new")
    with pytest.raises(OSError, match="results"):
        save_json(tmp_path / "results" / "a.json", 1)


def test_npz_comes_back_into_the_structure_that_it_had(tmp_path):
    tree = {
        "layers": {"x": jnp.ones(2)},
        "half": [jnp.asarray([1.0, 3.14], jnp.bfloat16)],
        "key": jax.random.key(3),
        "whole": np.int32(7),
    }
    save_npz(tmp_path / "a.npz", tree)
    for like in (tree, jax.eval_shape(lambda: tree)):
        back = load_npz(tmp_path / "a.npz", like=like)
        assert jax.tree.structure(back) == jax.tree.structure(tree)
        assert back["half"][0].dtype == jnp.bfloat16 and back["whole"].dtype == jnp.int32
        np.testing.assert_array_equal(back["half"][0], tree["half"][0])
        assert jax.random.uniform(back["key"]) == jax.random.uniform(tree["key"])


def test_npz_that_is_not_like_the_pytree_is_refused(tmp_path):
    save_npz(tmp_path / "a.npz", {"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"missing are \['c'\], not wanted \['b'\]"):
        load_npz(tmp_path / "a.npz", like={"w": jnp.ones(2), "c": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"w has the shape \(2,\), not \(3,\)"):
        load_npz(tmp_path / "a.npz", like={"w": jnp.ones(3), "b": jnp.ones(1)})
