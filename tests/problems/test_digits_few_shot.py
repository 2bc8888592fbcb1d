"""Few-shot digits: held-out classes, and that there is something to learn."""

import jax
import numpy as np
import pytest

import metahpo as mh

KEY = jax.random.key(0)


@pytest.mark.parametrize(("part", "labels"), [("train", range(5)), ("test", range(5, 10))])
def test_parts_hold_their_own_digits_and_all_of_their_images(part, labels):
    """Enough episodes show every image of the part's digits and none of the others."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    sample = mh.problems.digits_few_shot(ways=5, shots=1, queries=15, part=part).sample
    episodes = jax.jit(jax.vmap(sample))(jax.random.split(KEY, 200))
    shown = np.concatenate([np.asarray(one.x).reshape(-1, 64) for one in episodes])
    expected = data.data[np.isin(data.target, labels)] / 16
    np.testing.assert_array_equal(np.unique(shown, axis=0), np.unique(expected, axis=0))


def test_classes_can_be_named_instead_of_a_part():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    sample = mh.problems.digits_few_shot(2, 10, 160, classes=(8, 3)).sample
    episode = jax.jit(sample)(KEY)
    shown = np.concatenate([np.asarray(part.x).reshape(-1, 64) for part in episode])
    allowed = {row.tobytes() for row in np.float32(data.data[np.isin(data.target, (3, 8))] / 16)}
    assert {row.tobytes() for row in shown} <= allowed


def test_an_episode_label_is_one_digit():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    digit = {row.tobytes(): label for row, label in zip(data.data, data.target, strict=True)}
    episode = jax.jit(mh.problems.digits_few_shot(ways=3, shots=2, queries=4, part="test").sample)(
        KEY
    )
    of_label = {}
    for part in episode:
        for image, label in zip(np.asarray(part.x, float).reshape(-1, 64), part.y, strict=True):
            of_label.setdefault(int(label), set()).add(digit[(16 * image).tobytes()])
    assert all(len(digits) == 1 for digits in of_label.values())
    assert len(set.union(*of_label.values())) == 3


def test_default_network_is_dense_and_ends_in_head():
    pytest.importorskip("sklearn")
    family = mh.problems.digits_few_shot(ways=3, shots=1)
    task = jax.jit(family.sample)(KEY)
    params = family.init(KEY, task)
    x = np.asarray(task.query.x).reshape(-1, 64)
    for name in ("Dense_0", "Dense_1", "head"):
        layer = params["params"][name]
        x = (x if name == "Dense_0" else np.maximum(x, 0)) @ layer["kernel"] + layer["bias"]
    assert layer["kernel"].shape == (64, 3)
    expected = np.mean(np.log(np.exp(x).sum(1)) - x[np.arange(len(x)), task.query.y])
    np.testing.assert_allclose(family.loss(params, task, "query"), expected, rtol=1e-5)


def test_rotations_multiply_the_classes():
    pytest.importorskip("sklearn")
    mh.problems.digits_few_shot(ways=20, shots=1, rotations=True)
    with pytest.raises(ValueError, match="6 ways need as many classes, the data has 5"):
        mh.problems.digits_few_shot(ways=6, shots=1)
    with pytest.raises(ValueError, match="170 shots and 15 queries need 185 images a class"):
        mh.problems.digits_few_shot(ways=5, shots=170)
    with pytest.raises(ValueError, match=r"different digits from 0 to 9, got \(1, 2, 2\)"):
        mh.problems.digits_few_shot(ways=3, shots=1, classes=(1, 2, 2))
    with pytest.raises(ValueError, match=r"part must be one of \('train', 'test'\), got 'val'"):
        mh.problems.digits_few_shot(ways=3, shots=1, part="val")
