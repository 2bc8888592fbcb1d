"""What ``print(result)`` says: five lines, of one run and of several."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metahpo as mh

SPACE = {"x": mh.Float(-1.0, 1.0), "kind": mh.Choice(("a", "b"))}


def loss(h):
    return jnp.where(h["kind"] == 0, h["x"] ** 2, jnp.nan)


def searched(key):
    strategy = mh.strategies.random(SPACE, 4)
    return mh.search(key, mh.problems.function(loss), SPACE, strategy, rounds=3, steps=1)


@pytest.fixture(scope="module")
def results():
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.jit(jax.vmap(searched))(keys)


def test_one_search_is_five_lines_with_its_best(results):
    result = jax.tree.map(lambda leaf: leaf[0], results)
    lines = str(result).splitlines()
    assert len(lines) == 5
    assert lines[0] == "SearchResult of 3 rounds"
    assert lines[1] == f"  lowest loss: {float(result.best_loss):.6g}"
    assert lines[2].startswith("  best hyperparameters: kind 0, x ")
    assert lines[3] == f"  evaluations: 12, of which {int(result.nonfinite)} were not finite"
    assert lines[4] == "  ended: all rounds, or granted evaluations, are used up"


def test_several_searches_are_five_lines_together(results):
    lines = str(results).splitlines()
    assert len(lines) == 5
    assert lines[0] == "SearchResult of 2 runs, as arrays [2]"
    assert "median" in lines[1]
    assert lines[3].startswith("  evaluations: 24, of which ")


def test_a_search_without_a_finite_loss_has_no_best_hyperparameters(results):
    result = jax.tree.map(lambda leaf: leaf[0], results)
    result = result._replace(best_loss=jnp.array(jnp.inf))
    assert "best hyperparameters: none, as nothing was finite" in str(result)


def test_within_a_program_it_is_printed_as_it_is():
    said = []

    def program(key):
        result = searched(key)
        said.append(str(result))
        return result.best_loss

    jax.eval_shape(program, jax.random.key(0))
    assert said[0].startswith("SearchResult(best_loss=")


def test_a_minimisation_shows_choices_as_their_values():
    strategy = mh.strategies.random(SPACE, 4)
    result = mh.minimize(lambda h: h["x"] ** 2, SPACE, strategy, rounds=1, progress=False)
    lines = str(result).splitlines()
    assert len(lines) == 5
    assert f"kind {result.best_hparams['kind']}" in lines[2]


def test_a_meta_training_shows_the_first_and_the_last_losses():
    problem = mh.problems.function(lambda h: (h["x"] ** 2).sum())
    result = mh.meta_train(
        jax.random.key(0), problem, mh.hypergrad.reverse(problem, 1),
        {"x": jnp.ones(20)}, optax.sgd(0.25), rounds=2, tasks=1,
    )  # fmt: skip
    lines = str(result).splitlines()
    assert len(lines) == 5
    assert lines[1] == "  loss: 20 in the first round, 5 in the last 1 on average"
    assert lines[2] == "  hyperparameters: x [20]"  # too many to be shown
    assert lines[3] == "  updates left out: 0 of 2"
    np.testing.assert_allclose(result.hparams["x"], 0.25)
