"""A recurrent network that every parameter runs on its own gradients."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key
from metahpo.learned_optimizers.lstm import CellState, CellWeights, cell, cell_weights, still
from metahpo.learned_optimizers.update_rule import UpdateRule, each_tensor, update_rule


class RecurrentWeights(NamedTuple):
    """The weights of ``recurrent``: the cells from the gradient upwards, and the output.

    Attributes:
        cells: ``CellWeights`` of every layer.
        out: ``f[H]``.
        bias: ``f[]``.
    """

    cells: tuple[CellWeights, ...]
    out: chex.Array
    bias: chex.Array


def recurrent(
    hidden: int = 20, layers: int = 2, scale: float = 0.1, precision: float = 10.0
) -> UpdateRule:
    """The rule that learned to learn: an LSTM on each coordinate (Andrychowicz et al. 2016).

    All parameters share the weights and each has a state of its own.  A layer is an LSTM with
    ``hidden`` units, the update is ``scale`` times a linear function of the last layer's, and what
    enters is ``log_and_sign`` of the gradient, both as in the paper (sections 2.1 and A).  The rule
    has no momenta and no second moments: whatever it needs to remember it must learn to.

    It sees the size of gradients on a log scale, so it does depend on the scale of the loss.

    Args:
        hidden: units of a layer.
        layers: at least 1.
        scale: of the updates.
        precision: ``p`` of ``log_and_sign``.

    Returns:
        An UpdateRule with ``RecurrentWeights``, whose state has ``2 layers hidden`` numbers a
        parameter.  Untrained, its updates are small and mean nothing.

    Raises:
        ValueError: for no units or layers, a scale or a precision that is not positive.

    Example:
        >>> import metahpo as mh
        >>> rule = mh.learned_optimizers.recurrent(hidden=4, layers=1)
        >>> weights = jax.jit(rule.init)(jax.random.key(0))
        >>> optimizer, params = rule.transform(weights), jnp.array([1.0, 1.0])
        >>> updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
        >>> bool(updates[0] == updates[1])
        True
    """
    hidden, layers = checks.counts(hidden=hidden, layers=layers)
    checks.positive(scale=scale, precision=precision)

    def init(key: Key) -> RecurrentWeights:
        out_key, *keys = jax.random.split(key, layers + 1)
        widths = [2, *[hidden] * (layers - 1)]
        cells = tuple(
            cell_weights(key, width, hidden) for key, width in zip(keys, widths, strict=True)
        )
        out = jax.random.normal(out_key, (hidden,)) / math.sqrt(hidden)
        return RecurrentWeights(cells, out, jnp.zeros(()))

    def transform(weights: RecurrentWeights) -> optax.GradientTransformation:
        def start(param: chex.Array) -> tuple[CellState, ...]:
            return tuple(still(hidden, param.size, param.dtype) for _ in range(layers))

        def step(
            count: chex.Array, grad: chex.Array, state: tuple[CellState, ...], param: chex.Array
        ) -> tuple[chex.Array, tuple[CellState, ...]]:
            del count, param
            own = jax.tree.map(lambda w: jnp.asarray(w, grad.dtype), weights)
            x, after = log_and_sign(grad.reshape(-1), precision), []
            for layer, before in zip(own.cells, state, strict=True):
                after.append(cell(layer, before, x))
                x = after[-1].hidden
            return scale * (own.out @ x + own.bias).reshape(grad.shape), tuple(after)

        return each_tensor(start, step)

    return update_rule("recurrent", init, transform)


def log_and_sign(grad: chex.Array, precision: float = 10.0) -> chex.Array:
    """Two features ``f[2, ...]`` of numbers of any size (Andrychowicz et al. 2016, appendix A).

    ``(log|g| / p, sign g)`` where ``|g|`` is at least ``exp(-p)``, and ``(-1, exp(p) g)`` below.

    Args:
        grad: any shape.
        precision: ``p``, positive.

    Example:
        >>> [f"{float(x):.3g}" for x in log_and_sign(jnp.array([1.0, -1e-9]), 10.0).ravel()]
        ['0', '-1', '1', '-2.2e-05']
    """
    size = jnp.abs(grad)
    large = size >= math.exp(-precision)
    log = jnp.log(jnp.where(large, size, 1)) / precision  # with a finite slope at 0
    return jnp.stack(
        [jnp.where(large, log, -1), jnp.where(large, jnp.sign(grad), math.exp(precision) * grad)]
    )
