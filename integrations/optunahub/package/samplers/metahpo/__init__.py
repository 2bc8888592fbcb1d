"""The strategies of metahpo as a sampler."""

from .sampler import MetahpoSampler


__all__ = ["MetahpoSampler"]
