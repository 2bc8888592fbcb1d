"""Tables to classify that anyone may redistribute: scikit-learn's bundled ones, and generated ones.

Of every table no more than ``ROWS`` rows are kept, in a random order; what is generated differs in
size, informative columns, classes, noise, imbalance and in how crooked the border is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn import datasets

ROWS = 600
CROOKED = ("moons", "circles", "quantiles", "hastie", "friedman1", "friedman3", "xor", "blobs")


class Table(NamedTuple):
    """Rows to classify.

    Attributes:
        name: of the table.
        group: what near-duplicates have in common.
        x: ``f64[N, F]``.
        y: ``i64[N]``, 0 ... K - 1.
    """

    name: str
    group: str
    x: np.ndarray
    y: np.ndarray


def tables() -> Iterator[Table]:
    """All of them, the same at every call."""
    for number, (name, group, x, y) in enumerate((*_bundled(), *_generated())):
        order = np.random.default_rng(number).permutation(len(x))[:ROWS]
        yield Table(name, group, x[order], np.unique(y[order], return_inverse=True)[1])


def _bundled() -> Iterator[tuple]:
    for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer):
        name = load.__name__.removeprefix("load_")
        yield name, name, *load(return_X_y=True)
    x, y = datasets.load_digits(return_X_y=True)
    yield "digits", "digits", x, y
    yield "digits, odd or even", "digits", x, y % 2
    yield "digits, 8 or not", "digits", x, y == 8
    some = np.isin(y, (3, 8, 9))
    yield "digits, 3, 8 and 9", "digits", x[some], y[some]
    x, y = datasets.load_diabetes(return_X_y=True)
    yield "diabetes, above the median", "diabetes", x, y > np.median(y)
    yield "diabetes, above the ninth decile", "diabetes", x, y > np.quantile(y, 0.9)


def _generated() -> Iterator[tuple]:
    rng = np.random.default_rng(2026)
    for number in range(16):
        columns = int(rng.integers(4, 41))
        informative = int(rng.integers(3, min(columns, 12) + 1))
        classes = int(rng.choice((2, 2, 2, 3, 5)))
        share = rng.dirichlet(np.full(classes, rng.choice((2.0, 20.0)))).clip(0.08)
        x, y = datasets.make_classification(
            int(rng.integers(120, ROWS + 1)),
            columns,
            n_informative=informative,
            n_redundant=int(rng.integers(0, columns - informative + 1)),
            n_classes=classes,
            n_clusters_per_class=1 if classes > 3 else int(rng.integers(1, 4 - (classes > 2))),
            weights=list(share / share.sum()),
            flip_y=float(rng.uniform(0.0, 0.2)),
            class_sep=float(rng.uniform(0.5, 2.0)),
            random_state=number,
        )
        yield f"classification {number}", f"classification {number}", x, y
    for kind in CROOKED:
        for number, rows in enumerate((150, ROWS)):
            noise = float(rng.uniform(0.05, 0.3))
            seed = int(rng.integers(1 << 30))
            x, y = _crooked(kind, rows, noise, seed)
            useless = np.random.default_rng(seed).normal(size=(rows, 6 * number))
            yield f"{kind} {number}", f"{kind} {number}", np.hstack((x, useless)), y


def _crooked(kind: str, rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A border that is no plane."""
    rng = np.random.default_rng(seed)
    if kind == "moons":
        return datasets.make_moons(rows, noise=noise, random_state=seed)
    if kind == "circles":
        return datasets.make_circles(rows, noise=noise, factor=0.6, random_state=seed)
    if kind == "quantiles":
        return datasets.make_gaussian_quantiles(
            n_samples=rows, n_features=4, n_classes=4, random_state=seed
        )
    if kind == "hastie":
        return datasets.make_hastie_10_2(rows, random_state=seed)
    if kind.startswith("friedman"):
        make = getattr(datasets, f"make_{kind}")
        x, y = make(rows, random_state=seed)
        return x, y + noise * np.std(y) * rng.normal(size=rows) > np.quantile(y, 0.5 + noise)
    if kind == "blobs":
        return datasets.make_blobs(rows, 6, centers=6, cluster_std=6 * noise + 2, random_state=seed)
    x = rng.uniform(-1.0, 1.0, (rows, 3))
    return x, (np.prod(np.sign(x[:, :2]), axis=1) > 0) ^ (rng.uniform(size=rows) < noise / 2)
