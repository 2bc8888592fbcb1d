"""Models of an objective, and where they are promising: parts of strategies."""

from metahpo.surrogates import (
    acquisition,
    fit,
    gaussian_process,
    kernels,
    local_moves,
    maximise,
    parzen,
    prior,
    promising,
    warping,
)

__all__ = [
    "acquisition",
    "fit",
    "gaussian_process",
    "kernels",
    "local_moves",
    "maximise",
    "parzen",
    "prior",
    "promising",
    "warping",
]
