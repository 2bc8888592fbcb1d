"""Flax's convolutions by matrix products: equal numbers and gradients, and only plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import lax

import metahpo as mh
from metahpo.networks import flax_convolution as fast

LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("strides", "padding"),
    [((1, 1), "SAME"), ((2, 2), "VALID"), ((1, 1), ((1, 0), (2, 1))), ((1, 1), ((-1, 0), (0, 0)))],
)
def test_value_and_derivatives_are_those_of_lax(strides, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 6, 3)), rng.normal(size=(3, 3, 3, 4))

    def both(convolution):
        def score(x, kernel):
            out = convolution(x, kernel, strides, padding, dimension_numbers=LAYOUT)
            return (out**2).sum(), out

        return jax.jit(jax.value_and_grad(score, (0, 1), has_aux=True))(x, kernel)

    wanted, got = both(jax.lax.conv_general_dilated), both(fast.dilated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, wanted)


def is_lax(*args, **options):
    jaxpr = jax.make_jaxpr(lambda x, k: fast.dilated(x, k, *args, **options))(
        jnp.ones((1, 4, 4, 4)), jnp.ones((4, 4, 4, 4))
    )
    return "conv_general_dilated" in str(jaxpr)


def test_only_plain_convolutions_are_replaced(monkeypatch):
    plain = {"dimension_numbers": LAYOUT}
    assert not is_lax((1, 1), "SAME", **plain)
    assert is_lax((1, 2), "SAME", **plain)
    assert is_lax((1, 1), ((1, 1), (1, 1)), (2, 2), **plain)
    assert is_lax((1, 1), "SAME", None, (2, 2), **plain)
    assert is_lax((1, 1), "SAME", precision="highest", **plain)
    assert is_lax((1, 1), "SAME")  # channels first
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert is_lax((1, 1), "SAME", **plain)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), strides=2, rngs=rngs, param_dtype=jnp.float64)
        self.own = nnx.Conv(
            3, 2, (3, 3), rngs=rngs, param_dtype=jnp.float64,
            conv_general_dilated=lambda *args, **more: lax.conv_general_dilated(*args, **more),
        )  # fmt: skip

    def __call__(self, x):
        return self.own(nnx.relu(self.conv(x))).mean((1, 2))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Conv(2, (3, 3), param_dtype=jnp.float64)(x).mean((1, 2))


def convolutions(problem, data):
    jaxpr = jax.make_jaxpr(mh.inner.unroll(problem, 1))(jax.random.key(0), {"rate": 0.1}, data)
    return str(jaxpr).count("conv_general_dilated")


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_the_adapters_train_as_flax_does(kind):
    rng = np.random.default_rng(1)
    data = mh.problems.split(rng.normal(size=(9, 6, 6, 1)), rng.normal(size=(9, 2)), 4, 4)
    sgd = lambda h: optax.sgd(h["rate"])  # noqa: E731
    if kind == "nnx":
        loss = lambda model, b: ((model(b.x) - b.y) ** 2).mean()  # noqa: E731
        problem = mh.problems.nnx(Network, loss, data, sgd)
        model = Network(nnx.Rngs(0))
        graph, start, rest = nnx.split(model, nnx.Param, ...)
        apply = lambda p, x: nnx.merge(graph, p, rest)(x)  # noqa: E731
        state = problem.init(jax.random.key(0), {"rate": 0.1}, data)
        state = state._replace(params=nnx.to_pure_dict(start))
    else:
        problem = mh.problems.linen(Linen(), lambda out, y: ((out - y) ** 2).mean(), data, sgd)
        state = problem.init(jax.random.key(0), {"rate": 0.1}, data)
        start = state.params
        apply = lambda p, x: Linen().apply({"params": p}, x)  # noqa: E731
    mean = lambda p: ((apply(p, data.support.x) - data.support.y) ** 2).mean()  # noqa: E731
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, start, jax.grad(mean)(start))
    got = problem.step(jax.random.key(1), {"rate": 0.1}, data, state).params
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)  # noqa: E731
    jax.tree.map(close, jax.tree.leaves(got), jax.tree.leaves(wanted))
    # The layer with a function of its own keeps it: forward, and backward for inputs and weights.
    assert (convolutions(problem, data) > 0) == (kind == "nnx")
