"""Runs whose hyperparameters and states hold what is not the usual floats."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import metahpo as mh

KEY = jax.random.key(0)
SPACE = {"lr": mh.Float(0.01, 0.5, log=True), "n": mh.Int(1, 3), "kind": mh.Choice(("a", "b"))}


def awkward_problem():
    """A training with one of everything in its state."""

    def init(key, h, task):
        return {
            "bfloat16": jnp.ones(2, jnp.bfloat16),
            "float32": jnp.ones(2, jnp.float32),
            "complex": jnp.ones(2, jnp.complex64),
            "typed": jax.random.key(3),
            "old": jax.random.PRNGKey(4),
            "flag": jnp.array(True),
            "count": 0,
        }

    def step(key, h, task, state):
        typed, sub = jax.random.split(state["typed"])
        old, other = jax.random.split(state["old"])
        noise = 0.01 * (jax.random.normal(sub, (2,)) + jax.random.normal(other, (2,)))
        return {
            "bfloat16": (state["bfloat16"] * (1 - h["lr"])).astype(jnp.bfloat16),
            "float32": (state["float32"] * (1 - h["lr"]) + noise).astype(jnp.float32),
            "complex": (state["complex"] * jnp.exp(1j * h["lr"])).astype(jnp.complex64),
            "typed": typed,
            "old": old,
            "flag": ~state["flag"],
            "count": state["count"] + 1,
        }

    def loss(key, h, task, state):
        floats = state["bfloat16"].sum() + (state["float32"] ** 2).sum()
        return floats + jnp.abs(state["complex"] - 1j).sum() + 0.0 * h["n"] * (1 + h["kind"])

    return mh.Problem(lambda key: None, init, step, loss)


def hparams():
    return {
        "bfloat16": jnp.ones(2, jnp.bfloat16),
        "float32": jnp.ones((), jnp.float32),
        "typed": jax.random.key(3),
        "old": jax.random.PRNGKey(4),
        "number": 2.0,
        "whole": 3,
        "flag": True,
    }


def learnable():
    def loss(key, h, task, state):
        noise = 0.0 * jax.random.normal(h["typed"]) + 0.0 * jax.random.normal(h["old"])
        rest = h["float32"] ** 2 + h["number"] ** 2 + h["whole"]
        return (h["bfloat16"].astype(jnp.float32) ** 2).sum() + rest + noise

    return mh.problems.function(lambda h: 0.0)._replace(loss=loss)


@pytest.fixture(params=["float32", "float64"])
def default_type(request):
    with jax.enable_x64(request.param == "float64"):
        yield


@pytest.fixture
def mesh():
    return jax.make_mesh((1,), ("members",), axis_types=(AxisType.Explicit,))


@pytest.mark.usefixtures("default_type")
@pytest.mark.parametrize("how", ["skip", "leave_out"])
def test_meta_training_moves_the_floats_and_keeps_the_rest(how, mesh):
    problem = learnable()
    result = mh.meta_train(
        KEY, problem, mh.hypergrad.reverse(problem, 1), hparams(), optax.sgd(0.25),
        rounds=2, tasks=2, mesh=mesh, on_divergence=how,
    )  # fmt: skip
    learned, start = result.hparams, jax.tree.map(jnp.asarray, hparams())
    assert jax.tree.map(lambda x: x.dtype, learned) == jax.tree.map(lambda x: x.dtype, start)
    np.testing.assert_array_equal(learned["bfloat16"].astype(float), 0.25)
    assert learned["float32"] == 0.25 and learned["number"] == 0.5
    for name in ("typed", "old", "whole", "flag"):
        assert jnp.array_equal(learned[name], start[name])
    assert result.history.loss.shape == (2,) and not result.skipped


@pytest.mark.usefixtures("default_type")
def test_a_search_trains_copies_and_resumes_such_states(tmp_path, mesh):
    strategy = mh.strategies.pbt(SPACE, population=4)
    loop = mh.run.search_loop(awkward_problem(), SPACE, strategy, rounds=3, steps=2, mesh=mesh)
    whole = mh.run.drive(loop, KEY, progress=False)
    state = whole.best_state
    assert state["bfloat16"].dtype == jnp.bfloat16 and state["float32"].dtype == jnp.float32
    assert state["complex"].dtype == jnp.complex64 and int(state["count"]) % 2 == 0
    folder = tmp_path / "run"
    mh.run.drive(
        loop, KEY, progress=False, chunk=1, directory=folder, on_chunk=lambda done, _: done == 2
    )
    resumed = mh.run.drive(loop, KEY, progress=False, chunk=1, directory=folder, resume=True)
    for one, other in zip(*map(jax.tree.leaves, (whole, resumed)), strict=True):
        one, other = (jax.random.key_data(x) if _is_key(x) else x for x in (one, other))
        np.testing.assert_array_equal(one, other)


def _is_key(leaf):
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_either_kind_of_key_starts_every_run(make):
    key = make(0)
    random = mh.strategies.random(SPACE, population=2)
    problem = awkward_problem()
    found = mh.search(key, problem, SPACE, random, rounds=1, steps=1)
    assert jnp.isfinite(found.best_loss)
    assert mh.minimize(lambda h: h["lr"], SPACE, random, rounds=1, key=key, progress=False)
    losses = mh.run.fresh_losses(key, problem, {"lr": 0.1, "n": 1, "kind": 0}, steps=1, tasks=2)
    assert jnp.isfinite(losses).all()
