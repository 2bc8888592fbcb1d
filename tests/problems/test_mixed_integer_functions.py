"""The mixed-integer functions against COCO's, their grids and their optima."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems.mixed_integer import ARITIES, grid

# Suite bbob-mixint of cocoex 2.8.2, dimension 10, instance 3, at three points.
POINTS = [
    [1, 1, 2, 1, 2, 0, 1, 0, 3.13, 4.13],
    [1, 1, 3, 2, 5, 4, 8, 14, 3.16, -4.97],
    [0, 1, 2, 0, 6, 5, 13, 2, 3.63, 0.41],
]
COCO = {
    1: [-153.8908458809518, -74.06599481221753, -194.68961046277929],
    2: [8573.770491085324, 74692.30370322816, 18387.352501350277],
    3: [562.8245349380239, 357.78488722375414, 510.2579804638101],
    8: [2570.546573553694, 4533.435048781783, 3479.750243695751],
    15: [173.4471849652377, 365.4846048727953, 310.605291773951],
}


def hparams(point):
    names = [f"of_{arity:02d}" for arity in ARITIES]
    k = len(point) // 5
    parts = {name: np.array(point[i * k : i * k + k], int) for i, name in enumerate(names)}
    return parts | {"x": np.array(point[4 * k :], float)}


def losses(function, dimension, points, instance, unordered=()):
    with jax.enable_x64(True):
        problem = mh.problems.mixed_integer(function, dimension, unordered)
        task = mh.problems.mixed_integer_instance(function, dimension, instance, unordered)
        batch = jax.tree.map(lambda *x: jnp.stack(x), *[hparams(p) for p in points])
        loss = jax.vmap(lambda h: problem.loss(jax.random.key(0), h, task, ()))
        return np.asarray(jax.jit(loss)(batch))


@pytest.mark.parametrize("function", COCO)
def test_losses_are_cocos_up_to_its_constant_factor_and_offset(function):
    """Three points are enough to get rid of both."""
    ours, coco = losses(function, 10, POINTS, 3), np.array(COCO[function])
    assert (ours[2] - ours[0]) / (ours[1] - ours[0]) == pytest.approx(
        (coco[2] - coco[0]) / (coco[1] - coco[0]), rel=1e-9
    )


def test_grid_is_the_suites():
    """Four values: -2.4, -0.8, 0.8, 2.4, shifted by at most 0.8 for optima between them."""
    values = grid(np.array([0.1, -3.0, 2.4]), 4)
    np.testing.assert_allclose(
        values,
        [[-3.1, -1.5, 0.1, 1.7], [-3.0, -1.4, 0.2, 1.8], [-2.4, -0.8, 0.8, 2.4]],
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("function", "unordered"), [(1, ()), (2, (4,)), (3, (2, 16)), (5, ()), (8, (4,)), (20, (8,))]
)
def test_lowest_loss_is_zero_at_the_continuous_optimum(function, unordered):
    task = mh.problems.mixed_integer_instance(function, 5, 2, unordered)
    x_opt = task.bbob.x_opt
    best = [int(np.abs(v[0] - x).argmin()) for v, x in zip(task.values, x_opt, strict=False)]
    shares = [np.unique(np.asarray(v)).size for v in task.values]
    assert shares == list(ARITIES)
    assert losses(function, 5, [[*best, x_opt[4]]], 2, unordered)[0] == pytest.approx(0, abs=1e-9)


def test_every_other_point_of_the_grid_is_worse():
    points = [[*p, -0.5] for p in itertools.product(range(2), range(4), range(8), range(16))]
    task = mh.problems.mixed_integer_instance(1, 5, 1)
    loss = losses(1, 5, points, 1, (4,)) - (-0.5 - task.bbob.x_opt[4]) ** 2
    assert np.sort(loss)[0] == pytest.approx(0.0, abs=1e-12)
    assert np.sort(loss)[1] > 0.1


def test_only_unordered_values_are_shuffled():
    plain = mh.problems.mixed_integer_instance(3, 10, 1, unordered=())
    shuffled = mh.problems.mixed_integer_instance(3, 10, 1, unordered=(8,))
    for i, (a, b) in enumerate(zip(plain.values, shuffled.values, strict=True)):
        assert np.array_equal(a, b) == (ARITIES[i] != 8)
        np.testing.assert_array_equal(a, np.sort(b, axis=1))
    space = mh.problems.mixed_integer_space(10, unordered=(8,))
    kinds = {name: type(dim) for name, dim in space.items()}
    assert kinds == {
        "of_02": mh.Int,
        "of_04": mh.Int,
        "of_08": mh.Choice,
        "of_16": mh.Int,
        "x": mh.Float,
    }
    assert mh.space.size(space) == 10


def test_sample_draws_one_of_the_published_instances():
    problem = mh.problems.mixed_integer(1, 5)
    sample = jax.jit(jax.vmap(problem.sample))(jax.random.split(jax.random.key(0), 200))
    known = {
        round(float(mh.problems.mixed_integer_instance(1, 5, i).bbob.x_opt[0]), 3)
        for i in range(1, 16)
    }
    assert {round(float(x), 3) for x in sample.bbob.x_opt[:, 0]} == known


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 7), "dimension must be a multiple of 5, got 7"),
        ((1, 0), "dimension must be a multiple of 5, got 0"),
        ((25, 5), "function must be in 1 ... 24, got 25"),
        ((1, 5, (3,)), r"arity must be one of \(2, 4, 8, 16\), got 3"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mh.problems.mixed_integer(*arguments)
