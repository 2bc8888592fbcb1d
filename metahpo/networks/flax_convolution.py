"""The convolutions of flax modules by those that stay fast under ``vmap``."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import chex
import jax
from flax import linen as nn

from metahpo.networks.convolution import PADDINGS, convolve

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def dilated(
    lhs: chex.Array,
    rhs: chex.Array,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    **more: Any,
) -> chex.Array:
    """``jax.lax.conv_general_dilated``, on a CPU as matrix products where it is a plain one.

    Plain is two-dimensional, of channels last, with one stride and without dilation, groups or a
    precision of its own.  The results are equal up to rounding.
    """
    numbers = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    plain = (
        lhs.ndim == 4
        and numbers == jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT)
        and len(set(window_strides)) == 1
        and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
        and feature_group_count == batch_group_count == 1
        and precision is None
        and preferred_element_type in (None, lhs.dtype)
        and lhs.dtype == rhs.dtype
        and (isinstance(padding, str) or all(min(pair) >= 0 for pair in padding))
        and (not isinstance(padding, str) or padding.upper() in PADDINGS)
        and not any(value is not None for value in more.values())
    )
    if not plain or jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
            **more,
        )
    if not isinstance(padding, str):
        lhs, padding = jax.numpy.pad(lhs, ((0, 0), *padding, (0, 0))), "VALID"
    return convolve(lhs, rhs, window_strides[0], padding.upper())


def with_fast_convolutions(module: Any) -> Any:
    """An NNX module whose ``nnx.Conv`` layers, where they have no function of their own, use it."""
    from flax import nnx

    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Conv) and node.conv_general_dilated is jax.lax.conv_general_dilated:
            node.conv_general_dilated = dilated
    return module


@contextlib.contextmanager
def fast_convolutions() -> Iterator[None]:
    """The same for linen modules that are called within."""

    def faster(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        own = isinstance(layer, nn.Conv) and (
            layer.conv_general_dilated is not None or layer.conv_general_dilated_cls is not None
        )
        if isinstance(layer, nn.Conv) and not own and context.method_name == "__call__":
            object.__setattr__(layer, "conv_general_dilated", dilated)  # modules are frozen
        return next_function(*args, **kwargs)

    with nn.intercept_methods(faster):
        yield
