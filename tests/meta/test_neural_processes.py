"""Conditional and attentive neural processes against numpy, and what must not change them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

import metahpo as mh
from metahpo.problems import Episode, Examples

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y, NEW = RNG.normal(size=(6, 1)), RNG.normal(size=(6, 1)), RNG.normal(size=(5, 1))
FAMILY = mh.problems.sinusoid(shots=6, queries=5)


def conditional(family=FAMILY):
    return mh.meta.neural_process(family, width=8, depth=2)


def attentive(family=FAMILY):
    return mh.meta.attentive_neural_process(family, width=8, depth=2, heads=2)


MAKERS = pytest.mark.parametrize("make", [conditional, attentive])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@functools.cache
def compiled(make):
    """A process with its weights, and its predictions."""
    problem = make()
    adapt, _ = mh.meta.learner(problem)

    def run(hparams, x, y, new):
        return mh.meta.gaussian(adapt(hparams, Examples(x, y), KEY), new)

    return jax.tree.map(np.asarray, jax.jit(problem.initial)(KEY)), jax.jit(run)


def mlp(layers, x):
    for i, layer in enumerate(layers):
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0) if i + 1 < len(layers) else x
    return x


def decode(hparams, read):
    mean, raw = np.split(mlp(hparams["decoder"], np.concatenate([NEW, read], axis=1)), 2, axis=1)
    return mean, 0.1 + 0.9 * np.log1p(np.exp(raw))


def test_conditional_process_decodes_the_mean_representation():
    hparams, run = compiled(conditional)
    mean = mlp(hparams["encoder"], np.concatenate([X, Y], axis=1)).mean(axis=0)
    known = decode(hparams, np.tile(mean, (5, 1)))
    found = run(hparams, X, Y, NEW)
    np.testing.assert_allclose(found, known, rtol=1e-11)


def test_attentive_process_decodes_what_each_head_reads():
    hparams, run = compiled(attentive)
    values = mlp(hparams["encoder"], np.concatenate([X, Y], axis=1))
    read = np.zeros((5, 2, 4))
    for h in range(2):

        def project(name, x, h=h):
            layer = hparams["heads"][name]
            return x @ layer["kernel"][:, h] + layer["bias"][h]

        queries = project("query", mlp(hparams["keys"], NEW))
        keys = project("key", mlp(hparams["keys"], X))
        weights = softmax(queries @ keys.T / 2, axis=1)  # the root of four dimensions a head
        read[:, h] = weights @ project("value", values)
    known = decode(hparams, read.reshape(5, 8))
    found = run(hparams, X, Y, NEW)
    np.testing.assert_allclose(found, known, rtol=1e-11)


@MAKERS
def test_outer_loss_is_the_negative_log_likelihood_and_the_prediction_the_mean(make):
    problem, target = make(), RNG.normal(size=(5, 1))
    hparams, run = compiled(make)
    task = Episode(Examples(X, Y), Examples(NEW, target))

    def judge(hparams):
        loss, state = mh.inner.outer_loss(problem, steps=0)(KEY, hparams, task)
        return loss, problem.predict(state, NEW)

    loss, prediction = jax.jit(judge)(hparams)
    mean, std = run(hparams, X, Y, NEW)
    np.testing.assert_allclose(loss, -norm(mean, std).logpdf(target).mean(), rtol=1e-12)
    np.testing.assert_allclose(prediction, mean, rtol=1e-13)


@MAKERS
def test_neither_order_nor_repetition_of_the_support_matters(make):
    (hparams, run), order = compiled(make), RNG.permutation(6)
    known = run(hparams, X, Y, NEW)
    for rows in (order, np.repeat(order, 2)):
        np.testing.assert_allclose(run(hparams, X[rows], Y[rows], NEW), known, rtol=1e-11)
    other = run(hparams, X, Y[order], NEW)
    assert not np.allclose(other.mean, known.mean, rtol=1e-3)  # which value belongs where does


@MAKERS
def test_queries_are_consistent_whatever_else_is_asked(make):
    """Marginals do not depend on the other queries, as those of a stochastic process must not."""
    hparams, run = compiled(make)
    together = run(hparams, X, Y, NEW)
    alone = [run(hparams, X, Y, NEW[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), rtol=1e-11)


def test_attention_that_does_not_choose_gives_the_conditional_process():
    hparams, run = compiled(attentive)
    blind = jax.tree.map(np.zeros_like, hparams["heads"]["query"])
    whole = {"kernel": np.eye(8).reshape(8, 2, 4), "bias": np.zeros((2, 4))}
    heads = hparams["heads"] | {"query": blind, "value": whole}
    plain = {name: hparams[name] for name in ("encoder", "decoder")}
    np.testing.assert_allclose(
        run(hparams | {"heads": heads}, X, Y, NEW),
        compiled(conditional)[1](plain, X, Y, NEW),
        rtol=1e-11,
    )


@MAKERS
def test_weights_take_the_type_of_the_data(make):
    family = FAMILY._replace(
        sample=lambda key: jax.tree.map(jnp.float32, FAMILY.sample(key)),
    )
    problem = make(family)
    hparams = jax.jit(problem.initial)(KEY)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(hparams))
    loss = jax.jit(mh.inner.outer_loss(problem, steps=0))
    assert loss(KEY, hparams, jax.jit(problem.sample)(KEY))[0].dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "wrong", "says"),
    [
        (mh.meta.neural_process, {"width": 0}, "width must be a whole number of at least 1, got 0"),
        (mh.meta.neural_process, {"min_std": 0.0}, "min_std must lie in"),
        (
            mh.meta.attentive_neural_process,
            {"depth": 0},
            "depth must be a whole number of at least 1, got 0",
        ),
        (mh.meta.attentive_neural_process, {"width": 9, "heads": 2}, "heads=2, width=9"),
    ],
)
def test_wrong_arguments_are_refused(make, wrong, says):
    with pytest.raises(ValueError, match=says):
        make(FAMILY, **wrong)


@MAKERS
def test_labels_are_refused(make):
    family = FAMILY._replace(sample=lambda key: Episode(Examples(X, np.arange(6)), None))
    with pytest.raises(ValueError, match=r"floats \[n, d\], got int64\[6\]"):
        make(family).initial(KEY)
