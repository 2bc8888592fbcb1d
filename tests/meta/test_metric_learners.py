"""Prototypical, matching and relation networks against numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

import metahpo as mh
from metahpo.base import Network
from metahpo.problems import Episode, Examples, cross_entropy, few_shot

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
# Linear, so that embeddings are known: x @ matrix.
LINEAR = Network(lambda key, x: {"matrix": jnp.eye(x.shape[1])}, lambda p, x: x @ p["matrix"])
Y = np.array([0, 2, 1, 1, 2, 0, 1])  # 2, 3 and 2 shots
X, NEW = RNG.normal(size=(7, 4)), RNG.normal(size=(5, 4))
MATRIX = RNG.normal(size=(4, 3))
MAKERS = pytest.mark.parametrize("make", [mh.meta.prototypical, mh.meta.matching, mh.meta.relation])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def make_family(x=X, y=Y, network=LINEAR):
    examples = Examples(x, y)
    return few_shot(lambda key: Episode(examples, examples), network, cross_entropy)


def predictor(problem):
    adapt, predict = mh.meta.learner(problem)
    run = jax.jit(lambda h, support, x: predict(adapt(h, support, KEY), x))
    return lambda hparams, support=(X, Y), x=NEW: run(hparams, Examples(*support), x)


def predictions(problem, hparams, support=(X, Y), x=NEW):
    return predictor(problem)(hparams, support, x)


@functools.cache
def compiled(make):
    """A learner of three ways with its weights."""
    problem = make(make_family(), ways=3)
    return jax.jit(problem.initial)(KEY), predictor(problem)


def cosines(x, y):
    return (x @ y.T) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))


def centers():
    return np.stack([(X @ MATRIX)[label == Y].mean(axis=0) for label in range(3)])


def test_prototypical_probabilities_are_a_softmax_of_squared_distances():
    problem = mh.meta.prototypical(make_family(), ways=3)
    logits = predictions(problem, {"network": {"matrix": MATRIX}})
    distances = ((NEW @ MATRIX)[:, None] - centers()) ** 2
    known = log_softmax(-distances.sum(axis=2), axis=1)
    np.testing.assert_allclose(log_softmax(logits, axis=1), known, rtol=1e-12, atol=1e-13)


def test_prototypical_cosines_are_scaled():
    problem = mh.meta.prototypical(make_family(), ways=3, distance="cosine", scale=3.0)
    logits = predictions(problem, {"network": {"matrix": MATRIX}})
    np.testing.assert_allclose(logits, 3 * cosines(NEW @ MATRIX, centers()), rtol=1e-12)


def test_prototypes_of_whitened_data_make_the_linear_discriminant():
    """With the within-class covariance removed the Bayes rule of equal Gaussian classes."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mix, y = RNG.normal(size=(4, 4)), np.arange(60) % 3
    x = (RNG.normal(size=(60, 4)) + 2 * RNG.normal(size=(3, 4))[y]) @ mix
    residuals = np.concatenate([x[y == k] - x[y == k].mean(axis=0) for k in range(3)])
    covariance = residuals.T @ residuals / 60
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    new = 3 * RNG.normal(size=(50, 4)) @ mix
    known = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y).predict_log_proba(new)
    problem = mh.meta.prototypical(make_family(x, y), ways=3, scale=0.5)
    hparams = {"network": {"matrix": whitening}}
    logits = predictions(problem, hparams, (x, y), new)
    np.testing.assert_allclose(log_softmax(logits, axis=1), known, rtol=1e-8, atol=1e-10)


def test_matching_probabilities_are_the_attention_paid_to_the_classes_members():
    problem = mh.meta.matching(make_family(), ways=3, scale=2.0)
    attention = softmax(2 * cosines(NEW @ MATRIX, X @ MATRIX), axis=1)
    found = predictions(problem, {"network": {"matrix": MATRIX}})
    np.testing.assert_allclose(np.exp(found), attention @ np.eye(3)[Y], rtol=1e-12)


