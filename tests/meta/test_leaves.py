"""Which leaves are the head and which a normalisation, by the names of their layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import metahpo as mh
from metahpo.meta import leaves

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("path", "head", "norm"),
    [
        ("params/head/kernel", True, False),
        ("params/Head_1/kernel", True, False),
        ("params/multi_head_attention/out/kernel", False, False),
        ("params/number_of_heads", False, False),
        ("params/norm0/scale", False, True),
        ("params/LayerNorm_0/scale", False, True),
        ("params/BatchNorm_12/bias", False, True),
        ("params/batch_norm/bias", False, True),
        ("params/WeightNorm_0/scale", False, False),
        ("params/SpectralNorm_0/scale", False, False),
        ("params/normal/kernel", False, False),
    ],
)
def test_layers_are_told_by_their_whole_names(path, head, norm):
    assert leaves.in_head(path) == head
    assert leaves.in_norm(path) == norm


class Attentive(nn.Module):
    """With a layer whose name has ``head`` in it."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2, name="multi_head_attention")(x, x)
        return nn.Dense(5, name="head")(x.mean(1))


def sample(key):
    x, y = jax.random.normal(key, (10, 4, 4)), jnp.arange(10) % 5
    return mh.problems.Episode(
        *(mh.problems.Examples(x[rows], y[rows]) for rows in (slice(0, 5), slice(5, 10)))
    )


def family():
    return mh.problems.few_shot(sample, Attentive(), mh.problems.cross_entropy, ways=5)


def test_anil_of_a_transformer_adapts_its_last_layer_alone():
    problem = mh.meta.anil(family(), 0.1)
    state = jax.eval_shape(problem.init, KEY, jax.eval_shape(problem.initial, KEY), sample(KEY))
    assert sorted(state.adapted.params) == ["params/head/bias", "params/head/kernel"]


@pytest.mark.parametrize(
    "make",
    [
        lambda g: mh.meta.maml(family(), 1e-3, gradient=g),
        lambda g: mh.meta.meta_sgd(family(), gradient=g),
        lambda g: mh.meta.anil(family(), 1e-3, gradient=g),
        lambda g: mh.meta.task_heads(family(), 1e-3, gradient=g),
        lambda g: mh.meta.maml_plus_plus(family(), 1, gradient=g),
    ],
    ids=["maml", "meta_sgd", "anil", "task_heads", "maml_plus_plus"],
)
def test_a_gradient_of_ones_own_sees_the_parameters_at_their_places(make):
    seen = []

    def gradient(loss):
        def of(params):
            seen.append(set(params["params"]))
            grads = jax.grad(loss)(params)
            head = jax.tree.map(lambda g: 10 * g, grads["params"]["head"])
            return {"params": {**grads["params"], "head": head}}

        return of

    problem = make(gradient)
    hparams = jax.eval_shape(problem.initial, KEY)
    jax.eval_shape(mh.inner.unroll(problem, 1), KEY, hparams, sample(KEY))
    assert seen and all(names == {"multi_head_attention", "head"} for names in seen)


def test_meta_sgd_takes_one_rate_for_a_layer_or_for_all():
    problem = mh.meta.meta_sgd(mh.problems.sinusoid(shots=5, hidden=(8,)))
    params, task = problem.initial(KEY)["params"], problem.sample(jax.random.key(1))
    loss = jax.jit(
        lambda rates: mh.inner.outer_loss(problem, 1)(
            KEY, {"params": params, "rates": rates}, task
        )[0]
    )
    full = loss(jax.tree.map(lambda p: jnp.full_like(p, 0.02), params))
    assert loss(jnp.array(0.02)) == pytest.approx(float(full), rel=1e-5)
    a_layer = {"params": {name: jnp.array(0.02) for name in params["params"]}}
    assert loss(a_layer) == pytest.approx(float(full), rel=1e-5)
