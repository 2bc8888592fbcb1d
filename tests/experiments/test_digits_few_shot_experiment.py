"""The study of held-out digits: what is held out, and what comes of pixels alone."""

import jax
import numpy as np
import pytest

import metahpo as mh
from experiments import digits_few_shot as study


def test_every_digit_is_held_out_three_times():
    held_out = [digit for split in study.SPLITS for digit in split]
    assert all(held_out.count(digit) == 3 for digit in range(10))
    assert len(set(study.SPLITS)) == 10 and all(len(set(split)) == 3 for split in study.SPLITS)


@pytest.mark.parametrize("part", ["train", "test"])
def test_no_episode_of_training_shows_a_held_out_digit(part):
    data = pytest.importorskip("sklearn.datasets").load_digits()
    sample = study.samplers(part, 1, 2)[1]
    x = jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(0), 100)).query.x
    turned = np.concatenate([np.rot90(x, turn, axes=(3, 4)).reshape(-1, 64) for turn in range(4)])
    shown = {row.tobytes() for row in np.float32(turned)}
    of_digit = [np.float32(data.data[data.target == digit] / 16) for digit in range(10)]
    seen = {d for d in range(10) if any(row.tobytes() in shown for row in of_digit[d])}
    assert seen == (set(study.SPLITS[1]) if part == "test" else {*range(10)} - {*study.SPLITS[1]})


def test_class_means_in_pixels_are_judged_as_by_hand():
    """The same episodes with NumPy, which knows no learner."""
    pytest.importorskip("sklearn")
    size = study.QUICK._replace(splits=2, episodes=30)
    found = study.accuracies(study.METHODS[study.BASE], 1, size)
    sample, expected = study.samplers("test", 1, 2), []
    for split in range(2):
        # As mh.meta.evaluate draws them: the first of two keys of each episode.
        test_key = jax.random.split(jax.random.key(split), 3)[2]
        keys = jax.vmap(jax.random.split)(jax.random.split(test_key, size.episodes))[:, 0]
        support, query = jax.jit(jax.vmap(sample[split]))(keys)
        means = np.asarray(support.x).reshape(30, 1, study.WAYS, 64)
        points = np.asarray(query.x).reshape(30, -1, 1, 64)
        right = ((points - means) ** 2).sum(-1).argmin(-1) == np.asarray(query.y)
        expected.append(100 * right.mean())
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_table_compares_with_the_pixels():
    base = np.array([50.0, 60.0])
    found = {(name, shots): base + shots for name in study.METHODS for shots in study.SHOTS}
    found |= {(study.BASE, shots): base for shots in study.SHOTS}
    first, *_, last = study.tabulate(found)
    assert first["1-shot %"].mean == 55.0 and "1-shot, minus pixels" not in first
    assert last["5-shot, minus pixels"] == mh.report.Interval(5.0, 0.0, 2)
