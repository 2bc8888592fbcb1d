"""The small dense network behind policies and mappings."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from metahpo.base import Key
from metahpo.floats import real


class MLP(nn.Module):
    """Dense layers with an activation between them; the last one starts at a chosen bias.

    Attributes:
        hidden: widths of the hidden layers.
        bias: the initial biases of the last layer, one an output; they decide what the untrained
            network says.
        scale: standard deviation of the last layer's outputs around ``bias`` at the start, for
            hidden units of about unit size.
        activation: of the hidden layers.
        spread: standard deviation of the hidden layers' initial biases.

    Example:
        >>> import jax
        >>> network = MLP(hidden=(8,), bias=(1.0, 2.0), scale=0.0)
        >>> weights = jax.jit(network.init)(jax.random.key(0), jnp.zeros(3))
        >>> network.apply(weights, jnp.ones(3)).tolist()
        [1.0, 2.0]
    """

    hidden: Sequence[int]
    bias: Sequence[float]
    scale: float = 0.1
    activation: Callable[[chex.Array], chex.Array] = nn.tanh
    spread: float = 0.0

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """Maps ``f[..., inputs]``, or whole numbers, to ``f[..., len(bias)]``."""
        x = real(inputs)
        dtype = x.dtype
        for width in self.hidden:
            biases = nn.initializers.normal(self.spread)
            x = self.activation(nn.Dense(width, param_dtype=dtype, bias_init=biases)(x))
        kernel = nn.initializers.variance_scaling(self.scale**2, "fan_in", "normal")

        def bias(key: Key, shape: tuple[int, ...], dtype: Any) -> chex.Array:
            del key
            return jnp.asarray(self.bias, dtype=dtype).reshape(shape)

        return nn.Dense(len(self.bias), param_dtype=dtype, kernel_init=kernel, bias_init=bias)(x)
