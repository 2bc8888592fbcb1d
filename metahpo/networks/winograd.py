"""Convolutions of 3 x 3 with four ninths of the multiplications (Winograd's minimal filtering).

Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", their F(2 x 2,
3 x 3).  Two neighbouring outputs of a filter of three taps need four products in place of six, so
a tile of 2 x 2 outputs needs 16 in place of 36; images, filters and outputs are sums and
differences of few neighbours.  All of it is linear in the images and in the filters, so that
derivatives of every order are of the same form.
"""

from typing import TypeAlias

import chex
import jax
import jax.numpy as jnp

Four: TypeAlias = tuple[chex.Array, chex.Array, chex.Array, chex.Array]


@jax.jit  # traced once for all layers and steps of the same shapes
def winograd(x: chex.Array, kernel: chex.Array) -> chex.Array:
    """Cross-correlation without padding and with stride 1.

    Args:
        x: ``f[n, height, width, channels]``, of at least 3 x 3 pixels.
        kernel: ``f[3, 3, channels, filters]``.

    Returns:
        ``f[n, height - 2, width - 2, filters]``.
    """
    n, channels, filters = x.shape[0], x.shape[-1], kernel.shape[-1]
    rows, columns = x.shape[1] - 2, x.shape[2] - 2
    tiles = n, (rows + 1) // 2, (columns + 1) // 2
    x = jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))

    def product(x: chex.Array, kernel: chex.Array) -> chex.Array:
        return (x.reshape(-1, channels) @ kernel).reshape(*tiles, filters)

    # Sixteen products rather than a batched one: their factors and results need not be stacked.
    products = [
        tuple(map(product, _of_images(row, axis=2), _of_filters(taps)))
        for row, taps in zip(_of_images(x, axis=1), _of_filters(kernel), strict=True)
    ]
    upper, lower = zip(
        *(_of_outputs(column) for column in zip(*products, strict=True)), strict=True
    )
    both = [jnp.stack(_of_outputs(row), axis=3) for row in (upper, lower)]
    out = jnp.stack(both, axis=2).reshape(n, 2 * tiles[1], 2 * tiles[2], filters)
    return out[:, :rows, :columns]


def _of_images(x: chex.Array, axis: int) -> Four:
    """What is multiplied of every four neighbours, from one pair of outputs to the next."""
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    # A transposed split is a concatenation, which is faster than a transposed strided slice.
    even, odd = (
        half.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
        for half in jax.lax.split(pairs, (1, 1), axis + 1)
    )
    last = even.shape[axis]
    a, c = (jax.lax.slice_in_dim(even, i, last - 1 + i, axis=axis) for i in (0, 1))
    b, d = (jax.lax.slice_in_dim(odd, i, last - 1 + i, axis=axis) for i in (0, 1))
    return a - c, b + c, c - b, b - d


def _of_filters(taps: chex.Array) -> Four:
    """What it is multiplied by, of the three taps along the first axis."""
    a, b, c = taps
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_outputs(products: Four) -> tuple[chex.Array, chex.Array]:
    """Two neighbouring outputs."""
    a, b, c, d = products
    return a + b + c, b - c - d
