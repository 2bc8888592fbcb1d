"""Convolutions by matrix products and max-pooling agree with XLA's own, derivatives included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.networks import convolve, max_pool

pytestmark = pytest.mark.versions

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def by_lax(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS
    )


def pooled_by_lax(x):
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("method", "stride"),
    [("im2col", 1), ("im2col", 2), ("xla", 1), ("xla", 2), ("winograd", 1)],
)
def test_a_convolution_and_its_gradients_are_those_of_lax(method, padding, stride):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, 7, 6, 3), jnp.float64)
        kernel = jax.random.normal(keys[1], (3, 3, 3, 4), jnp.float64)
        weights = jax.random.normal(keys[2], (2, 7, 6, 4), jnp.float64)

        def with_gradients(fn):
            def both(x, kernel):
                out, pull = jax.vjp(fn, x, kernel)
                return out, pull(weights[:, : out.shape[1], : out.shape[2]])

            return jax.jit(both)(x, kernel)

        ours = with_gradients(lambda x, k: convolve(x, k, stride, padding, method))
        theirs = with_gradients(lambda x, k: by_lax(x, k, stride, padding))
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (5, 6), (8, 3)])
def test_winograd_reaches_every_output_of_even_and_odd_sizes(shape):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (2, *shape, 3), jnp.float64)
        kernel = jax.random.normal(keys[1], (3, 3, 3, 2), jnp.float64)
        found = convolve(x, kernel, padding="VALID", method="winograd")
        np.testing.assert_allclose(found, by_lax(x, kernel, 1, "VALID"), rtol=1e-12, atol=1e-12)


def test_second_derivatives_by_winograd_are_those_of_lax():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        x = jax.random.normal(keys[0], (2, 5, 6, 3), jnp.float64)
        kernel = jax.random.normal(keys[1], (3, 3, 3, 2), jnp.float64)
        along = tuple(
            jax.random.normal(k, z.shape) for k, z in zip(keys[2:], (x, kernel), strict=True)
        )

        def product(fn):
            grad = jax.grad(lambda x, kernel: jnp.sin(fn(x, kernel)).sum(), argnums=(0, 1))
            reverse = jax.vjp(grad, x, kernel)[1](along)  # of both orders
            return reverse, jax.jvp(grad, (x, kernel), along)[1]

        ours = product(lambda x, k: convolve(x, k, method="winograd"))
        theirs = product(lambda x, k: by_lax(x, k, 1, "SAME"))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA's own are taken")
@pytest.mark.parametrize(
    ("side", "channels", "stride", "dtype", "expected"),
    [
        (7, 32, 1, "float32", "winograd"),
        (6, 32, 1, "float32", "im2col"),
        (7, 31, 1, "float32", "im2col"),
        (14, 32, 2, "float32", "im2col"),
        (7, 32, 1, "bfloat16", "im2col"),
        (7, 32, 1, "int32", "im2col"),
    ],
)
def test_auto_takes_winograd_where_there_is_much_to_save(side, channels, stride, dtype, expected):
    x = jnp.ones((1, side, side, channels), dtype)
    kernel = jnp.ones((3, 3, channels, 32), dtype)

    def program(method):
        return str(jax.make_jaxpr(lambda x: convolve(x, kernel, stride, method=method))(x))

    assert program("auto") == program(expected)
    other = "im2col" if expected == "winograd" else "xla"
    assert program("auto") != program(other)


def test_winograd_refuses_what_it_cannot_do():
    x = jnp.ones((1, 9, 9, 1))
    with pytest.raises(
        ValueError, match=r"filters of 3 x 3 and stride 1, got \(3, 3\) and stride=2"
    ):
        convolve(x, jnp.ones((3, 3, 1, 1)), stride=2, method="winograd")
    with pytest.raises(ValueError, match=r"got \(5, 3\) and stride=1"):
        convolve(x, jnp.ones((5, 3, 1, 1)), method="winograd")


@pytest.mark.parametrize("method", ["im2col", "winograd"])
def test_kernels_of_their_own_under_vmap_equal_one_convolution_after_another(method):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (3, 2, 5, 5, 1))
    kernels = jax.random.normal(keys[1], (3, 3, 3, 1, 4))
    batched = jax.vmap(lambda x, k: convolve(x, k, method=method))(x, kernels)
    for i in range(3):
        expected = by_lax(x[i], kernels[i], 1, "SAME")
        np.testing.assert_allclose(batched[i], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 7, 5, 3), (1, 2, 2, 1)])
def test_pooling_and_its_gradient_are_those_of_reduce_window_with_ties_too(shape):
    # Whole numbers between 0 and 2: nearly every window has ties, many are flat.
    x = jax.random.randint(jax.random.key(0), shape, 0, 3).astype(jnp.float32)
    expected, pull = jax.vjp(pooled_by_lax, x)
    found, pull_found = jax.vjp(max_pool, x)
    np.testing.assert_array_equal(found, expected)
    weights = jax.random.normal(jax.random.key(1), expected.shape)
    np.testing.assert_array_equal(pull_found(weights)[0], pull(weights)[0])


def test_of_equal_values_the_first_gets_the_whole_gradient():
    grad = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((1, 2, 4, 1)))
    np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_compiled_together_with_what_it_pools_its_gradient_stays_that_of_reduce_window():
    # A compiler may compute the pooled values twice and round them differently: where the choice
    # is a comparison with the maximum, no pixel of a window may then be found equal to it.
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.uniform(keys[0], (9, 16, 16, 1))
    kernel = jax.random.normal(keys[1], (3, 3, 1, 8))
    weights = jax.random.normal(keys[2], (9, 8, 8, 8))

    def gradient(pool):
        def loss(kernel):
            y = convolve(x, kernel, method="im2col")
            y = (y - y.mean((0, 1, 2))) * jax.lax.rsqrt(y.var((0, 1, 2)) + 1e-5) * 1.3
            return (weights * pool(y)).sum()

        return jax.jit(jax.grad(loss))(kernel)

    np.testing.assert_allclose(gradient(max_pool), gradient(pooled_by_lax), rtol=1e-4, atol=1e-3)


def test_pooling_by_another_order_takes_the_smallest_where_the_order_is_reversed():
    x = jnp.array([[3.0, -1.0], [2.0, 5.0]]).reshape(1, 2, 2, 1)
    assert max_pool(x, order=-x).item() == -1.0
    grad = jax.grad(lambda x: max_pool(x, order=-x).sum())(x)
    np.testing.assert_array_equal(grad.ravel(), [0, 1, 0, 0])


@pytest.mark.parametrize("place", range(4))
def test_what_is_not_a_number_is_never_pooled_away(place):
    x = jnp.arange(4.0).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x)).all()


def test_images_that_are_too_small_and_unknown_names_are_refused():
    x, kernel = jnp.zeros((1, 2, 9, 1)), jnp.zeros((3, 3, 1, 1))
    with pytest.raises(ValueError, match=r"\(3, 3\) needs larger images than \(2, 9\)"):
        convolve(x, kernel, padding="VALID")
    with pytest.raises(ValueError, match=r"at least 2 x 2, got \(1, 9\)"):
        max_pool(x[:, :1])
    with pytest.raises(ValueError, match="method must be one of .* got 'fft'"):
        convolve(x, kernel, method="fft")
    with pytest.raises(ValueError, match="padding must be one of .* got 'same'"):
        convolve(x, kernel, padding="same")
