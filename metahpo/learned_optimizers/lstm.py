"""The long short-term memory cell of recurrent rules, for columns that run side by side."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Key


class CellWeights(NamedTuple):
    """A cell of ``H`` units on ``I`` inputs; rows are the gates input, forget, output, candidate.

    Attributes:
        inputs: ``f[4 H, I]``.
        hidden: ``f[4 H, H]``.
        bias: ``f[4 H]``.
    """

    inputs: chex.Array
    hidden: chex.Array
    bias: chex.Array


class CellState(NamedTuple):
    """What a cell keeps: ``hidden`` f[H, n], its output, and ``memory`` f[H, n]."""

    hidden: chex.Array
    memory: chex.Array


def cell_weights(key: Key, inputs: int, hidden: int) -> CellWeights:
    """Random weights of variance one over fan-in; forget gates begin open (Jozefowicz et al. 2015).

    Args:
        key: of the draw.
        inputs: number of inputs.
        hidden: number of units.
    """
    input_key, hidden_key = jax.random.split(key)
    fan_in = math.sqrt(inputs + hidden)
    return CellWeights(
        jax.random.normal(input_key, (4 * hidden, inputs)) / fan_in,
        jax.random.normal(hidden_key, (4 * hidden, hidden)) / fan_in,
        jnp.zeros(4 * hidden).at[hidden : 2 * hidden].set(1.0),
    )


def still(hidden: int, columns: int, dtype: chex.ArrayDType) -> CellState:
    """The state before any input."""
    zeros = jnp.zeros((hidden, columns), dtype)
    return CellState(zeros, zeros)


def cell(weights: CellWeights, state: CellState, x: chex.Array) -> CellState:
    """One step (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    ``memory = sigmoid(f) memory + sigmoid(i) tanh(c)``, ``hidden = sigmoid(o) tanh(memory)``.

    Args:
        weights: shared by the columns.
        state: before the step.
        x: ``f[I, n]``, the inputs of each column.

    Example:
        >>> weights = CellWeights(jnp.ones((4, 1)), jnp.zeros((4, 1)), jnp.zeros(4))
        >>> after = cell(weights, still(1, 2, jnp.float32), jnp.array([[0.0, 1.0]]))
        >>> [round(float(x), 4) for x in after.memory[0]]
        [0.0, 0.5568]
    """
    gates = weights.inputs @ x + weights.hidden @ state.hidden + weights.bias[:, None]
    enter, keep, leave, candidate = jnp.split(gates, 4)
    memory = jax.nn.sigmoid(keep) * state.memory + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
    return CellState(jax.nn.sigmoid(leave) * jnp.tanh(memory), memory)
