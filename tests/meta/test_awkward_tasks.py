"""Learners on data that is not the usual floats; types are read off traces, nothing is compiled."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from learner_table import NAMES, TABLE

import metahpo as mh

pytestmark = pytest.mark.slow  # every learner once for every type

KEYS = {"typed": jax.random.key, "old": jax.random.PRNGKey}


def is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


@functools.cache
def traced(name, dtype, key="typed"):
    """Shapes and types of all that a learner makes of data of a type."""
    row = TABLE[name]
    family = row.family()

    def sample(key):
        return jax.tree.map(lambda x: x.astype(dtype) if is_float(x) else x, family.sample(key))

    def run(key):
        problem = row.make(family._replace(sample=sample), row.number)
        hparams, task = problem.initial(key), problem.sample(key)
        start = problem.init(key, hparams, task)
        trained = mh.inner.unroll(problem, row.steps)(key, hparams, task)
        loss = problem.loss(key, hparams, task, trained)
        grad = mh.hypergrad.reverse(problem, row.steps).estimate(key, hparams, task, ())[0].grad
        adapt, predict = mh.meta.learner(problem, row.steps)
        outputs = predict(adapt(hparams, task.support, key), task.query.x)
        return hparams, grad, start, trained, loss, outputs

    return jax.eval_shape(run, KEYS[key](0))


def same_types(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_types_follow_the_data(name, dtype):
    with jax.enable_x64(dtype == "float32"):  # where float32 is not the default
        hparams, grad, start, trained, loss, outputs = traced(name, dtype)
    same_types(grad, hparams)
    same_types(start, trained)
    assert {leaf.dtype for leaf in jax.tree.leaves(hparams) if is_float(leaf)} == {jnp.dtype(dtype)}
    assert outputs.dtype == dtype
    assert loss.shape == () and loss.dtype in (jnp.float32, jnp.dtype(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_old_style_keys_will_do(name):
    same_types(traced(name, "bfloat16", "old"), traced(name, "bfloat16"))


@pytest.mark.parametrize("name", NAMES)
def test_a_mesh_with_explicit_axes_may_be_set(name):
    mesh = jax.make_mesh((1,), ("tasks",), axis_types=(AxisType.Explicit,))
    plain = traced(name, "bfloat16")
    with jax.set_mesh(mesh):
        inside = traced.__wrapped__(name, "bfloat16")
    assert [x.shape for x in jax.tree.leaves(plain)] == [x.shape for x in jax.tree.leaves(inside)]
