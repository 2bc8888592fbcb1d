"""The convolutional networks say what a flax module with the same parameters says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.networks import calibrate, conv4


class Reference(nn.Module):
    """The same network from flax's own parts, in the order of the papers: norm, ReLU, pooling."""

    outputs: int | None
    filters: int
    layers: int
    pooling: str
    norm: str
    head: str
    padding: str

    @nn.compact
    def __call__(self, x):
        stride = 2 if self.pooling == "stride" else 1
        for i in range(self.layers):
            conv = nn.Conv(
                self.filters,
                (3, 3),
                (stride, stride),
                padding=self.padding,
                param_dtype=x.dtype,
                name=f"conv{i}",
            )
            x = conv(x)
            if self.norm == "batch":
                norm = nn.BatchNorm(False, epsilon=1e-5, param_dtype=x.dtype, name=f"norm{i}")
                x = norm(x)
            x = nn.relu(x)
            if self.pooling == "max":
                x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.mean((1, 2)) if self.head == "mean" else x.reshape(x.shape[0], -1)
        if self.outputs is None:
            return x
        return nn.Dense(self.outputs, param_dtype=x.dtype, name="head")(x)

    def says(self, params, x):
        zeros, ones = np.zeros(self.filters), np.ones(self.filters)
        stats = {f"norm{i}": {"mean": zeros, "var": ones} for i in range(self.layers)}
        variables = {"params": params, "batch_stats": stats if self.norm == "batch" else {}}
        return self.apply(variables, x, mutable=["batch_stats"])[0]


