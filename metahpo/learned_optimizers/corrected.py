"""Two rungs in one: an optimiser that is known to work, and a learned correction."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo.base import Key, Params, PyTree
from metahpo.learned_optimizers.update_rule import UpdateRule, update_rule


class CorrectedWeights(NamedTuple):
    """The weights of ``corrected``: of both rules, and the ``share`` f[] of the correction."""

    nominal: PyTree
    correction: PyTree
    share: chex.Array


class CorrectedState(NamedTuple):
    """The optax states of both."""

    nominal: optax.OptState
    correction: optax.OptState


def corrected(nominal: UpdateRule, correction: UpdateRule) -> UpdateRule:
    """The updates of one rule plus a learned share of another's, all of it learned together.

    A network that starts from an optimiser that works need not learn to work first, and can fall
    back on it (the nominal term of Harrison et al. 2022, arXiv:2209.11208).  The share begins at 0,
    so that untrained it is the nominal rule.

    Args:
        nominal: such as ``scheduled`` or ``learnable``.
        correction: such as ``per_parameter_mlp``.

    Returns:
        An UpdateRule with ``CorrectedWeights``.

    Raises:
        ValueError: for what is no UpdateRule.

    Example:
        >>> import metahpo as mh
        >>> lo = mh.learned_optimizers
        >>> rule = corrected(lo.learnable(optax.sgd, {"learning_rate": 0.5}), lo.symbolic(["sign"]))
        >>> weights = rule.init(jax.random.key(0))._replace(share=jnp.array(10.0))
        >>> optimizer, params = rule.transform(weights), jnp.array([2.0, -1.0])
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> [round(float(x), 4) for x in updates]
        [-1.1, 0.6]
    """
    made_by = "a function of mh.learned_optimizers"
    checks.record("nominal", nominal, UpdateRule, made_by)
    checks.record("correction", correction, UpdateRule, made_by)

    def init(key: Key) -> CorrectedWeights:
        first, second = jax.random.split(key)
        return CorrectedWeights(nominal.init(first), correction.init(second), jnp.zeros(()))

    def transform(weights: CorrectedWeights) -> optax.GradientTransformation:
        base = optax.with_extra_args_support(nominal.transform(weights.nominal))
        more = optax.with_extra_args_support(correction.transform(weights.correction))

        def start(params: Params) -> CorrectedState:
            return CorrectedState(base.init(params), more.init(params))

        def update(
            grads: Params, state: CorrectedState, params: Params | None = None, **extra: Any
        ) -> tuple[Params, CorrectedState]:
            own, base_state = base.update(grads, state.nominal, params, **extra)
            added, more_state = more.update(grads, state.correction, params, **extra)
            updates = jax.tree.map(lambda x, y: x + weights.share.astype(x.dtype) * y, own, added)
            return updates, CorrectedState(base_state, more_state)

        return optax.GradientTransformationExtraArgs(start, update)

    return update_rule("corrected", init, transform)
