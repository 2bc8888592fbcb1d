"""What predictions are judged by, inside programs: weighted, and of padded classes."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks

_TINY = 1e-7


class Metric(NamedTuple):
    """A measure of predictions.

    Attributes:
        name: of it.
        classes: whether it judges a classification.
        loss: ``(predictions f32[N, P], y [N], weight f32[N], classes bool[P]) -> f32[]``, the lower
            the better; predictions are the chances of the classes, or ``[N, 1]`` numbers.
        greater: whether what is shown is ``1 - loss``, the greater the better.
    """

    name: str
    classes: bool
    loss: Callable[[chex.Array, chex.Array, chex.Array, chex.Array], chex.Array]
    greater: bool = False

    def score(self, loss: float) -> float:
        """What is shown of a loss."""
        return 1.0 - loss if self.greater else loss


def _mean(values: chex.Array, weight: chex.Array) -> chex.Array:
    return (values * weight).sum(-1) / jnp.maximum(weight.sum(-1), _TINY)


def _log_loss(p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array) -> chex.Array:
    del classes
    own = jnp.take_along_axis(p, y[:, None], axis=1)[:, 0]
    return _mean(-jnp.log(jnp.clip(own, _TINY, 1.0)), weight)


def _error(p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array) -> chex.Array:
    return _mean((_label(p, classes) != y).astype(p.dtype), weight)


def _auc(p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array) -> chex.Array:
    """One against the rest, the mean over classes; of two classes that is the one area."""
    each = jax.vmap(lambda score, k: _area(score, y == k, weight), in_axes=(1, 0))
    return 1.0 - _over_classes(each(p, jnp.arange(p.shape[1])), y, weight, classes)


def _area(score: chex.Array, positive: chex.Array, weight: chex.Array) -> chex.Array:
    """P(positive above negative) + P(equal) / 2, of weighted rows."""
    order = jnp.argsort(score)
    ordered, up, own = score[order], positive[order], weight[order]
    below = jnp.concatenate([jnp.zeros(1, own.dtype), jnp.cumsum(jnp.where(up, 0.0, own))])
    left = below[jnp.searchsorted(ordered, ordered, side="left")]
    right = below[jnp.searchsorted(ordered, ordered, side="right")]
    wins = jnp.where(up, own, 0.0)
    return (wins * (left + right) / 2).sum() / jnp.maximum(wins.sum() * below[-1], _TINY)


def _balanced_error(
    p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array
) -> chex.Array:
    right = _label(p, classes) == y
    recall = [_mean(right, weight * (y == k)) for k in range(p.shape[1])]
    return 1.0 - _over_classes(jnp.stack(recall), y, weight, classes)


def _f1_loss(p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array) -> chex.Array:
    """Of two classes that of the second, of more the mean over classes."""
    label = _label(p, classes)

    def one(k: int) -> chex.Array:
        both = (weight * ((label == k) & (y == k))).sum()
        either = (weight * (label == k)).sum() + (weight * (y == k)).sum()
        return 2 * both / jnp.maximum(either, _TINY)

    if p.shape[1] == 2:
        return 1.0 - one(1)
    return 1.0 - _over_classes(jnp.stack([one(k) for k in range(p.shape[1])]), y, weight, classes)


def _over_classes(
    values: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array
) -> chex.Array:
    """The mean over the classes that the rows have."""
    there = jnp.stack([(weight * (y == k)).sum() > 0 for k in range(len(values))]) & classes
    return _mean(values, there.astype(values.dtype))


def _label(p: chex.Array, classes: chex.Array) -> chex.Array:
    return jnp.argmax(jnp.where(classes, p, -1.0), axis=1)


def _rmse(p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array) -> chex.Array:
    del classes
    return jnp.sqrt(_mean((p[:, 0] - y) ** 2, weight))


def _mae(p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array) -> chex.Array:
    del classes
    return _mean(jnp.abs(p[:, 0] - y), weight)


def _unexplained(
    p: chex.Array, y: chex.Array, weight: chex.Array, classes: chex.Array
) -> chex.Array:
    del classes
    error = _mean((p[:, 0] - y) ** 2, weight)
    return error / jnp.maximum(_mean((y - _mean(y, weight)) ** 2, weight), _TINY)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("log loss", True, _log_loss),
        Metric("accuracy", True, _error, greater=True),
        Metric("AUC", True, _auc, greater=True),
        Metric("balanced accuracy", True, _balanced_error, greater=True),
        Metric("F1", True, _f1_loss, greater=True),
        Metric("RMSE", False, _rmse),
        Metric("MAE", False, _mae),
        Metric("R2", False, _unexplained, greater=True),
    )
}
"""By name."""


def metric(name: str, classes: bool) -> Metric:
    """A metric by its name.

    Args:
        name: ``"log loss"``, ``"accuracy"``, ``"AUC"``, ``"balanced accuracy"`` or ``"F1"`` of a
            classification, ``"RMSE"``, ``"MAE"`` or ``"R2"`` of a regression.
        classes: whether it is to judge a classification.

    Raises:
        ValueError: for any other name.

    Example:
        >>> metric("AUC", classes=True).greater
        True
    """
    names = [name for name, found in METRICS.items() if found.classes == classes]
    checks.one_of("metric", name, names)
    return METRICS[name]
