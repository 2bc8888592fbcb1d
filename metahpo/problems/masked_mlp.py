"""A two-layer perceptron whose hidden width is a traced number.

The arrays always have ``max_width`` hidden units; the units from ``width`` on are switched off.
So a population of different widths trains as one batched kernel, and a masked network behaves as
a network of that width: same distribution of initial values, same gradients, same updates.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key

ACTIVATIONS: dict[str, Callable[[chex.Array], chex.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
}


class Layer(NamedTuple):
    """A dense layer: ``kernel`` f[inputs, outputs], ``bias`` f[outputs]."""

    kernel: chex.Array
    bias: chex.Array


class MaskedMLP(NamedTuple):
    """The network's sizes (static).

    Attributes:
        inputs: number of inputs.
        max_width: number of hidden units that the arrays hold.
        outputs: number of outputs.
        activations: names from ``ACTIVATIONS`` to choose from.

    Example:
        >>> network = MaskedMLP(inputs=2, max_width=8, outputs=1)
        >>> params = jax.jit(network.init)(jax.random.key(0), width=4)
        >>> jax.jit(network.apply)(params, jnp.ones((3, 2)), width=4).shape
        (3, 1)
    """

    inputs: int
    max_width: int
    outputs: int
    activations: Sequence[str] = ("relu",)

    def init(self, key: Key, width: chex.Numeric) -> tuple[Layer, Layer]:
        """Draws weights of variance ``1 / fan_in`` (LeCun et al. 1998), ``width`` units on."""
        mask = self._mask(width)
        # One flat draw: random bits in the shape of a small matrix take a CPU's compiler, which
        # unrolls the short axes, seven times as long, and longer under every further vmap.
        inputs, most, outputs = checks.counts(
            inputs=self.inputs, max_width=self.max_width, outputs=self.outputs
        )
        size = inputs * most
        noise = jax.random.normal(key, (size + most * outputs,))
        first = noise[:size].reshape(inputs, most)
        second = noise[size:].reshape(most, outputs)
        return (
            Layer(first * mask / jnp.sqrt(inputs), jnp.zeros(most)),
            Layer(second * mask[:, None] / jnp.sqrt(width), jnp.zeros(outputs)),
        )

    def apply(
        self,
        params: tuple[Layer, Layer],
        inputs: chex.Array,
        width: chex.Numeric,
        activation: chex.Numeric = 0,
    ) -> chex.Array:
        """Maps ``f[..., inputs]`` to ``f[..., outputs]``.

        Args:
            params: as ``init`` draws them.
            inputs: ``f[..., inputs]``.
            width: how many hidden units are on; may be traced.
            activation: index into ``activations``; may be traced.
        """
        first, second = params
        hidden = inputs @ first.kernel + first.bias
        candidates = [ACTIVATIONS[name](hidden) for name in self.activations]
        hidden = candidates[0]
        for index, candidate in enumerate(candidates[1:], start=1):
            # Under vmap a switch computes all branches anyway; where keeps it one fused kernel.
            hidden = jnp.where(activation == index, candidate, hidden)
        return (hidden * self._mask(width)) @ second.kernel + second.bias

    def _mask(self, width: chex.Numeric) -> chex.Array:
        return (jnp.arange(self.max_width) < width).astype(jnp.result_type(float))
