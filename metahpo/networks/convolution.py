"""Convolutions that stay fast when every task has its own weights, and max-pooling.

Under ``vmap`` over kernels XLA's convolution becomes a grouped one, whose derivatives are slow, and
in a loop on a CPU those of an ordinary one are slow too.  Matrix products, of patches or of
Winograd's sums, have neither trouble; ``benchmarks.few_shot`` has the figures.
"""

import math
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from metahpo.networks.winograd import winograd

Padding = Literal["SAME", "VALID"]
Method = Literal["auto", "im2col", "winograd", "xla"]
_EXACT_ENOUGH = (jnp.float32, jnp.float64)  # for the sums of "winograd"
PADDINGS, METHODS = ("SAME", "VALID"), ("auto", "im2col", "winograd", "xla")


def convolve(
    x: chex.Array,
    kernel: chex.Array,
    stride: int = 1,
    padding: Padding = "SAME",
    method: Method = "auto",
) -> chex.Array:
    """Cross-correlation of images with small filters, as ``lax.conv_general_dilated``.

    Args:
        x: ``f[n, height, width, channels]``.
        kernel: ``f[rows, columns, channels, filters]``.
        stride: in both directions.
        padding: ``"SAME"`` or ``"VALID"``, as in ``lax``.
        method: ``"xla"``; ``"im2col"`` (patches and one matrix product); ``"winograd"`` (16 matrix
            products with four ninths of the multiplications, for 3 x 3 filters and stride 1, with
            a few more roundings); or ``"auto"``: where JAX's default backend is a CPU,
            ``"winograd"`` from 32 channels, 32 filters and 7 x 7 outputs on, in f32 and f64, else
            ``"im2col"``; ``"xla"`` elsewhere.

    Returns:
        ``f[n, height', width', filters]``.

    Raises:
        ValueError: for an unknown padding or method, images without an output, and ``"winograd"``
            with another stride or window.

    Example:
        >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
        >>> jax.jit(lambda x: convolve(x, kernel, padding="VALID"))(images)[0, 0, 0]
        Array([9.], dtype=float32)
    """
    check("padding", padding, PADDINGS)
    check("method", method, METHODS)
    pads = [_pads(x.shape[1 + i], kernel.shape[i], stride, padding) for i in (0, 1)]
    sizes = [(x.shape[1 + i] + sum(pads[i]) - kernel.shape[i]) // stride + 1 for i in (0, 1)]
    if min(sizes) < 1:
        raise ValueError(
            f"a filter of {kernel.shape[:2]} needs larger images than {x.shape[1:3]}"
            f" with {padding=}"
        )
    if method == "auto":
        method = _fastest(x, kernel, sizes, stride)
    if method == "xla":
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=layout
        )
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if method == "winograd":
        if not _minimal(kernel, stride):
            raise ValueError(
                "winograd needs filters of 3 x 3 and stride 1, got"
                f" {kernel.shape[:2]} and {stride=}"
            )
        return winograd(x, kernel)
    patches = _patches(x, kernel.shape[:2], sizes, stride)
    # Two axes rather than four: XLA then has a plain product, also in the derivatives.
    flat = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(*patches.shape[:-1], kernel.shape[-1])


def max_pool(x: chex.Array, order: chex.Array | None = None) -> chex.Array:
    """The largest value of each window of 2 x 2; a last odd row or column is left out.

    Of equal values the first in reading order counts and gets the whole gradient, as in the
    derivative of ``lax.reduce_window``.  Values are compared with each other and never with
    their maximum, because a compiler may round two computations of one value differently.

    Args:
        x: ``f[n, height, width, channels]``.
        order: of the same shape, chooses in place of ``x``; has no gradient.

    Returns:
        ``f[n, height // 2, width // 2, channels]``.

    Raises:
        ValueError: for images of fewer than 2 x 2 pixels.

    Example:
        >>> jax.jit(max_pool)(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    if min(x.shape[1:3]) < 2:
        raise ValueError(f"windows of 2 x 2 need images of at least 2 x 2, got {x.shape[1:3]}")
    n, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    both = x, jax.lax.stop_gradient(x if order is None else order)
    both = tuple(z[:, : 2 * rows, : 2 * columns] for z in both)
    # Columns first: the winners of two rows are then compared in reading order.
    both = _better_of_two(both, (n, 2 * rows, columns, 2, channels), axis=3)
    both = _better_of_two(both, (n, rows, 2, columns, channels), axis=2)
    return both[0].reshape(n, rows, columns, channels)


def check(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuses a name that is not known."""
    if value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}")


def _fastest(x: chex.Array, kernel: chex.Array, sizes: list[int], stride: int) -> Method:
    """Measured on a CPU: Winograd's sums cost more than they save where there is little to save."""
    if jax.default_backend() != "cpu":
        return "xla"
    worth = min(kernel.shape[2:]) >= 32 and min(sizes) >= 7 and x.dtype in _EXACT_ENOUGH
    return "winograd" if worth and _minimal(kernel, stride) else "im2col"


def _minimal(kernel: chex.Array, stride: int) -> bool:
    return kernel.shape[:2] == (3, 3) and stride == 1


def _pads(size: int, taps: int, stride: int, padding: Padding) -> tuple[int, int]:
    if padding == "VALID":
        return 0, 0
    missing = max((math.ceil(size / stride) - 1) * stride + taps - size, 0)
    return missing // 2, missing - missing // 2


def _patches(x: chex.Array, window: tuple[int, int], sizes: list[int], stride: int) -> chex.Array:
    """``f[n, height', width', rows * columns * channels]``."""
    rows, columns = ((size - 1) * stride + 1 for size in sizes)
    shifted = [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(window[0])
        for j in range(window[1])
    ]
    return jnp.concatenate(shifted, axis=-1)


Both = tuple[chex.Array, ...]


def _better_of_two(both: Both, shape: tuple[int, ...], axis: int) -> Both:
    """Of neighbours along an axis of length 2 that with the larger order; the first of equals.

    ``lax.split`` has concatenation for its transpose, several times faster than the padded sum of
    strided slices.  An order that is not a number wins, so that it is seen in the output.
    """
    (a, b), (p, q) = (jax.lax.split(z.reshape(shape), (1, 1), axis) for z in both)
    second = (q > p) | (q != q)
    return jnp.where(second, b, a), jnp.where(second, q, p)
