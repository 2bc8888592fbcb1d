"""Boosting is, tree by tree, what numpy grows from the same candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted_families import data, task

from metahpo.automl.models import boosting, forest, oblivious
from metahpo.automl.models.boosting import fit
from metahpo.automl.models.forest import fit as fit_forest

TREES, LEVELS, CANDIDATES = 5, 3, 6
HPARAMS = {
    "rate": np.array([0.3, 0.1]),
    "depth": np.array([3, 2]),
    "penalty": np.array([1.0, 5.0]),
    "rows": np.array([1.0, 0.7]),
}


def table(kind, n=64, d=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    score = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]
    y = {"regression": score, "binary": score > 0, "multiclass": (score > 0) + (score > 0.7) * 1}
    return x, y[kind] if kind == "regression" else y[kind].astype(int)


@pytest.mark.parametrize(("kind", "classes"), [("regression", 1), ("binary", 2), ("multiclass", 3)])
def test_trees_are_those_that_numpy_grows(kind, classes):
    x, y = table(kind)
    outputs = classes if kind == "multiclass" else 1
    key, own_task = jax.random.key(3), task(kind, 2, outputs)
    with jax.enable_x64(True):
        here = data(x, y, 2, classes=classes)
        hparams = {name: jnp.asarray(value) for name, value in HPARAMS.items()}
        found = jax.jit(
            lambda data: fit(
                key, hparams, data, own_task, trees=TREES, levels=LEVELS, candidates=CANDIDATES
            )
        )(here)
        out = boosting.predict(found, here.x, here, own_task)
        draws = list(drawn(key, len(x)))
    found = {name: np.asarray(value) for name, value in found.items()}
    losses, scores = np.zeros((2, TREES)), {}
    for m in range(2):
        h = {name: value[m] for name, value in HPARAMS.items()}
        for fold in range(2):
            trains = np.arange(len(x)) % 2 != fold
            trees = list(grown(x, y, trains, h, draws, kind, outputs))
            for t, (feature, threshold, value, score) in enumerate(trees):
                used = int(h["depth"])
                np.testing.assert_array_equal(found["feature"][m, fold, t, :used], feature)
                np.testing.assert_allclose(found["threshold"][m, fold, t, :used], threshold)
                assert np.isinf(found["threshold"][m, fold, t, used:]).all()
                if t < found["trees"][m, fold]:
                    expected = found["value"][m, fold, t].reshape(2**used, -1, outputs)[:, 0]
                    np.testing.assert_allclose(expected, value, atol=1e-10)
                losses[m, t] += loss(score[~trains], y[~trains], kind)
                scores[m, fold, t] = score
        count = losses[m].argmin() + 1
        assert (found["trees"][m] == count).all()
        for fold in range(2):
            np.testing.assert_allclose(out[m, fold], scores[m, fold, count - 1], atol=1e-10)


def test_a_forest_is_the_mean_of_trees_that_numpy_grows():
    x, y = table("binary")
    key, own_task = jax.random.key(5), task("binary", 2)
    h = {"depth": np.array([2, 3]), "penalty": np.array([0.5, 2.0])}
    with jax.enable_x64(True):
        here = data(x, y, 2, classes=2)
        hparams = {name: jnp.asarray(value) for name, value in h.items()}
        found = jax.jit(
            lambda data: fit_forest(
                key, hparams, data, own_task, trees=TREES, levels=LEVELS, candidates=CANDIDATES
            )
        )(here)
        out = np.asarray(forest.predict(found, here.x, here, own_task))[..., 0]
        draws = list(drawn(key, len(x)))
        often = [
            np.asarray(
                jax.random.poisson(jax.random.fold_in(jax.random.fold_in(key, t), 1), 1.0, (64,))
            )
            for t in range(TREES)
        ]
    at = np.arange(1, oblivious.BINS + 1) / (oblivious.BINS + 1)
    for m in range(2):
        trains = np.arange(len(x)) % 2 != 0
        cuts, mean = np.quantile(x[trains], at, axis=0), y[trains].mean()
        total = np.zeros(len(x))
        for t, (_, levels) in enumerate(draws):
            weight = np.where(trains, often[t], 0.0)
            leaf = np.zeros(len(x), int)
            for u in levels[: h["depth"][m]]:
                features = (u[0] * x.shape[1]).astype(int)
                chosen = cuts[(u[1] * oblivious.BINS).astype(int), features]
                places = [2 * leaf + (x[:, f] > c) for f, c in zip(features, chosen, strict=True)]
                gains = [gain(place, weight, mean - y, h["penalty"][m]) for place in places]
                leaf = places[int(np.argmax(gains))]
            for k in range(2 ** h["depth"][m]):
                own = leaf == k
                held = weight[own].sum() + h["penalty"][m]
                total[own] += (weight * (y - mean))[own].sum() / held
        p = np.clip(mean + total / TREES, 1e-4, 1 - 1e-4)
        np.testing.assert_allclose(1 / (1 + np.exp(-out[m, 0])), p, atol=1e-10)


def gain(place, weight, away, penalty):
    sums = [((weight * away)[place == k].sum(), weight[place == k].sum()) for k in range(8)]
    return sum(g**2 / (held + penalty) for g, held in sums)


def drawn(key, n):
    """What is random in a tree: the candidates of every level, and which rows are seen."""
    for t in range(TREES):
        own = jax.random.fold_in(key, t)
        rows = np.asarray(jax.random.uniform(jax.random.fold_in(own, 1), (n,)))
        levels = [
            np.asarray(jax.random.uniform(key, (2, CANDIDATES)))
            for key in jax.random.split(own, LEVELS)
        ]
        yield rows, levels


def grown(x, y, trains, h, draws, kind, outputs):
    at = np.arange(1, oblivious.BINS + 1) / (oblivious.BINS + 1)
    thresholds = np.quantile(x[trains], at, axis=0)
    target = np.eye(outputs)[y] if kind == "multiclass" else y[:, None].astype(float)
    mean = target[trains].mean(0)
    base = {
        "regression": lambda: mean,
        "binary": lambda: np.log(mean / (1 - mean)),
        "multiclass": lambda: np.log(mean),
    }
    score = np.tile(base[kind](), (len(x), 1))
    for rows, levels in draws:
        p = softmax(score) if kind == "multiclass" else 1 / (1 + np.exp(-score))
        p = score if kind == "regression" else p
        gradient, hessian = p - target, np.ones_like(p) if kind == "regression" else p * (1 - p)
        seen = trains & (rows < h["rows"])
        leaf, chosen = np.zeros(len(x), int), []
        for u in levels[: int(h["depth"])]:
            features = (u[0] * x.shape[1]).astype(int)
            cuts = thresholds[(u[1] * oblivious.BINS).astype(int), features]
            gains = []
            for feature, cut in zip(features, cuts, strict=True):
                place = 2 * leaf + (x[:, feature] > cut)
                sums = [
                    (gradient[seen & (place == k)].sum(0), hessian[seen & (place == k)].sum(0))
                    for k in range(2 * leaf.max() + 2)
                ]
                gains.append(sum((g**2 / (s + h["penalty"])).sum() for g, s in sums))
            best = int(np.argmax(gains))
            leaf = 2 * leaf + (x[:, features[best]] > cuts[best])
            chosen.append((features[best], cuts[best]))
        value = np.zeros((2 ** int(h["depth"]), outputs))
        for k in range(len(value)):
            own = seen & (leaf == k)
            total = hessian[own].sum(0) + h["penalty"]
            value[k] = -h["rate"] * gradient[own].sum(0) / total
        score = score + value[leaf]
        yield *zip(*chosen, strict=True), value, score


def softmax(score):
    p = np.exp(score - score.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def loss(score, y, kind):
    if kind == "regression":
        return ((score[:, 0] - y) ** 2).sum()
    if kind == "binary":
        return (np.logaddexp(0, score[:, 0]) - y * score[:, 0]).sum()
    return -np.log(softmax(score)[np.arange(len(y)), y]).sum()
