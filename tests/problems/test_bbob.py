"""The BBOB functions: COCO's values, precision near the optimum, derivatives, batches."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems.bbob.functions import FUNCTIONS
from metahpo.problems.bbob.generators import normals, rotation, uniforms

REFERENCE = np.load(Path(__file__).parent / "bbob_reference.npz")
INSTANCES = [int(i) for i in REFERENCE["instances"]]
DIMENSIONS = (2, 3, 5, 10, 20, 40)
NUMBERS = range(1, 25)
KEY = jax.random.key(0)


def stacked(function, dimension, instances=INSTANCES):
    each = [mh.problems.bbob_instance(function, dimension, i) for i in instances]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


def points(function, dimension):
    """``f64[N, P, D]``, the reference's points of each instance."""
    x_opt = REFERENCE[f"x_opt.{function}.{dimension}"]
    near = x_opt[:, None] + REFERENCE[f"near.{dimension}"]
    far = np.broadcast_to(REFERENCE[f"far.{dimension}"], near.shape)
    return np.concatenate([near, far], axis=1)


def values(function, x, tasks):
    """``f[N, P]`` of points ``f[N, P, D]`` and ``N`` instances."""
    loss = mh.problems.bbob(function, x.shape[-1]).loss
    at = lambda point, task: loss(KEY, {"x": point}, task, ())  # noqa: E731
    return jax.vmap(jax.vmap(at, (0, None)))(x, tasks)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_values_are_those_of_coco(dimension):
    x = {f: points(f, dimension) for f in NUMBERS}
    tasks = {f: stacked(f, dimension) for f in NUMBERS}
    with jax.enable_x64(True):
        run = jax.jit(lambda x, tasks: {f: values(f, x[f], tasks[f]) for f in NUMBERS})
        ours = jax.tree.map(np.asarray, run(x, tasks))
    for f in NUMBERS:
        f_opt, theirs = REFERENCE[f"f_opt.{f}"][:, None], REFERENCE[f"f.{f}.{dimension}"]
        np.testing.assert_allclose(
            tasks[f].x_opt, REFERENCE[f"x_opt.{f}.{dimension}"], rtol=1e-12, atol=1e-12
        )
        # COCO's own rounding: adding f_opt, and cancellation in 10 (D - sum of cosines).
        rounding = 1e-15 * np.abs(f_opt) + 1e-14 * dimension
        error = np.maximum(np.abs(ours[f] - (theirs - f_opt)) - rounding, 0)
        assert np.all(error <= 1e-9 * ours[f]), f"f{f}"


def test_the_generator_gives_the_numbers_that_define_the_instances():
    # Park & Miller's own check: from the seed 1 the 10,000th number is 1,043,618,065.
    number = 1
    for _ in range(10_000):
        number = 16807 * number % (2**31 - 1)
    assert number == 1_043_618_065
    # Sampling on goes on: a longer draw begins with the shorter one.
    long, short = uniforms(50, 10_001), uniforms(20, 10_001)
    np.testing.assert_array_equal(long[:20], short)
    assert abs(uniforms(4000, 7).mean() - 0.5) < 4 * (1 / 12 / 4000) ** 0.5
    sample = normals(4000, 7)
    assert abs(sample.mean()) < 4 / 4000**0.5 and abs(sample.std() - 1) < 4 / 8000**0.5
    for dimension in (2, 40):
        basis = rotation(dimension, 10_001)
        np.testing.assert_allclose(basis @ basis.T, np.eye(dimension), atol=1e-12)


def test_single_precision_keeps_its_digits_next_to_the_optimum():
    """The same float32 points and instances in both precisions; the first point is the optimum."""
    dimension = 5
    tasks = {
        f: jax.tree.map(lambda x: x.astype(np.float32), stacked(f, dimension)) for f in NUMBERS
    }
    directions = np.random.default_rng(2).standard_normal((6, dimension))
    steps = directions * np.array([0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])[:, None]
    x = {f: (tasks[f].x_opt[:, None] + steps).astype(np.float32) for f in NUMBERS}
    run = lambda x, tasks: {f: values(f, x[f], tasks[f]) for f in NUMBERS}  # noqa: E731
    single = jax.tree.map(np.asarray, jax.jit(run)(x, tasks))
    wide = jax.tree.map(lambda x: x.astype(np.float64), (x, tasks))
    with jax.enable_x64(True):
        double = jax.tree.map(np.asarray, jax.jit(run)(*wide))
    for f in NUMBERS:
        assert single[f].dtype == np.float32 and double[f].dtype == np.float64
        # The largest errors, 4e-6, are rounding magnified by rotations of rough functions.
        np.testing.assert_allclose(single[f][:, 1:], double[f][:, 1:], rtol=1e-5, err_msg=f"f{f}")
        np.testing.assert_allclose([single[f][:, 0], double[f][:, 0]], 0, atol=1e-12)


