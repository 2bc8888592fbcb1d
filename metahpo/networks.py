"""The small dense network behind policies and mappings."""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from metahpo.base import Key


class MLP(nn.Module):
    """Dense layers with tanh between them; the last one starts small, at a chosen bias.

    Attributes:
        hidden: widths of the hidden layers.
        bias: the initial biases of the last layer, one an output; they decide what the untrained
            network says.
        scale: standard deviation of the last layer's outputs around ``bias`` at the start, for
            hidden units of about unit size.

    Example:
        >>> import jax
        >>> network = MLP(hidden=(8,), bias=(1.0, 2.0), scale=0.0)
        >>> weights = network.init(jax.random.key(0), jnp.zeros(3))
        >>> network.apply(weights, jnp.ones(3)).tolist()
        [1.0, 2.0]
    """

    hidden: Sequence[int]
    bias: Sequence[float]
    scale: float = 0.1

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """Maps ``f[..., inputs]`` to ``f[..., len(bias)]``."""
        dtype = inputs.dtype
        x = inputs
        for width in self.hidden:
            x = nn.tanh(nn.Dense(width, param_dtype=dtype)(x))
        kernel = nn.initializers.variance_scaling(self.scale**2, "fan_in", "normal")

        def bias(key: Key, shape: tuple[int, ...], dtype: Any) -> chex.Array:
            del key
            return jnp.asarray(self.bias, dtype=dtype).reshape(shape)

        return nn.Dense(len(self.bias), param_dtype=dtype, kernel_init=kernel, bias_init=bias)(x)
