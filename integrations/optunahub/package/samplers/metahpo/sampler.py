"""The strategies of metahpo as a sampler: the library's own, with the strategy by its name."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import metahpo as mh
from metahpo.integrations.optuna import Sampler


NAMES = [
    name for name in mh.strategies.__all__ if inspect.isfunction(getattr(mh.strategies, name))
]
"""The strategies."""


class MetahpoSampler(Sampler):
    """Samples the trials of a study with a strategy of metahpo.

    Args:
        strategy: the name of a function in ``metahpo.strategies`` that trains from scratch, such as
            ``"cma_es"``, ``"bipop_cma_es"``, ``"xnes"``, ``"l_shade"``, ``"pso"`` or ``"sobol"``.
        seed: decides all randomness.  Workers that share a study share its seed.
        options: of that function; ``population`` is the number of candidates a round.
    """

    def __init__(self, strategy: str = "cma_es", *, seed: int = 0, **options: Any) -> None:
        if strategy not in NAMES:
            raise ValueError(f"strategy must be one of {NAMES}, got {strategy!r}")
        make = getattr(mh.strategies, strategy)
        super().__init__(functools.partial(make, **{"population": 8, **options}), seed=seed)