def lstm(layer, x, hidden, cell):
    gates = np.concatenate([x, hidden]) @ layer["kernel"] + layer["bias"]
    enter, forget, leave, new = np.split(gates, 4)
    cell = expit(forget + 1) * cell + expit(enter) * np.tanh(new)
    return expit(leave) * np.tanh(cell), cell


def test_matching_in_context_reads_the_support_both_ways_and_again_for_the_query():
    problem = mh.meta.matching(make_family(), ways=3, context_steps=3)
    hparams = jax.jit(problem.initial)(KEY)
    context = jax.tree.map(np.asarray, hparams["context"])
    states = {"forward": np.zeros_like(X), "backward": np.zeros_like(X)}
    for name, order in (("forward", range(7)), ("backward", range(6, -1, -1))):
        hidden = cell = np.zeros(4)
        for i in order:
            hidden, cell = lstm(context[name], X[i], hidden, cell)
            states[name][i] = hidden
    support = X + states["forward"] + states["backward"]
    rows = []
    for x in NEW:
        hidden = cell = np.zeros(4)
        for _ in range(3):
            read = softmax(support @ hidden) @ support
            hidden, cell = lstm(context["query"], np.concatenate([x, read]), hidden, cell)
            hidden = hidden + x
        rows.append(hidden)
    known = softmax(cosines(np.stack(rows), support), axis=1) @ np.eye(3)[Y]
    np.testing.assert_allclose(np.exp(predictions(problem, hparams)), known, rtol=1e-11)


def test_relation_scores_compare_the_query_with_the_sums_of_the_classes():
    problem = mh.meta.relation(make_family(), ways=3, hidden=(6,))
    hparams = jax.jit(problem.initial)(KEY)
    first, last = (jax.tree.map(np.asarray, layer) for layer in hparams["relation"])
    sums = np.eye(3)[Y].T @ X
    known = np.zeros((5, 3))
    for i, x in enumerate(NEW):
        for k, center in enumerate(sums):
            hidden = np.concatenate([center, x]) @ first["kernel"] + first["bias"]
            known[i, k] = expit((np.maximum(hidden, 0) @ last["kernel"] + last["bias"])[0])
    np.testing.assert_allclose(predictions(problem, hparams), known, rtol=1e-12)
    labels = np.array([0, 2, 1, 1, 0])
    task = Episode(Examples(X, Y), Examples(NEW, labels))
    loss, _ = jax.jit(mh.inner.outer_loss(problem, steps=0))(KEY, hparams, task)
    np.testing.assert_allclose(loss, np.mean((known - np.eye(3)[labels]) ** 2), rtol=1e-12)


def test_relation_compares_maps_by_a_network_of_ones_own():
    encoder = mh.networks.conv4(None, 2, layers=1, norm="none", head="maps")
    comparison = mh.networks.conv4(1, 3, layers=1, norm="none")
    x, new = RNG.normal(size=(7, 4, 4, 1)), RNG.normal(size=(5, 4, 4, 1))
    problem = mh.meta.relation(make_family(x, Y, encoder), ways=3, comparison=comparison)
    hparams = jax.jit(problem.initial)(KEY)

    def scores(hparams):
        maps = encoder.apply(hparams["network"], x)  # f[7, 2, 2, 2]
        queries = encoder.apply(hparams["network"], new)
        pairs = [
            jnp.concatenate([sum(maps[i] for i in np.flatnonzero(label == Y)), query], axis=2)
            for query in queries
            for label in range(3)
        ]
        return comparison.apply(hparams["relation"], jnp.stack(pairs)).reshape(5, 3)

    known = expit(jax.jit(scores)(hparams))
    np.testing.assert_allclose(predictions(problem, hparams, (x, Y), new), known, rtol=1e-11)
    wrong = mh.meta.relation(make_family(x, Y, encoder), ways=3, comparison=encoder)
    with pytest.raises(ValueError, match=r"m = 15, but its outputs are \(15, 1, 1, 2\)"):
        predictions(wrong, wrong.initial(KEY), (x, Y), new)
    with pytest.raises(ValueError, match=r"\[n, e\]"):
        mh.meta.relation(make_family(x, Y, encoder), ways=3).initial(KEY)


