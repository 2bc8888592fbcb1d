"""An ``ask`` that takes the longer the more is known."""

import dataclasses
from collections.abc import Callable

import chex

from metahpo.base import Key, Proposal, PyTree

Ask = Callable[[Key, PyTree], tuple[Proposal, PyTree]]


@dataclasses.dataclass(frozen=True)  # jax.jit takes no tuple for a function
class StagedAsk:
    """The ``ask`` of a strategy whose state decides how much there is to do.

    Within a program everything is compiled, and the state decides what of it runs.  A run from the
    host knows the state: it compiles a stage when it comes to it.

    Attributes:
        whole: ``(key, state) -> (Proposal, state)``, at every stage.
        stage: ``(state) -> i32[]``, the number of the one that does the same.
        stages: all of them.
    """

    whole: Ask
    stage: Callable[[PyTree], chex.Array]
    stages: tuple[Ask, ...]

    def __call__(self, key: Key, state: PyTree) -> tuple[Proposal, PyTree]:
        """Asks, whatever the stage."""
        return self.whole(key, state)
