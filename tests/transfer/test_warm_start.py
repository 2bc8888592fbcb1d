import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.transfer import warm_start

MEAN = jnp.array([0.5, 0.02, 1.0, 0.4])
STD = jnp.array([0.1, 0.3, 0.2, 0.0])


def test_population_starts_with_the_prediction_and_stays_in_the_cube():
    points = warm_start(jax.random.key(0), MEAN, STD, population=2000)
    np.testing.assert_array_equal(points[0], MEAN)
    assert points.shape == (2000, 4)
    assert (points >= 0.0).all() and (points <= 1.0).all()


def test_population_is_as_wide_as_the_uncertainty_and_never_narrower_than_the_floor():
    points = warm_start(jax.random.key(0), MEAN, STD, population=20_000, floor=0.05)
    # Normal where the faces are far; half normal at a face: std sqrt(1 - 2 / pi).
    expected = [0.1, 0.2 * (1.0 - 2.0 / np.pi) ** 0.5, 0.05]
    np.testing.assert_allclose(points.std(axis=0)[jnp.array([0, 2, 3])], expected, rtol=0.03)
    np.testing.assert_allclose(points.mean(axis=0)[jnp.array([0, 3])], [0.5, 0.4], atol=0.005)


def test_no_mass_is_piled_up_on_the_faces():
    points = warm_start(jax.random.key(0), MEAN, STD, population=2000)[1:]
    assert ((points > 0.0) & (points < 1.0)).mean() > 0.999


def test_a_population_of_one_is_the_prediction():
    points = warm_start(jax.random.key(0), jnp.array([0.5, 1.2]), jnp.zeros(2), population=1)
    np.testing.assert_allclose(points, [[0.5, 1.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"population": 0}, "population.*got 0"), ({"population": 3, "floor": 0.0}, "floor.*got 0.0")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        warm_start(jax.random.key(0), MEAN, STD, **arguments)
