"""Networks: the small dense one of policies and mappings, and those of image classifiers."""

from metahpo.networks.mlp import MLP

__all__ = ["MLP"]
