"""Episodes that somebody made by hand."""

import jax
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems import Episode, Examples, check_episode


def made(**changes):
    rng = np.random.default_rng(0)
    parts = {
        "support_x": rng.normal(size=(3, 2, 2)),
        "support_y": np.array([0, 2, 1]),
        "query_x": rng.normal(size=(4, 2, 2)),
        "query_y": np.array([0, 0, 1, 1]),
    } | changes
    return Episode(
        Examples(parts["support_x"], parts["support_y"]),
        Examples(parts["query_x"], parts["query_y"]),
    )


def with_value(array, where, value):
    array = array.copy()
    array[where] = value
    return array


def test_accepts_good_episodes():
    check_episode(made(), ways=3)  # a query set need not hold every class
    check_episode(made()._replace(query=None), ways=3)
    check_episode(mh.problems.sinusoid(shots=5).sample(jax.random.key(0)))
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 4, 4), np.uint8)
    check_episode(mh.problems.episodes(images, 3, 2, 2)(jax.random.key(0)), ways=3)


ONE = made()
BAD = [
    ({"support_y": np.array([0, 1, 3])}, r"support.y: labels must be 0 to 2, got \[3\]"),
    ({"query_y": np.array([0, -1, 7, 1])}, r"query.y: labels must be 0 to 2, got \[-1, 7\]"),
    ({"support_y": np.array([0, 2, 2])}, r"3 ways, but no example has the label \[1\]"),
    ({"support_y": np.array([0.0, 1.0, 2.0])}, r"support.y must be integers \[n\], got float64"),
    ({"support_y": np.zeros((3, 1), int)}, r"must be integers \[n\], got int64 \[3, 1\]"),
    ({"support_y": np.array([0, 1])}, r"support: x has the shape \(3, 2, 2\) and y \(2,\)"),
    ({"query_x": np.zeros((0, 2, 2)), "query_y": np.zeros(0, int)}, "query: there is no example"),
    ({"query_x": np.zeros((4, 2, 3))}, r"have the shape \(2, 2\), those of the query set \(2, 3\)"),
    (
        {"query_x": with_value(ONE.query.x, (2, 1, 0), np.inf)},
        "query.x: 1 of 4 examples are not finite, the first is example 2",
    ),
    (
        {"query_x": with_value(ONE.query.x, 3, ONE.support.x[1])},
        "1 of 4 query examples are in the support set too: query 3 is support 1",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_refuses_and_says_what_and_where(changes, message):
    with pytest.raises(ValueError, match=message):
        check_episode(made(**changes), ways=3)


def test_signs_of_zero_do_not_hide_an_overlap():
    zeros = {"support_x": np.zeros((1, 2)), "support_y": np.zeros((1, 1))}
    with pytest.raises(ValueError, match="1 of 1 query examples"):
        check_episode(made(**zeros, query_x=-np.zeros((1, 2)), query_y=np.ones((1, 1))))


def test_targets_of_regressions_must_be_finite():
    broken = made(query_y=np.array([0.0, np.nan, 1.0, 2.0]))
    with pytest.raises(ValueError, match="query.y: 1 of 4 examples are not finite"):
        check_episode(broken)
