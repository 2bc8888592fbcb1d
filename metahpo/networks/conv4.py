"""The convolutional networks of few-shot image classification."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Network, Params
from metahpo.networks import convolution
from metahpo.networks.convolution import METHODS, PADDINGS, Method, Padding, check, convolve

Pooling = Literal["max", "stride"]
Norm = Literal["batch", "frozen", "none"]
Head = Literal["linear", "mean", "maps"]

EPSILON = 1e-5  # added to variances, as PyTorch does; MAML's code has 1e-3


class _Layout(NamedTuple):
    """What is static of such a network."""

    outputs: int | None
    filters: int
    layers: int
    pooling: Pooling
    norm: Norm
    head: Head
    padding: Padding
    method: Method


def conv4(
    outputs: int | None,
    filters: int = 64,
    *,
    layers: int = 4,
    pooling: Pooling = "max",
    norm: Norm = "batch",
    head: Head | None = None,
    padding: Padding = "SAME",
    method: Method = "auto",
) -> Network:
    """Blocks of 3 x 3 convolution, batch normalisation, ReLU and halving of the image.

    With four layers of 64 filters it is the network of matching networks (Vinyals et al. 2016,
    section 4.1.1) and their successors: with ``pooling="max"`` that of prototypical networks and
    MAML++ (28 x 28 pixels become 64 numbers), with ``pooling="stride"`` that of MAML on Omniglot
    (Finn et al. 2017, section 5.2).

    Normalisation uses the statistics of the images that it sees together (``"batch"``), so an
    output depends on all of them; ``calibrate`` turns its parameters into those of
    ``norm="frozen"``, which sees every image alone.

    Args:
        outputs: classes; ``None`` for an encoder, which returns what its head would see.
        filters: of every layer.
        layers: number of blocks.
        pooling: ``"max"`` (windows of 2 x 2) or ``"stride"`` (convolutions of stride 2).
        norm: ``"batch"``, ``"frozen"`` or ``"none"``.
        head: ``"linear"`` sees the last layer pixel by pixel, ``"mean"`` its mean over the pixels;
            by default ``"linear"`` after max-pooling and ``"mean"`` after strides, as the papers;
            ``"maps"`` leaves an encoder's as they are.
        padding: of the convolutions, ``"SAME"`` or ``"VALID"`` (none).
        method: how convolutions are computed, see ``convolution.convolve``.

    Returns:
        A Network of images ``f[n, height, width, channels]`` to ``f[n, outputs]``, ``f[n, e]``
        or, of ``"maps"``, ``f[n, h, w, filters]``.
        Parameters: ``{"conv0": {"kernel", "bias"}, "norm0": {"scale", "bias"}, ..., "head":
        {"kernel", "bias"}}``, and ``mean`` and ``variance`` in ``"norm0"`` ... of a frozen one,
        whose gradient is zero.  Kernels start from Glorot's uniform distribution as in MAML's code
        (the head's too), biases at 0, scales at 1.  A bias under ``norm="batch"`` has no effect,
        for the batch's mean contains it as well: it is not added and its gradient is zero.

    Raises:
        ValueError: for sizes below 1, unknown names and ``"maps"`` with outputs; when called, for
            images of another rank or with fewer pixels than the layers need.

    Example:
        >>> network = conv4(outputs=5, filters=8)
        >>> images = jnp.zeros((3, 28, 28, 1))
        >>> params = jax.jit(network.init)(jax.random.key(0), images)
        >>> jax.jit(network.apply)(params, images).shape
        (3, 5)
    """
    filters, layers = checks.counts(filters=filters, layers=layers)
    outputs = None if outputs is None else checks.whole("outputs", outputs)
    if head is None:
        head = "linear" if pooling == "max" else "mean"
    check("pooling", pooling, ("max", "stride"))
    check("norm", norm, ("batch", "frozen", "none"))
    check("head", head, ("linear", "mean", "maps"))
    if head == "maps" and outputs is not None:
        raise ValueError(f"maps are what an encoder returns (outputs=None), got {outputs} outputs")
    check("padding", padding, PADDINGS)
    check("method", method, METHODS)
    layout = _Layout(outputs, filters, layers, pooling, norm, head, padding, method)

    def init(key: Key, x: chex.Array) -> Params:
        return _init(key, x, layout)

    def apply(params: Params, x: chex.Array) -> chex.Array:
        x = _body(params, x, layout, _normalize)
        return x @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else x

    return Network(init, apply)


def calibrate(
    params: Params,
    x: chex.Array,
    *,
    pooling: Pooling = "max",
    padding: Padding = "SAME",
    method: Method = "auto",
) -> Params:
    """Sets the means and variances of a network with ``norm="frozen"`` to those of a batch.

    Args:
        params: of ``conv4`` with ``norm="batch"`` or ``"frozen"``; not changed.
        x: images ``f[n, height, width, channels]``, as many as represent all there are: statistics
            are over the whole batch, layer after layer.
        pooling: as in ``conv4``.
        padding: as in ``conv4``.
        method: as in ``conv4``.

    Returns:
        Parameters for ``norm="frozen"``, with which it says of ``x`` what ``norm="batch"`` says.

    Raises:
        ValueError: for unknown names and parameters without normalisation.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (20, 8, 8, 1))
        >>> params = jax.jit(conv4(None, filters=4, layers=2).init)(jax.random.key(1), x)
        >>> frozen = conv4(None, filters=4, layers=2, norm="frozen")
        >>> jax.jit(frozen.apply)(jax.jit(calibrate)(params, x), x[:1]).shape
        (1, 16)
    """
    layers = sum(name.startswith("conv") for name in params)
    if not layers or f"norm{layers - 1}" not in params:
        raise ValueError(f"only networks with normalisation have statistics, got {sorted(params)}")
    check("pooling", pooling, ("max", "stride"))
    layout = _Layout(None, 0, layers, pooling, "frozen", "linear", padding, method)
    found = dict(params)

    def measured(name: str, norm: Params, x: chex.Array) -> Params:
        mean, variance = _statistics(x)
        found[name] = {**norm, "mean": mean, "variance": variance}
        return found[name]

    _body(params, x, layout, lambda name, norm, x: _normalize(name, measured(name, norm, x), x))
    return found


Affine = tuple[chex.Array, chex.Array, chex.Array]
Normalize = Callable[[str, Any, chex.Array], Affine]


def _init(key: Key, x: chex.Array, layout: _Layout) -> Params:
    keys = jax.random.split(key, layout.layers + 1)
    glorot = jax.nn.initializers.glorot_uniform()
    channels, dtype = _check_images(x)
    zeros, ones = jnp.zeros(layout.filters, dtype), jnp.ones(layout.filters, dtype)
    params: dict[str, dict[str, chex.Array]] = {}
    for i in range(layout.layers):
        kernel = glorot(keys[i], (3, 3, channels, layout.filters), dtype)
        params[f"conv{i}"] = {"kernel": kernel, "bias": zeros}
        if layout.norm != "none":
            params[f"norm{i}"] = {"scale": ones, "bias": zeros}
        if layout.norm == "frozen":
            params[f"norm{i}"] |= {"mean": zeros, "variance": ones}
        channels = layout.filters
    if layout.outputs is not None:
        shape = jax.eval_shape(lambda p, x: _body(p, x, layout, _normalize), params, x).shape
        kernel = glorot(keys[-1], (shape[-1], layout.outputs), dtype)
        params["head"] = {"kernel": kernel, "bias": jnp.zeros(layout.outputs, dtype)}
    return params


def _body(params: Params, x: chex.Array, layout: _Layout, normalize: Normalize) -> chex.Array:
    """All but the last dense layer: ``f[n, e]``, or maps."""
    _check_images(x)
    stride = 2 if layout.pooling == "stride" else 1
    for i in range(layout.layers):
        kernel, bias = params[f"conv{i}"]["kernel"], params[f"conv{i}"]["bias"]
        x = convolve(x, kernel, stride, layout.padding, layout.method)
        if layout.norm != "batch":
            x = x + bias
        mean, scale, shift = jnp.zeros((), x.dtype), jnp.ones((), x.dtype), jnp.zeros((), x.dtype)
        if layout.norm != "none":
            mean, scale, shift = normalize(f"norm{i}", params[f"norm{i}"], x)
        if layout.pooling == "max":
            # Pooling first leaves a quarter of the pixels to scale and to clip; where the scale is
            # negative the smallest value becomes the largest.
            x = convolution.max_pool(x, order=x * jnp.where(scale < 0, -1, 1).astype(x.dtype))
        x = jax.nn.relu((x - mean) * scale + shift)
    if layout.head == "maps":
        return x
    return x.mean((1, 2)) if layout.head == "mean" else x.reshape(x.shape[0], -1)


def _normalize(name: str, norm: Params, x: chex.Array) -> Affine:
    """What to take away from every channel, the factor, and what to add then."""
    del name
    if "mean" in norm:
        mean, variance = jax.lax.stop_gradient((norm["mean"], norm["variance"]))
    else:
        mean, variance = _statistics(x)
    return mean, norm["scale"] * jax.lax.rsqrt(variance + EPSILON), norm["bias"]


def _statistics(x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Mean and variance of every channel, over all pixels of all images."""
    mean = x.mean((0, 1, 2))
    return mean, jnp.square(x - mean).mean((0, 1, 2))


def _check_images(x: chex.Array) -> tuple[int, Any]:
    """The number of channels and the type of images, which must be floats."""
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"images must be f[n, height, width, channels], got shape {x.shape}, dtype {x.dtype}"
        )
    return x.shape[-1], x.dtype
