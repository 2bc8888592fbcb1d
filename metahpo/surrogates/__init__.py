"""Models of an objective, and where they are promising: parts of strategies."""

from metahpo.surrogates import (
    acquisition,
    derivatives,
    fit,
    gaussian_process,
    kernels,
    local_moves,
    matern,
    maximise,
    parzen,
    prior,
    promising,
    warping,
)

__all__ = [
    "acquisition",
    "derivatives",
    "fit",
    "gaussian_process",
    "kernels",
    "local_moves",
    "matern",
    "maximise",
    "parzen",
    "prior",
    "promising",
    "warping",
]
