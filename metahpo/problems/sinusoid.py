"""Sinusoid regression: the few-shot problem of the MAML paper."""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import linen

from metahpo import checks
from metahpo.base import Key, Network, TaskFamily
from metahpo.problems.criteria import squared_error
from metahpo.problems.few_shot import Episode, Examples, few_shot

HIDDEN = (40, 40)


def sinusoid(shots: int, queries: int = 100, hidden: tuple[int, ...] = HIDDEN) -> TaskFamily:
    """Few-shot regression of ``y = A sin(x - phase)`` (Finn et al. 2017, section 5.1).

    ``A`` is uniform in [0.1, 5], ``phase`` in [0, pi], ``x`` in [-5, 5]; no noise.  The model is
    an MLP with ReLU between its layers, 1-40-40-1 in the paper, with flax's default initial
    values (LeCun normal, zero biases); the loss is the mean squared error.

    For scale: predicting zero gives 4.2517 on average over the tasks, the best predictor that
    does not adapt 3.0057.

    Args:
        shots: support points of a task, at least 1.
        queries: query points of a task, at least 1.
        hidden: widths of the hidden layers.

    Returns:
        A TaskFamily with ``Episode`` tasks.  Descriptor, f[4]: mean and root mean square of the
        support's ``y``, its largest size, and the mean product of ``x`` and ``y``.

    Raises:
        ValueError: if ``shots``, ``queries`` or a width is below 1.

    Example:
        >>> import jax, metahpo as mh
        >>> task = mh.problems.sinusoid(shots=5).sample(jax.random.key(0))
        >>> task.support.x.shape, task.query.y.shape
        ((5, 1), (100, 1))
    """
    shots, queries = checks.counts(shots=shots, queries=queries)
    model = _MLP(tuple(checks.whole("a width of hidden", width) for width in hidden))

    network = Network(model.init, model.apply)
    return few_shot(_sampler(shots, queries), network, squared_error, describe=_describe)


class _MLP(linen.Module):
    hidden: tuple[int, ...]

    @linen.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        # Parameters take the type of the data, so the same network serves f32 and f64.
        for width in self.hidden:
            x = jax.nn.relu(linen.Dense(width, param_dtype=x.dtype)(x))
        return linen.Dense(1, param_dtype=x.dtype, name="head")(x)


def _sampler(shots: int, queries: int) -> Callable[[Key], Episode]:
    def sample(key: Key) -> Episode:
        # One draw for all: three keys would take three times as many hashes.
        unit = jax.random.uniform(key, (2 + shots + queries,))
        amplitude, phase = 0.1 + 4.9 * unit[0], math.pi * unit[1]
        x = 10.0 * unit[2:, None] - 5.0
        points = Examples(x, amplitude * jnp.sin(x - phase))
        return Episode(
            jax.tree.map(lambda leaf: leaf[:shots], points),
            jax.tree.map(lambda leaf: leaf[shots:], points),
        )

    return sample


def _describe(task: Episode) -> chex.Array:
    x, y = task.support.x, task.support.y
    root_mean_square = jnp.sqrt(jnp.mean(y**2))
    return jnp.stack([jnp.mean(y), root_mean_square, jnp.max(jnp.abs(y)), jnp.mean(x * y)])
