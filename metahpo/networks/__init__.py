"""Networks: the small dense one of policies and mappings, and those of image classifiers."""

from metahpo.networks.conv4 import calibrate, conv4
from metahpo.networks.convolution import convolve, max_pool
from metahpo.networks.dropout import dropout
from metahpo.networks.mlp import MLP

__all__ = ["MLP", "calibrate", "conv4", "convolve", "dropout", "max_pool"]
