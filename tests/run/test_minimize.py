"""Any Python function, minimised by the strategies that search uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import strategies
from metahpo.base import FULL_BUDGET, Proposal, Strategy
from metahpo.run import checkpoint
from metahpo.run.minimize import minimize

SPACE = {"x": mh.Float(-1.0, 1.0), "n": mh.Int(1, 9), "kind": mh.Choice(("round", "square"))}


def walker(population=4, parent=-1):
    """A strategy whose proposals depend on its keys and on what it was told."""

    def init(key):
        return jax.random.uniform(key, (3,)), jnp.inf

    def ask(key, state):
        unit = jnp.clip(state[0] + 0.2 * jax.random.normal(key, (population, 3)), 0.0, 1.0)
        full = jnp.full(population, FULL_BUDGET, jnp.int32)
        return Proposal(unit, jnp.full(population, parent, jnp.int32), full), state

    def tell(key, state, proposal, evaluation):
        i = jnp.argmin(evaluation.loss)
        better = evaluation.loss[i] < state[1]
        return jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (proposal.unit[i], evaluation.loss[i]),
            state,
        )

    return Strategy(init, ask, tell)


def loss(h):
    # Computed in single precision and without sums of products, so XLA and numpy agree to the bit.
    x = np.float32(h["x"]) - np.float32(0.25)
    return max(float(x * x), abs(h["n"] - 4) / 4, float(h["kind"] == "square"))


def run(fn=loss, space=SPACE, strategy=None, rounds=5, **options):
    return minimize(fn, space, strategy or walker(), rounds=rounds, progress=False, **options)


def as_bytes(result):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.history)]


@pytest.mark.parametrize("strategy", [walker(), strategies.random(SPACE, population=4)])
def test_the_history_is_that_of_search(strategy):
    def traced(h):
        x = h["x"] - 0.25
        return jnp.maximum(jnp.maximum(x * x, jnp.abs(h["n"] - 4) / 4), h["kind"])

    key = jax.random.key(2)
    search = jax.jit(
        lambda key: mh.search(key, mh.problems.function(traced), SPACE, strategy, rounds=6, steps=1)
    )
    expected, found = search(key), run(strategy=strategy, rounds=6, key=key)
    for field in ("unit", "loss", "parent", "budget", "nonfinite"):
        ours, theirs = getattr(found.history, field), getattr(expected.history, field)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert found.best_loss == float(expected.best_loss)
    assert found.best_hparams == mh.space.readable(SPACE, expected.best_hparams)


def test_the_function_gets_python_values_and_the_best_are_among_them():
    seen = []

    def fn(h):
        seen.append(h)
        return loss(h)

    result = run(fn)
    assert len(seen) == 20
    for h in seen:
        assert {name: type(value) for name, value in h.items()} == {
            "x": float,
            "n": int,
            "kind": str,
        }
    losses = [loss(h) for h in seen]
    assert result.best_hparams == seen[int(np.argmin(losses))]
    assert result.best_loss == np.float32(min(losses))
    np.testing.assert_array_equal(result.history.loss.ravel(), np.array(losses, np.float32))


@pytest.fixture(scope="module")
def whole():
    """An uninterrupted run of seed 0."""
    return run()


def test_a_seed_is_a_key(whole):
    assert as_bytes(run(key=jax.random.key(0))) == as_bytes(whole)
    assert as_bytes(run(seed=1)) != as_bytes(whole)


def test_ask_and_tell_are_traced_once():
    plain, traces = walker(), []

    def traced(name):
        def fn(*args):
            traces.append(name)
            return getattr(plain, name)(*args)

        return fn

    strategy = plain._replace(ask=traced("ask"), tell=traced("tell"))
    run(strategy=strategy, rounds=8)
    assert sorted(traces) == ["ask", "ask", "tell"]  # one for the shapes


def test_losses_that_are_not_finite_are_infinite_and_counted():
    values = iter([1.0, np.nan, np.inf, -np.inf, 2.0, 0.5, 1e300, 3.0])
    result = run(lambda h: next(values), rounds=2)
    np.testing.assert_array_equal(
        result.history.loss, [[1, np.inf, np.inf, np.inf], [2, 0.5, np.inf, 3]]
    )
    np.testing.assert_array_equal(result.history.nonfinite, np.isinf(result.history.loss))
    assert (result.best_loss, result.info["nonfinite"], result.info["failed"]) == (0.5, 4, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_first_round_without_a_finite_loss_is_refused(bad):
    calls = []
    with pytest.raises(ValueError, match=r"first round must be finite, got \[inf inf inf inf\]"):
        run(lambda h: calls.append(h) or bad)
    assert len(calls) == 4


def test_a_later_round_may_fail_as_a_whole():
    values = iter([1.0] * 4 + [np.nan] * 4)
    assert run(lambda h: next(values), rounds=2).info["nonfinite"] == 4


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        result = run(lambda h: 0.1 + 1e-12 * h["n"])
    assert result.history.loss.dtype == np.float64
    assert result.best_loss == 0.1 + 1e-12 * result.best_hparams["n"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None (NoneType)"),
        ("low", "'low' (str)"),
        ([1.0], "[1.0] (list)"),
        (np.ones(1), "array([1.]) (ndarray)"),
        (1j, "1j (complex)"),
    ],
)
def test_a_loss_that_is_not_a_scalar_is_refused_with_what_it_is(value, shown):
    with pytest.raises(ValueError, match="must return a real scalar, got ") as caught:
        run(lambda h: value, on_error="inf")
    assert shown in str(caught.value) and "'kind': " in str(caught.value)


@pytest.mark.parametrize(
    "value", [2, True, np.float32(2), jnp.array(2.0), jnp.array(2, jnp.bfloat16)]
)
def test_every_real_scalar_is_a_loss(value):
    assert run(lambda h: value, rounds=1).best_loss == float(value)


def test_an_error_of_the_function_names_the_candidate():
    def fn(h):
        raise KeyError("momentum")

    with pytest.raises(RuntimeError, match=r"failed at \{'kind': .*KeyError\('momentum'\)") as e:
        run(fn)
    assert isinstance(e.value.__cause__, KeyError)


def test_errors_may_count_as_infinite():
    def fn(h):
        if h["n"] > 4:
            raise OverflowError
        return loss(h)

    result = run(fn, on_error="inf")
    assert 0 < result.info["failed"] == np.isinf(result.history.loss).sum()
    np.testing.assert_array_equal(result.history.metrics["failed"], np.isinf(result.history.loss))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"on_error": "skip"}, "'raise' or 'inf', got 'skip'"),
        ({"strategy": walker()._replace(needs_grad=True)}, "needs_grad=True"),
        ({"strategy": walker(parent=2)}, "no training state to go on from.* parent 2"),
        ({"space": {"x": (0, 1)}}, "leaves are Float, Int or Choice"),
    ],
)
def test_wrong_arguments_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_an_interrupted_run_resumes_to_the_same_history(tmp_path, whole):
    calls = []

    def interrupted(h):
        calls.append(h)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return loss(h)

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, directory=tmp_path)
    assert checkpoint.rounds_done(tmp_path) == 3
    calls.clear()
    resumed = run(lambda h: calls.append(h) or loss(h), directory=tmp_path, resume=True)
    assert len(calls) == 8  # the last two of five rounds
    assert as_bytes(resumed) == as_bytes(whole)
    assert resumed.best_hparams == whole.best_hparams
    calls.clear()
    finished = run(lambda h: calls.append(h) or loss(h), directory=tmp_path, resume=True)
    assert calls == []
    assert as_bytes(finished) == as_bytes(whole)


def test_a_folder_of_another_space_is_refused(tmp_path):
    run(rounds=1, directory=tmp_path)
    other = SPACE | {"x": mh.Float(-2.0, 1.0)}
    with pytest.raises(ValueError, match=r"of another run: .*low=-1.0.*low=-2.0"):
        run(space=other, rounds=1, directory=tmp_path, resume=True)
