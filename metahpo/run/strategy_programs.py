"""The programs by which a strategy is asked and told from the host, with the keys of ``search``."""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from metahpo.base import Evaluation, Key, Proposal, PyTree, Strategy
from metahpo.run.loop import loop_keys, strongly_typed
from metahpo.staged import StagedAsk
from metahpo.stopping import Stopping, first

StrategyPrograms = tuple[Callable, Callable, Callable, Callable]


def strategy_programs(strategy: Strategy, stop: Stopping | None) -> StrategyPrograms:
    """A strategy's ``init``, ``ask`` and ``tell``, and the judgement of the rule."""
    made_of = (*strategy[:3], strategy.stop, stop)
    try:
        return _compiled(*made_of)
    except TypeError:  # a callable of one's own without a hash
        return _compiled.__wrapped__(*made_of)


@functools.lru_cache(maxsize=16)  # another run with the same strategy compiles nothing
def _compiled(
    strategy_init: Callable,
    strategy_ask: Callable,
    strategy_tell: Callable,
    strategy_stop: Callable | None,
    stop: Stopping | None,
) -> StrategyPrograms:
    @jax.jit
    def init(key: Key) -> tuple[Key, PyTree]:
        init_key, round_key = loop_keys(key)
        _, strategy_key, _ = jax.random.split(init_key, 3)  # the keys of ``search``
        return round_key, jax.tree.map(strongly_typed, strategy_init(strategy_key))

    @jax.jit
    def tell(
        key: Key, state: PyTree, proposal: Proposal, evaluation: Evaluation
    ) -> tuple[PyTree, chex.Array]:
        state = strategy_tell(key, state, proposal, evaluation)
        own = () if stop is None or strategy_stop is None else (strategy_stop(state),)
        return state, first(*own)

    @jax.jit
    def judge(
        rule: PyTree, proposal: Proposal, evaluation: Evaluation
    ) -> tuple[PyTree, chex.Array]:
        assert stop is not None
        # To the rule, who is not told now is idle: it counts every evaluation once.
        there = jnp.asarray(evaluation.steps) > 0
        rule = stop.update(
            rule, proposal._replace(budget=jnp.where(there, proposal.budget, 0)), evaluation
        )
        return rule, stop.reason(rule)

    return init, _asking(strategy_ask), tell, judge


def _asking(strategy_ask: Callable) -> Callable:
    """``(round_key, t, state) -> (Proposal, state, tell_key)``, compiled when it is needed."""

    def compiled(own: Callable) -> Callable:
        @jax.jit
        def ask(key: Key, t: jax.Array, state: PyTree) -> tuple[Proposal, PyTree, Key]:
            ask_key, _, tell_key = jax.random.split(jax.random.fold_in(key, t), 3)
            proposal, state = own(ask_key, state)
            return proposal, state, tell_key

        return ask

    if not isinstance(strategy_ask, StagedAsk):
        return compiled(strategy_ask)
    stage, stages = jax.jit(strategy_ask.stage), [compiled(own) for own in strategy_ask.stages]
    return lambda key, t, state: stages[int(stage(state))](key, t, state)
