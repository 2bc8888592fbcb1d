"""What may be wrong with an episode that somebody made by hand."""

import numpy as np

from metahpo.problems.few_shot import Episode, Examples


def check_episode(episode: Episode, ways: int | None = None) -> None:
    """Checks an episode of concrete arrays on the host, before it enters a compiled program.

    Args:
        episode: to be checked; the query may be ``None``.
        ways: the number of classes; ``None`` for regression, where ``y`` holds values.

    Raises:
        ValueError: if sizes or shapes do not fit together, a value is not finite, labels are not
            integers 0 to ``ways - 1``, a class is missing in the support set, or the same image
            is in both parts (two drawings may be equal pixel by pixel: that counts too).

    Example:
        >>> import jax, metahpo as mh
        >>> episode = mh.problems.sinusoid(shots=5).sample(jax.random.key(0))
        >>> mh.problems.check_episode(episode)
    """
    parts = {"support": _that_count("support", episode.support)}
    if episode.query is not None:
        parts["query"] = _that_count("query", episode.query)
    for name, part in parts.items():
        _check_values(name, part)
        if ways is not None:
            _check_labels(name, np.asarray(part.y), ways)
    if episode.query is not None:
        _check_apart(np.asarray(parts["support"].x), np.asarray(parts["query"].x))


def _that_count(name: str, part: Examples) -> Examples:
    """Without the rows of weight 0."""
    if part.weight is None:
        return part
    x, y, weight = (np.asarray(leaf) for leaf in part)
    if weight.shape != y.shape[:1] or not (weight >= 0).all() or not np.isfinite(weight).all():
        raise ValueError(f"{name}.weight must be finite and at least 0, one a row, got {weight}")
    return Examples(x[weight > 0], y[weight > 0])


def _check_values(name: str, part: Examples) -> None:
    x, y = np.asarray(part.x), np.asarray(part.y)
    if not x.ndim or not y.ndim or len(x) != len(y):
        raise ValueError(f"{name}: x has the shape {x.shape} and y {y.shape}, one row an example")
    if not len(x):
        raise ValueError(f"{name}: there is no example")
    for label, values in (("x", x), ("y", y)):
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{name}.{label}: {len(bad)} of {len(x)} examples are not finite, "
                f"the first is example {bad[0]}"
            )


def _check_labels(name: str, y: np.ndarray, ways: int) -> None:
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{name}.y must be integers [n], got {y.dtype} {list(y.shape)}")
    found = np.unique(y)
    wrong = found[(found < 0) | (found >= ways)]
    if len(wrong):
        raise ValueError(f"{name}.y: labels must be 0 to {ways - 1}, got {wrong.tolist()}")
    if name == "support" and len(found) < ways:
        missing = sorted(set(range(ways)) - set(found.tolist()))
        raise ValueError(f"support.y: {ways} ways, but no example has the label {missing}")


def _check_apart(support: np.ndarray, query: np.ndarray) -> None:
    if support.shape[1:] != query.shape[1:]:
        raise ValueError(
            f"examples of the support set have the shape {support.shape[1:]}, "
            f"those of the query set {query.shape[1:]}"
        )
    # Adding zero makes -0.0 and 0.0 one, so that equal values have equal bytes.
    dtype = np.result_type(support, query)
    where = {(row + dtype.type(0)).tobytes(): i for i, row in enumerate(support.astype(dtype))}
    both = [
        (where[image], j)
        for j, row in enumerate(query.astype(dtype))
        if (image := (row + dtype.type(0)).tobytes()) in where
    ]
    if both:
        raise ValueError(
            f"{len(both)} of {len(query)} query examples are in the support set too: "
            f"query {both[0][1]} is support {both[0][0]}"
        )
