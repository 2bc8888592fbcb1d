"""Models of an objective, and where they are promising: parts of strategies."""

from metahpo.surrogates import acquisition, gaussian_process, kernels, local_moves, maximise, parzen

__all__ = ["acquisition", "gaussian_process", "kernels", "local_moves", "maximise", "parzen"]
