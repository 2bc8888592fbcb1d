"""The meta-learners that must be able to do what every one does.  A new one is one row."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

import metahpo as mh
from metahpo.base import Problem, TaskFamily
from metahpo.problems import Episode, Examples, cross_entropy, few_shot, squared_error

WAYS, INPUTS = 3, 4


class Net(linen.Module):
    """Smooth, so that finite differences are sharp; with the layer names that learners know."""

    outputs: int

    @linen.compact
    def __call__(self, x):
        options = {"param_dtype": x.dtype}
        x = jnp.tanh(linen.Dense(8, **options)(x))
        x = linen.LayerNorm(name="norm", **options)(x)
        return linen.Dense(self.outputs, name="head", **options)(x)


def clusters(key, shots=3):
    """Three classes around random centres, sorted by class."""
    centre_key, noise_key = jax.random.split(key)
    y = jnp.tile(jnp.repeat(jnp.arange(WAYS), shots), 2)
    centres = 1.5 * jax.random.normal(centre_key, (WAYS, INPUTS))
    return halves(centres[y] + jax.random.normal(noise_key, (y.size, INPUTS)), y)


def planes(key):
    """Linear functions: ten points to learn one from."""
    slope_key, x_key = jax.random.split(key)
    slopes = jax.random.normal(slope_key, (2, 1))
    x = jax.random.uniform(x_key, (20, 2), minval=-1.0)
    return halves(x, x @ slopes)


def halves(x, y):
    n = len(y) // 2
    return Episode(Examples(x[:n], y[:n]), Examples(x[n:], y[n:]))


def classification():
    return few_shot(clusters, Net(WAYS), cross_entropy, ways=WAYS)


def embedding():
    """For learners that bring their own head: the network is an encoder."""
    return few_shot(clusters, Net(5), cross_entropy)


def regression():
    return few_shot(planes, Net(1), squared_error)


class Row(NamedTuple):
    make: Callable[..., Problem]  # (family, number)
    family: Callable[[], TaskFamily] = classification
    steps: int = 0
    number: float = 0.1  # of the constructor, may be traced; rows without one ignore it
    criterion: bool = True  # whether the outer loss is the family's criterion of the predictions
    trained: bool = True  # whether to meta-train it; one variant of a learner is enough
    rate: float = 0.02  # of Adam, in meta-training
    ratio: float = 0.8  # meta-training lowers the loss at least to this share


TABLE = {
    "maml": Row(mh.meta.maml, steps=2),
    "meta_sgd": Row(
        lambda family, rate: mh.meta.meta_sgd(family, initial_rate=rate), regression, steps=2
    ),
    "anil": Row(mh.meta.anil, steps=3),
    "maml_plus_plus": Row(
        lambda family, rate: mh.meta.maml_plus_plus(family, 2, initial_rate=rate), steps=2
    ),
    "maml_plus_plus_multi_step": Row(
        lambda family, rate: mh.meta.maml_plus_plus(
            family, 2, initial_rate=rate, weights=mh.meta.step_weights(0.05, 2), adapt_per_step=True
        ),
        regression,
        steps=2,
        criterion=False,  # it judges every step
        trained=False,
    ),
    "imaml": Row(lambda family, rate: mh.meta.imaml(family, rate, 0.5), steps=3),
    "cavia": Row(mh.meta.cavia, regression, steps=2, number=1.0),
    "cavia_film": Row(
        lambda family, rate: mh.meta.cavia(
            family, rate, contexts=3, conditioning=lambda net: mh.meta.film(Net(6), net)
        ),
        steps=2,
        number=1.0,
        trained=False,
    ),
    "task_heads": Row(
        lambda family, rate: mh.meta.task_heads(family, rate, gradient=jax.grad),
        steps=5,
        number=0.2,
    ),
    "task_heads_learned": Row(
        lambda family, rate: mh.meta.task_heads(family, rate, fresh=False, gradient=jax.grad),
        regression,
        steps=3,
        trained=False,
    ),
    "ridge_head": Row(
        lambda family, l2: mh.meta.ridge_head(family, ways=WAYS, initial_l2=l2), embedding
    ),
    "logistic_head": Row(
        lambda family, l2: mh.meta.logistic_head(family, ways=WAYS, initial_l2=l2), embedding
    ),
    "prototypical": Row(
        lambda family, scale: mh.meta.prototypical(family, ways=WAYS, scale=scale), embedding
    ),
    "matching": Row(
        lambda family, scale: mh.meta.matching(family, ways=WAYS, scale=scale),
        embedding,
        number=5.0,
    ),
    "relation": Row(
        lambda family, _: mh.meta.relation(family, ways=WAYS, hidden=(16,)),
        embedding,
        criterion=False,
    ),
    "neural_process": Row(
        lambda family, std: mh.meta.neural_process(family, width=16, depth=1, min_std=std),
        regression,
        criterion=False,
    ),
    "attentive_neural_process": Row(
        lambda family, std: mh.meta.attentive_neural_process(
            family, width=16, depth=1, heads=2, min_std=std
        ),
        regression,
        criterion=False,
    ),
    "snail": Row(
        lambda family, _: mh.meta.snail(family, ways=WAYS, filters=8, keys=8, blocks=1),
        embedding,
        rate=0.01,
    ),
}
NAMES = list(TABLE)
TRAINED = [name for name, row in TABLE.items() if row.trained]
CLASSIFIERS = [name for name in TRAINED if TABLE[name].family is not regression]
