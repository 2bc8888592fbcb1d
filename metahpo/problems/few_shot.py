"""Few-shot tasks: a handful of labelled examples to learn from, others to be judged on."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen

from metahpo import checks
from metahpo.base import Key, Network, Params, TaskFamily


class Examples(NamedTuple):
    """Inputs ``x`` ``f[n, ...]`` and targets ``y``: labels ``i32[n]`` or values ``f[n, d]``."""

    x: chex.Array
    y: chex.Array


class Episode(NamedTuple):
    """One few-shot task: the examples to learn from and the examples to be judged on."""

    support: Examples
    query: Examples


def few_shot(
    sample: Callable[[Key], Episode],
    network: Network,
    criterion: Callable[[chex.Array, chex.Array], chex.Array],
    *,
    ways: int | None = None,
    describe: Callable[[Episode], chex.Array] | None = None,
) -> TaskFamily:
    """A family from data, a network and a criterion.

    Args:
        sample: ``(key) -> Episode``.
        network: any ``init`` and ``apply``; a flax linen module will do, of which all collections
            but ``params`` (batch statistics) stay as they are.  Meta-learners that bring their own
            head (``prototypical``, ``ridge_head``, ...) take it for the encoder.
        criterion: ``(outputs, y) -> f[]``, ``cross_entropy``, ``squared_error`` or your own.
        ways: the number of classes, which the width of the outputs must then equal.
        describe: ``(episode) -> f[F]``; by default a task has no descriptor, f[0].

    Returns:
        A TaskFamily with ``Episode`` tasks.

    Raises:
        ValueError: if ``ways`` is below 2; when its loss is traced, if the network has not one
            output a class.

    Example:
        >>> import jax, metahpo as mh
        >>> data = mh.problems.sinusoid(shots=5)
        >>> network = mh.networks.MLP(hidden=(16,), bias=(0.0,))
        >>> family = mh.problems.few_shot(data.sample, network, mh.problems.squared_error)
        >>> problem = mh.meta.maml(family, learning_rate=0.01)
    """
    ways = None if ways is None else checks.whole("ways", ways, at_least=2)

    network = _without_statistics(network)

    def init(key: Key, task: Episode) -> Params:
        return network.init(key, task.support.x)

    def loss(params: Params, task: Episode, split: str) -> chex.Array:
        examples = task.support if split == "support" else task.query
        outputs = network.apply(params, examples.x)
        if ways is not None and outputs.shape[-1] != ways:
            raise ValueError(
                f"the network has {outputs.shape[-1]} outputs, but the episodes have {ways} ways"
            )
        return criterion(outputs, examples.y)

    descriptor = _nothing if describe is None else describe
    return TaskFamily(sample, init, loss, descriptor, network, criterion)


def _without_statistics(network: Network) -> Network:
    """A flax module in which what is no parameter has no gradient, so that nothing moves it."""
    if not isinstance(network, linen.Module):
        return network

    def apply(variables: Params, x: chex.Array) -> chex.Array:
        if isinstance(variables, Mapping) and "params" in variables:
            variables = {
                name: part if name == "params" else jax.lax.stop_gradient(part)
                for name, part in variables.items()
            }
        return network.apply(variables, x)

    return Network(network.init, apply)


def example_inputs(family: TaskFamily) -> chex.Array:
    """The support inputs of one episode, for the shapes that a network is made for."""
    return family.sample(jax.random.key(0)).support.x


def _nothing(task: Episode) -> chex.Array:
    return jnp.zeros(0, jnp.result_type(float))