def test_a_batch_of_instances_gives_what_single_calls_give():
    dimension = 3
    x, tasks = ({f: make(f, dimension) for f in NUMBERS} for make in (points, stacked))

    def one(f, i, j):
        loss = mh.problems.bbob(f, dimension).loss
        return loss(KEY, {"x": x[f][i, j]}, jax.tree.map(lambda leaf: leaf[i], tasks[f]), ())

    with jax.enable_x64(True):
        batch = jax.jit(lambda: {f: values(f, x[f], tasks[f])[1, 3] for f in NUMBERS})()
        single = jax.jit(lambda: {f: one(f, 1, 3) for f in NUMBERS})()
    for f in NUMBERS:
        np.testing.assert_allclose(batch[f], single[f], rtol=1e-9, err_msg=f"f{f}")


# The step ellipsoid has no slope to speak of, and Katsuura's function another one everywhere.
STEPS, KINKS = 7, 23


def test_derivatives_are_those_of_the_function_and_finite_at_its_optimum():
    dimension, step = 3, 1e-8
    x = np.random.default_rng(3).uniform(-4, 4, dimension)
    tasks = {f: mh.problems.bbob_instance(f, dimension, 2) for f in NUMBERS}

    def derivatives(tasks):
        results = {}
        for f in NUMBERS:
            fn = functools.partial(FUNCTIONS[f - 1], task=tasks[f])
            slopes = jax.vmap(jax.grad(fn))(jnp.stack([x, tasks[f].x_opt]))
            steepest = slopes[0] / jnp.maximum(jnp.linalg.norm(slopes[0]), 1e-300)
            ahead, behind = jax.vmap(fn)(x + jnp.stack([step * steepest, -step * steepest]))
            results[f] = slopes, (ahead - behind) / (2 * step)
        return results

    with jax.enable_x64(True):
        results = jax.tree.map(np.asarray, jax.jit(derivatives)(tasks))
    for f, (slopes, steepest) in results.items():
        assert np.isfinite(slopes).all(), f"f{f}"
        if f == STEPS:
            assert not slopes[0].any()
        elif f != KINKS:
            length = np.linalg.norm(slopes[0])
            np.testing.assert_allclose(length, steepest, rtol=1e-4, err_msg=f"f{f}")


def test_a_search_over_many_instances_is_one_program():
    traces = []
    problem, space = mh.problems.bbob(8, 2), mh.problems.bbob_space(2)
    strategy = mh.strategies.random(space, population=4)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0))
    def run(key, task):
        traces.append(None)
        return mh.search(key, problem, space, strategy, rounds=3, steps=1, task=task)

    for instances in ([1, 2, 3], [4, 5, 6]):
        result = run(jax.random.split(KEY, 3), stacked(8, 2, instances))
        x = np.asarray(10 * result.history.unit - 5)
        expected = values(8, x.reshape(3, 12, 2), stacked(8, 2, instances))
        np.testing.assert_allclose(result.history.loss.reshape(3, 12), expected, rtol=1e-4)
    assert len(traces) == 1


def test_sampling_draws_one_of_the_fifteen_published_instances():
    tasks = jax.vmap(mh.problems.bbob(1, 2).sample)(jax.random.split(KEY, 200))
    drawn = {tuple(x) for x in np.asarray(tasks.x_opt)}
    assert drawn == {tuple(x) for x in stacked(1, 2, range(1, 16)).x_opt.astype(np.float32)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mh.problems.bbob(0, 5), r"function must be in 1 \.\.\. 24, got 0"),
        (lambda: mh.problems.bbob(25, 5), r"function must be in 1 \.\.\. 24, got 25"),
        (lambda: mh.problems.bbob(1, 1), r"dimension must be in 2 \.\.\. 1000, got 1"),
        (lambda: mh.problems.bbob_space(0), r"dimension must be in 2 \.\.\. 1000, got 0"),
        (lambda: mh.problems.bbob_instance(1, 5, 0), r"instance must be in 1 .* got 0"),
        (lambda: mh.problems.bbob_instance(1.5, 5, 1), "function must be a whole .* got 1.5"),
        (lambda: mh.problems.bbob_instance("f1", 5, 1), "function must be a whole .* got 'f1'"),
        (lambda: mh.problems.bbob_instance(1, 5, True), "instance must be a whole .* got True"),
        (lambda: evaluate_wrong_shape(), r"needs x of shape \(5,\), got \(4,\)"),
    ],
)
def test_refuses_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def evaluate_wrong_shape():
    task = mh.problems.bbob_instance(1, 5, 1)
    mh.problems.bbob(1, 5).loss(KEY, {"x": jnp.zeros(4)}, task, ())


def test_a_wider_space_holds_the_same_functions_and_a_narrower_one_is_refused():
    wide = mh.problems.bbob_space(2, 10.0)
    unit = np.full(2, 0.75)
    np.testing.assert_allclose(mh.space.decode(wide, unit)["x"], 5.0)
    with pytest.raises(ValueError, match="must be at least 5.0, got 4"):
        mh.problems.bbob_space(2, 4)
