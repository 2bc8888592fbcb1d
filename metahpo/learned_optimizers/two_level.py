"""A recurrent network for each tensor, which steers a small network for each of its parameters."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key
from metahpo.learned_optimizers import features
from metahpo.learned_optimizers.lstm import CellState, CellWeights, cell, cell_weights, still
from metahpo.learned_optimizers.per_parameter_mlp import RuleWeights, per_parameter_mlp, rule_step
from metahpo.learned_optimizers.update_rule import UpdateRule, over_tensors, update_rule


class TwoLevelWeights(NamedTuple):
    """The weights of ``two_level``.

    Attributes:
        tensor: of the cell that each tensor runs, on its features and on the mean of all tensors'
            outputs: ``C + M`` inputs, ``M`` units.
        steer: ``f[H, M]``, from the tensor's output to the hidden units of its parameters.
        rate: ``f[M]``, to the log rate of all of them.
        parameter: the ``RuleWeights`` of the network that each parameter runs.
    """

    tensor: CellWeights
    steer: chex.Array
    rate: chex.Array
    parameter: RuleWeights


class TwoLevelState(NamedTuple):
    """Of one tensor.

    Attributes:
        momenta: ``f[k, ...]``, like the tensor.
        second: like the tensor.
        tensor: ``CellState`` ``f[M, 1]``.
    """

    momenta: chex.Array
    second: chex.Array
    tensor: CellState


def two_level(
    hidden: int = 8,
    memory: int = 8,
    rate: float = 0.01,
    max_rate: float = 1.0,
    decays: Sequence[float] = (0.5, 0.9, 0.99),
    second_decay: float = 0.99,
) -> UpdateRule:
    """A rule that adapts its own rule to each tensor while training goes on.

    After the hierarchies of Wichrowska et al. 2017 and Metz et al. 2020 (arXiv:2009.11243).  Every
    tensor runs an LSTM, once an update, on its features (how consistent its gradients are, its
    size, the number of updates) and on the mean of all tensors' outputs, through which tensors
    know of each other.  Its output ``z`` enters the network of ``per_parameter_mlp`` that each
    parameter runs: ``steer z`` is added to the hidden units' inputs, ``rate . z`` to the log rate.
    The recurrence costs each tensor the same however many parameters it has.

    Untrained, ``rate`` and the output weights are zero: Adam with learning rate ``rate``.
    Updates do not change when all gradients are multiplied by a positive number, nor when the
    tensors change their order or a tensor its entries'.

    Args:
        hidden: units of the network of a parameter.
        memory: units of the LSTM of a tensor.
        rate: the untrained rule's learning rate.
        max_rate: upper bound of the rate of every entry, above ``rate``.
        decays: decays of the momenta.
        second_decay: decay of the squared gradient's mean.

    Returns:
        An UpdateRule with ``TwoLevelWeights``.

    Raises:
        ValueError: as ``per_parameter_mlp``, and for no units.

    Example:
        >>> import metahpo as mh
        >>> rule = mh.learned_optimizers.two_level()
        >>> optimizer = rule.transform(jax.jit(rule.init)(jax.random.key(0)))
        >>> params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
        >>> updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in (*updates["w"], updates["b"])]
        [-0.01, 0.01, -0.01]
    """
    hidden, memory = checks.counts(hidden=hidden, memory=memory)
    lower = per_parameter_mlp(hidden, rate, max_rate, decays, second_decay)
    context = len(decays) + len(features.TIME_SCALES) + 1

    def init(key: Key) -> TwoLevelWeights:
        tensor_key, steer_key, parameter_key = jax.random.split(key, 3)
        return TwoLevelWeights(
            cell_weights(tensor_key, context + memory, memory),
            jax.random.normal(steer_key, (hidden, memory)) / math.sqrt(memory),
            jnp.zeros(memory),
            lower.init(parameter_key),
        )

    def start(param: chex.Array) -> TwoLevelState:
        momenta = jnp.zeros((len(decays), *param.shape), param.dtype)
        return TwoLevelState(momenta, jnp.zeros_like(param), still(memory, 1, param.dtype))

    def transform(weights: TwoLevelWeights) -> optax.GradientTransformation:
        def step(
            count: chex.Array,
            grads: list[chex.Array],
            states: list[TwoLevelState],
            params: list[chex.Array],
        ) -> list[tuple[chex.Array, TwoLevelState]]:
            common = sum(state.tensor.hidden for state in states) / len(states)
            pairs = []
            for grad, state, param in zip(grads, states, params, strict=True):
                own = jax.tree.map(lambda w, g=grad: jnp.asarray(w, g.dtype), weights)
                momenta = jnp.stack(
                    [
                        optax.tree.update_moment(grad, momentum, decay, 1)
                        for momentum, decay in zip(state.momenta, decays, strict=True)
                    ]
                )
                second = optax.tree.update_moment(grad, state.second, second_decay, 2)
                mean = [
                    optax.tree.bias_correction(m, decay, count)
                    for m, decay in zip([*momenta, second], [*decays, second_decay], strict=True)
                ]
                seen = features.per_tensor(count, mean[:-1], mean[-1], param)
                inputs = jnp.concatenate([seen[:, None], common.astype(grad.dtype)])
                tensor = cell(own.tensor, state.tensor, inputs)
                z = tensor.hidden[:, 0]
                steered = own.parameter._replace(
                    bias=own.parameter.bias + own.steer @ z,
                    rate=own.parameter.rate + own.rate @ z,
                )
                update = rule_step(steered, max_rate, count, grad, mean[:-1], mean[-1], param)
                pairs.append((update, TwoLevelState(momenta, second, tensor)))
            return pairs

        return over_tensors(start, step)

    return update_rule("two_level", init, transform)
