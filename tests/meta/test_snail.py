"""SNAIL against the whole sequence in numpy: what sees what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

import metahpo as mh
from metahpo.base import Network
from metahpo.problems import Episode, Examples, cross_entropy, few_shot, squared_error

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
HALF = Network(lambda key, x: {"w": 0.5 * jnp.eye(x.shape[1])}, lambda p, x: x @ p["w"])
X, NEW = RNG.normal(size=(6, 3)), RNG.normal(size=(4, 3))
Y = {"values": RNG.normal(size=(6, 2)), "labels": np.array([2, 0, 1, 1, 0, 2])}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def make(kind, network=HALF, y=None):
    examples = Examples(jnp.asarray(X), jnp.asarray(Y[kind] if y is None else y))
    criterion = squared_error if kind == "values" else cross_entropy
    family = few_shot(lambda key: Episode(examples, examples), network, criterion)
    return mh.meta.snail(
        family, ways=None if kind == "values" else 3, filters=5, keys=4, shuffle=False
    )


@functools.cache
def compiled(kind):
    """One learner of each kind, with its weights: adapting, and predicting after it."""
    problem = make(kind)
    adapt, predict = mh.meta.learner(problem)

    def run(hparams, x, y, new):
        return predict(adapt(hparams, Examples(x, y), KEY), new)

    return jax.jit(problem.initial)(KEY), jax.jit(adapt), jax.jit(run)


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def whole_sequence(hparams, h):
    """The outputs at every place of a sequence, one place after the other."""
    for block in hparams["blocks"]:
        for i, layer in enumerate(block if isinstance(block, list) else [block]):
            rows = []
            for t in range(len(h)):
                if isinstance(block, list):
                    before = h[t - 2**i] if t >= 2**i else np.zeros_like(h[t])
                    both = dense(layer["taps"], np.concatenate([before, h[t]]))
                    rows.append(np.tanh(both[:5]) * expit(both[5:]))
                else:
                    q, k, v = np.split(dense(layer["look"], h[: t + 1]), 3, axis=1)
                    rows.append(softmax(k @ q[-1] / 2) @ v)  # the root of four keys
            h = np.concatenate([h, np.stack(rows)], axis=1)
    return dense(hparams["head"], h)


@pytest.mark.parametrize("kind", ["values", "labels"])
@pytest.mark.parametrize("n", [6, 1])
def test_a_query_is_the_last_item_of_the_sequence(kind, n):
    hparams, _, predictions = compiled(kind)
    y = Y[kind][:n]
    found = predictions(hparams, X[:n], y, NEW)
    hparams = jax.tree.map(np.asarray, hparams)
    known_y = np.eye(3)[y] if kind == "labels" else y
    scale = 0.5 if kind == "labels" else 1.0  # labels come with the encoder
    support = np.concatenate([scale * X[:n], known_y, np.ones((n, 1))], axis=1)
    for x, row in zip(NEW, found, strict=True):
        query = np.concatenate([scale * x, np.zeros(known_y.shape[1] + 1)])
        known = whole_sequence(hparams, np.concatenate([support, query[None]]))[-1]
        np.testing.assert_allclose(row, known, rtol=1e-10)


def test_the_convolutions_span_the_support():
    """With the attentions silenced the first example still reaches the query: 1 + 2 + 4 > 6."""
    hparams, _, predictions = compiled("values")
    assert [len(block) for block in hparams["blocks"] if isinstance(block, list)] == [3, 3]
    silent = [
        block if isinstance(block, list) else jax.tree.map(jnp.zeros_like, block)
        for block in hparams["blocks"]
    ]
    hparams = {**hparams, "blocks": silent}
    known = predictions(hparams, X, Y["values"], NEW)
    changed = Y["values"] + np.eye(6)[0][:, None]
    assert np.abs(predictions(hparams, X, changed, NEW) - known).min() > 1e-8


def test_support_items_do_not_see_later_ones():
    hparams, adapt, _ = compiled("values")
    later = X + 5.0 * (np.arange(6) >= 4)[:, None]
    states = [adapt(hparams, Examples(x, Y["values"]), KEY) for x in (X, later)]
    for one, two in zip(*(state.seen for state in states), strict=True):
        np.testing.assert_allclose(one[:4], two[:4], rtol=1e-12)
        assert np.abs(one[4:] - two[4:]).max() > 0.1


def test_queries_do_not_see_each_other():
    hparams, _, predictions = compiled("labels")
    together = predictions(hparams, X, Y["labels"], NEW)
    for i in range(4):  # the others far away
        others = np.where(np.arange(4)[:, None] == i, NEW, 9.0)
        found = predictions(hparams, X, Y["labels"], others)
        np.testing.assert_allclose(found[i], together[i], rtol=1e-11)


def test_the_support_is_shuffled_by_the_key_with_its_targets():
    problem = mh.meta.snail(mh.problems.sinusoid(shots=5))
    look = {"look": {"kernel": np.ones((3, 6)), "bias": np.zeros(6)}}
    hparams = {"network": {}, "blocks": [look], "head": {"kernel": np.ones((5, 1)), "bias": 0.0}}
    support = Examples(X[:, :1], X[:, 1:2])
    orders = set()
    for seed in range(4):
        (seen,) = problem.init(jax.random.key(seed), hparams, Episode(support, None)).seen
        order = np.argsort(seen[:, 0])
        np.testing.assert_array_equal(seen[order, :2], X[np.argsort(X[:, 0]), :2])
        orders.add(tuple(order.tolist()))
    assert len(orders) > 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="filters must be a whole number of at least 1, got 0"):
        mh.meta.snail(mh.problems.sinusoid(shots=5), filters=0)
    with pytest.raises(ValueError, match=r"0 \.\.\. 2 for 3 ways"):
        make("labels", y=np.arange(6)).initial(KEY)
    with pytest.raises(ValueError, match="ways"):
        make("values", y=np.arange(6)).initial(KEY)
    with pytest.raises(ValueError, match="network"):
        make("labels", network=None)