def spread(params, key):
    """Parameters without special values: biases and scales drawn too, scales of both signs."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        leaf + 0.3 * jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    drawn = jax.tree.unflatten(tree, drawn)
    for name in drawn:
        if "norm" in name:
            drawn[name]["scale"] = drawn[name]["scale"].at[0].set(-0.7)
    return drawn


def ink(key, shape):
    """Strokes on flat paper: most windows are full of equal pixels."""
    return (jax.random.uniform(key, shape) < 0.15).astype(jnp.result_type(float))


CASES = [
    {"pooling": "max", "norm": "batch", "head": "linear", "padding": "SAME"},
    {"pooling": "max", "norm": "batch", "head": "linear", "padding": "VALID"},
    {"pooling": "stride", "norm": "batch", "head": "mean", "padding": "SAME"},
    {"pooling": "stride", "norm": "none", "head": "linear", "padding": "SAME"},
    {"pooling": "max", "norm": "none", "head": "mean", "padding": "SAME"},
]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["im2col", "xla"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_outputs_and_gradients_are_those_of_flax(case, method):
    with jax.enable_x64(True):
        x = ink(jax.random.key(0), (4, 10, 11, 2))
        network = conv4(3, filters=4, layers=2, method=method, **case)
        reference = Reference(3, 4, 2, **case)
        params = spread(network.init(jax.random.key(1), x), jax.random.key(2))
        weights = jax.random.normal(jax.random.key(3), (4, 3))

        def both(says):
            return jax.jit(
                jax.value_and_grad(lambda p, x: (weights * says(p, x)).sum(), (0, 1)),
            )(params, x)

        ours, theirs = both(network.apply), both(reference.says)
        np.testing.assert_allclose(
            network.apply(params, x), reference.says(params, x), rtol=1e-12, atol=1e-12
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), ours, theirs
        )


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_the_gradient_through_an_inner_step_agrees_with_finite_differences(norm):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 5)
        x, z = jax.random.normal(keys[0], (2, 4, 6, 6, 1))
        network = conv4(3, filters=3, layers=1, norm=norm)
        params = spread(network.init(keys[1], x), keys[2])
        if norm == "frozen":
            params = calibrate(params, z)
        y = jnp.array([0, 1, 2, 0])

        def loss(params, x):
            return mh.problems.cross_entropy(network.apply(params, x), y)

        def outer(params):
            grads = jax.grad(loss)(params, x)
            return loss(jax.tree.map(lambda p, g: p - 0.4 * g, params, grads), z)

        run = jax.jit(outer)
        grad = jax.jit(jax.grad(outer))(params)
        for name, part in [("conv0", "kernel"), ("norm0", "scale"), ("head", "kernel")]:
            way = jax.random.normal(keys[3], params[name][part].shape)

            def moved(by, name=name, part=part, way=way):
                return {**params, name: {**params[name], part: params[name][part] + by * way}}

            difference = (run(moved(1e-6)) - run(moved(-1e-6))) / 2e-6
            np.testing.assert_allclose((grad[name][part] * way).sum(), difference, rtol=1e-6)


def test_methods_agree_on_a_meta_gradient_under_vmap():
    with jax.enable_x64(True):
        x = ink(jax.random.key(0), (2, 2, 6, 8, 8, 1))
        y = jnp.arange(6) % 3

        def grad(method):
            network = conv4(3, filters=3, layers=2, method=method)
            params = network.init(jax.random.key(1), x[0, 0])

            def outer(params, support, query):
                def loss(params, x):
                    return mh.problems.cross_entropy(network.apply(params, x), y)

                inner = jax.grad(loss)(params, support)
                return loss(jax.tree.map(lambda p, g: p - 0.4 * g, params, inner), query)

            run = jax.vmap(jax.grad(outer), (None, 0, 0))
            return jax.jit(run)(params, x[0], x[1])

        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
            grad("im2col"),
            grad("xla"),
        )


def test_the_published_sizes_come_out():
    def sizes(x, **options):
        network = conv4(**options)
        params = jax.eval_shape(network.init, jax.random.key(0), x)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        return jax.eval_shape(network.apply, params, x).shape, count

    x = jnp.zeros((2, 28, 28, 1))
    blocks = 9 * 64 + 3 * 9 * 64 * 64 + 4 * 3 * 64  # kernels; biases, scales and shifts
    assert sizes(x, outputs=None) == ((2, 64), blocks)
    assert sizes(x, outputs=5) == ((2, 5), blocks + 5 * 65)
    assert sizes(x, outputs=5, pooling="stride") == ((2, 5), blocks + 5 * 65)
    assert sizes(jnp.zeros((2, 84, 84, 3)), outputs=None)[0] == (2, 1600)
    # 28 -> 26 -> 13 -> 11 -> 5 -> 3 -> 1 pixel without padding.
    three = blocks - 9 * 64 * 64 - 3 * 64
    assert sizes(x, outputs=5, layers=3, padding="VALID") == ((2, 5), three + 5 * 65)


@pytest.mark.slow
def test_a_calibrated_network_says_of_the_batch_what_batch_norm_says_and_sees_images_alone():
    with jax.enable_x64(True):
        x = ink(jax.random.key(0), (12, 9, 9, 1))
        options = {"filters": 4, "layers": 2}
        batch, frozen = conv4(3, **options), conv4(3, norm="frozen", **options)
        params = spread(batch.init(jax.random.key(1), x), jax.random.key(2))
        fitted = calibrate(params, x)
        together = frozen.apply(fitted, x)
        np.testing.assert_allclose(together, batch.apply(params, x), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(frozen.apply(fitted, x[:1]), together[:1], rtol=1e-12)
        assert not np.allclose(batch.apply(params, x[:1]), together[:1], atol=1e-3)
        # The first layer's, by hand; and the other parameters stay.
        first = jax.lax.conv_general_dilated(
            x, params["conv0"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        first = np.asarray(first + params["conv0"]["bias"])
        np.testing.assert_allclose(fitted["norm0"]["mean"], first.mean((0, 1, 2)), atol=1e-12)
        np.testing.assert_allclose(fitted["norm0"]["variance"], first.var((0, 1, 2)), atol=1e-12)
        np.testing.assert_array_equal(fitted["conv1"]["kernel"], params["conv1"]["kernel"])


def test_frozen_statistics_are_parameters_without_a_gradient():
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
    network = conv4(2, filters=3, layers=1, norm="frozen")
    params = network.init(jax.random.key(1), x)
    assert set(params["norm0"]) == {"scale", "bias", "mean", "variance"}
    grad = jax.grad(lambda p: (network.apply(p, x) ** 2).sum())(params)
    assert not grad["norm0"]["mean"].any() and not grad["norm0"]["variance"].any()
    assert grad["norm0"]["scale"].any() and grad["conv0"]["bias"].any()


def test_initial_kernels_are_glorot_uniform_and_keys_are_used_once():
    network = conv4(5, filters=64, layers=2)
    params = network.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    bound = np.sqrt(6 / (9 * 64 + 9 * 64))
    kernel = np.asarray(params["conv1"]["kernel"])
    assert 0.99 * bound < kernel.max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert (
        abs(np.corrcoef(kernel.ravel()[:500], params["head"]["kernel"].ravel()[:500])[0, 1]) < 0.2
    )


def test_f32_images_make_f32_parameters_and_outputs_in_either_mode():
    with jax.enable_x64(True):
        x = jnp.zeros((2, 8, 8, 1), jnp.float32)
        network = conv4(2, filters=3, layers=2, norm="frozen")
        params = network.init(jax.random.key(0), x)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        assert network.apply(params, x).dtype == jnp.float32


def test_maps_are_what_a_linear_head_sees_pixel_by_pixel():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    flat, maps = conv4(None, 3, layers=2), conv4(None, 3, layers=2, head="maps")
    params = maps.init(jax.random.key(1), x)
    assert maps.apply(params, x).shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(maps.apply(params, x).reshape(2, -1), flat.apply(params, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 0}, "outputs must be a whole number of at least 1, got 0"),
        ({"filters": 0}, "filters must be a whole number of at least 1, got 0"),
        ({"layers": 0}, "layers must be a whole number of at least 1, got 0"),
        ({"pooling": "mean"}, "pooling must be one of"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"head": "dense"}, "head must be one of"),
        ({"head": "maps"}, r"maps are what an encoder returns .* got 5 outputs"),
        ({"padding": "FULL"}, "padding must be one of"),
        ({"method": "fft"}, "method must be one of"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        conv4(**{"outputs": 5, **options})


def test_wrong_images_and_parameters_are_refused():
    network = conv4(2, filters=3)
    for x in (jnp.zeros((28, 28, 1)), jnp.zeros((1, 28, 28, 1), jnp.uint8)):
        with pytest.raises(ValueError, match="images must be f"):
            network.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"at least 2 x 2, got \(1, 1\)"):
        network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    bare = conv4(2, filters=3, layers=1, norm="none").init(
        jax.random.key(0), jnp.zeros((1, 4, 4, 1))
    )
    with pytest.raises(ValueError, match="normalisation"):
        calibrate(bare, jnp.zeros((1, 4, 4, 1)))