@MAKERS
def test_learned_on_many_ways_serves_few(make):
    y = np.arange(7)
    hparams = jax.jit(make(make_family(X, y), ways=7).initial)(KEY)
    assert compiled(make)[1](hparams).shape == (5, 3)


@MAKERS
def test_queries_are_predicted_alike_together_and_alone(make):
    hparams, run = compiled(make)
    together = run(hparams)
    for i in range(5):
        np.testing.assert_allclose(together[i : i + 1], run(hparams, x=NEW[i : i + 1]), rtol=1e-12)


@MAKERS
def test_order_of_the_support_does_not_matter(make):
    (hparams, run), order = compiled(make), RNG.permutation(7)
    np.testing.assert_allclose(run(hparams), run(hparams, (X[order], Y[order])), rtol=1e-12)


@MAKERS
def test_renamed_classes_have_renamed_outputs(make):
    (hparams, run), names = compiled(make), np.array([2, 0, 1])
    renamed = run(hparams, (X, names[Y]))
    np.testing.assert_allclose(renamed[:, names], run(hparams), rtol=1e-12)


@pytest.mark.parametrize("make", [mh.meta.prototypical, mh.meta.matching])
def test_a_traced_class_without_examples_is_never_predicted(make):
    problem = make(make_family(), ways=3)

    def loss(matrix, y):
        hparams = {"network": {"matrix": matrix}}
        task = Episode(Examples(X, y), Examples(NEW, jnp.zeros(5, int)))
        value, state = mh.inner.outer_loss(problem, steps=0)(KEY, hparams, task)
        return value, problem.predict(state, NEW)

    lacking = np.where(Y == 2, 1, Y)
    (_, logits), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(MATRIX, lacking)
    assert np.all(logits[:, 2] == -np.inf)
    two = make(make_family(), ways=2)
    known = predictions(two, {"network": {"matrix": MATRIX}}, (X, lacking))
    np.testing.assert_allclose(logits[:, :2], known, rtol=1e-12)
    assert np.all(np.isfinite(grad))


@MAKERS
def test_a_traced_label_out_of_range_makes_the_loss_not_finite(make):
    problem = make(make_family(), ways=3)
    loss = jax.jit(mh.inner.outer_loss(problem, steps=0))
    hparams, task = compiled(make)[0], problem.sample(KEY)
    assert np.isfinite(loss(KEY, hparams, task)[0])
    wrong = task._replace(support=Examples(X, Y + 1))
    assert not np.isfinite(loss(KEY, hparams, wrong)[0])


def test_an_embedding_of_zero_has_a_finite_gradient():
    """Units that are all off have no direction, and yet must not stop the learning."""
    for problem in (
        mh.meta.prototypical(make_family(0 * X), ways=3, distance="cosine"),
        mh.meta.matching(make_family(0 * X), ways=3),
    ):
        loss = mh.inner.outer_loss(problem, steps=0)
        grad = jax.grad(lambda h, loss=loss: loss(KEY, h, make_family(0 * X).sample(KEY))[0])
        slopes = jax.jit(grad)({"network": {"matrix": MATRIX}})
        assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    ("make", "wrong", "says"),
    [
        (mh.meta.prototypical, {"ways": 1}, "ways must be a whole number of at least 2, got 1"),
        (mh.meta.prototypical, {"distance": "manhattan"}, "manhattan"),
        (mh.meta.matching, {"context_steps": -1}, "context_steps .* got -1"),
        (
            mh.meta.relation,
            {"hidden": (8, 0)},
            "a width of hidden must be a whole number of at least 1, got 0",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, wrong, says):
    with pytest.raises(ValueError, match=says):
        make(make_family(), **{"ways": 3, **wrong})


@MAKERS
def test_labels_that_do_not_fit_are_refused(make):
    with pytest.raises(ValueError, match=r"0 \.\.\. 1 for 2 ways, got \[0, 1, 2\]"):
        make(make_family(), ways=2).initial(KEY)
    with pytest.raises(ValueError, match="network"):
        make(make_family()._replace(network=None), ways=3)
