"""Convex and nearly convex fits of linear models to random data."""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, TaskFamily
from metahpo.problems.few_shot import Examples


class Regression(NamedTuple):
    """A data set: ``support`` and ``query`` of the same truth, and the penalty ``l2`` f[]."""

    support: Examples
    query: Examples
    l2: chex.Array


Kind = Literal["logistic", "robust"]
OUTLIERS = 0.2
"""The share of the robust regression's targets that say nothing."""


def regressions(
    kind: Kind,
    features: int = 8,
    examples: int = 64,
    *,
    l2: tuple[float, float] = (1e-4, 1e-2),
) -> TaskFamily:
    """Linear models on data whose columns have very different scales.

    Inputs are normal, each column times a scale that is log-uniform in [0.1, 10], so that the
    curvatures differ by up to four orders of magnitude; the true weights undo it.

    * ``"logistic"``: labels 0 or 1 are drawn from the logistic model of the truth; the loss is the
      mean cross-entropy.
    * ``"robust"``: targets with normal noise of 0.1, a fifth of them replaced by noise of 5; the
      loss is the mean of Geman & McClure's ``r^2 / (1 + r^2)``, which is not convex (Li & Malik
      2017 learned to optimise both).

    The support loss has the penalty ``l2 |w|^2 / 2`` besides, log-uniform from its range.  Support
    and query are drawn apart, and training sees nothing of the query.

    Args:
        kind: of the two.
        features: columns, beside which there is a bias.
        examples: of the support and of the query.
        l2: range of the penalty.

    Returns:
        A TaskFamily with ``Regression`` tasks and params ``{"w": f[features], "b": f[]}``.

    Raises:
        ValueError: for another kind, no features or examples, or a range that is not positive.

    Example:
        >>> import metahpo as mh
        >>> family = mh.problems.regressions("logistic")
        >>> task = family.sample(jax.random.key(0))
        >>> params = family.init(jax.random.key(1), task)
        >>> round(float(family.loss(params, task, "query")), 4)  # log 2
        0.6931
    """
    checks.one_of("kind", kind, ("logistic", "robust"))
    features, examples = checks.counts(features=features, examples=examples)
    for bound in l2:
        checks.positive(l2=bound)

    def sample(key: Key) -> Regression:
        scale_key, truth_key, l2_key, *part_keys = jax.random.split(key, 5)
        logs = jnp.log(10.0)
        scales = jnp.exp(jax.random.uniform(scale_key, (features,), minval=-logs, maxval=logs))
        truth = jax.random.normal(truth_key, (features + 1,))
        low, high = jnp.log(jnp.asarray(l2, truth.dtype))
        penalty = jnp.exp(jax.random.uniform(l2_key, (), minval=low, maxval=high))

        def part(key: Key) -> Examples:
            x_key, y_key, outlier_key = jax.random.split(key, 3)
            x = jax.random.normal(x_key, (examples, features))
            score = x @ truth[1:] + truth[0]
            if kind == "logistic":
                label = jax.random.bernoulli(y_key, jax.nn.sigmoid(score)).astype(x.dtype)
                return Examples(x * scales, label)
            wild = jax.random.bernoulli(outlier_key, OUTLIERS, (examples,))
            noise = jax.random.normal(y_key, (examples,))
            return Examples(x * scales, jnp.where(wild, 5 * noise, score + 0.1 * noise))

        return Regression(part(part_keys[0]), part(part_keys[1]), penalty)

    def init(key: Key, task: Regression) -> dict[str, chex.Array]:
        del key
        return {"w": jnp.zeros(features, task.l2.dtype), "b": jnp.zeros((), task.l2.dtype)}

    def loss(params: dict[str, chex.Array], task: Regression, split: str) -> chex.Array:
        part = task.support if split == "support" else task.query
        score = part.x @ params["w"] + params["b"]
        if kind == "logistic":
            losses = jnp.logaddexp(0, score) - part.y * score
        else:
            square = jnp.square(score - part.y)
            losses = square / (1 + square)
        penalty = task.l2 * jnp.sum(params["w"] ** 2) / 2 if split == "support" else 0.0
        return losses.mean() + penalty

    return TaskFamily(sample, init, loss)
