"""Any Python function, minimised by the strategies that search uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from walking import SPACE, as_bytes, loss, run, walker

import metahpo as mh
from metahpo import stopping, strategies
from metahpo.base import StopReason
from metahpo.run import EvaluationError


@pytest.mark.parametrize("strategy", [walker(), strategies.random(SPACE, population=4)])
@pytest.mark.optimised
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
        assert field == "loss" or ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours.astype(theirs.dtype), theirs)
    assert np.float32(found.best_loss) == expected.best_loss
    values = mh.space.readable(SPACE, expected.best_hparams)
    assert found.best_hparams == values | {"x": pytest.approx(values["x"], abs=1e-7)}


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
    assert result.best_loss == min(losses)
    np.testing.assert_array_equal(result.history.loss.ravel(), losses)


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
    assert sorted(traces) == ["ask", "tell"]
    run(strategy=strategy, rounds=3, seed=5)  # in a loop of one's own, too
    assert sorted(traces) == ["ask", "tell"]


def test_losses_that_are_not_finite_are_infinite_and_counted():
    values = iter([1.0, np.nan, np.inf, -np.inf, 2.0, 0.5, 1e300, 3.0])
    result = run(lambda h: next(values), rounds=2)
    np.testing.assert_array_equal(
        result.history.loss, [[1, np.inf, np.inf, np.inf], [2, 0.5, 1e300, 3]]
    )
    np.testing.assert_array_equal(result.history.nonfinite, np.isinf(result.history.loss))
    assert (result.best_loss, result.nonfinite, len(result.failures)) == (0.5, 3, 0)


def test_a_first_round_of_nan_is_refused():
    calls = []
    with pytest.raises(ValueError, match="first round must return a number, all failed or"):
        run(lambda h: calls.append(h) or np.nan)
    assert len(calls) == 4


def test_a_later_round_may_fail_as_a_whole():
    values = iter([1.0] * 4 + [np.nan] * 4)
    assert run(lambda h: next(values), rounds=2).nonfinite == 4


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        result = run(lambda h: 0.1 + 1e-12 * h["n"])
    assert result.history.loss.dtype == np.float64
    assert result.best_loss == 0.1 + 1e-12 * result.best_hparams["n"]


WRONG = [
    (None, "None (NoneType)"),
    ("low", "'low' (str)"),
    ([1.0], "[1.0] (list)"),
    ([1.0, [2.0]], "[1.0, [2.0]] (list)"),
    (np.ones(1), "array([1.]) (ndarray)"),
    (1j, "1j (complex)"),
]


@pytest.mark.parametrize(("value", "shown"), WRONG)
def test_a_loss_that_is_not_a_scalar_is_refused_with_what_it_is(value, shown):
    with pytest.raises(EvaluationError, match="must return a real scalar, got ") as caught:
        run(lambda h: value)
    assert shown in str(caught.value) and "'kind': " in str(caught.value)
    with pytest.raises(ValueError, match="first round must return a number.*must return") as caught:
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


def test_the_function_is_not_called_for_idle_slots():
    plain = walker()

    def ask(key, state):
        proposal, state = plain.ask(key, state)
        return proposal._replace(budget=proposal.budget.at[1].set(0)), state

    calls = []
    result = run(lambda h: calls.append(h) or loss(h), strategy=plain._replace(ask=ask))
    assert len(calls) == 15 == result.evaluations
    np.testing.assert_array_equal(result.history.budget, [[1, 0, 1, 1]] * 5)
    assert np.isinf(result.history.loss[:, 1]).all()
    assert not result.history.nonfinite.any() and result.nonfinite == 0


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_run_stops_early_for_the_reason_given(tmp_path, whole, interrupted):
    calls = []

    def fn(h):
        calls.append(h)
        if interrupted and len(calls) == 6:
            raise KeyboardInterrupt
        return loss(h)

    options = {"stop": stopping.when(evaluations=9), "directory": tmp_path}
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            run(fn, **options)
    result = run(fn, resume=True, **options)
    assert len(calls) == 12 + interrupted
    assert result.stop_reason is StopReason.BUDGET
    assert (result.rounds, result.evaluations) == (3, 12)
    np.testing.assert_array_equal(result.history.loss[:3], whole.history.loss[:3])
    assert np.isinf(result.history.loss[3:]).all() and not result.history.budget[3:].any()
    again = run(fn, resume=True, **options)
    assert len(calls) == 12 + interrupted and as_bytes(again) == as_bytes(result)


def test_a_target_and_the_strategys_own_reason_stop_a_run():
    found = run(stop=stopping.target(10.0), rounds=50)
    assert (found.rounds, found.stop_reason) == (1, StopReason.TARGET)
    collapsed = walker()._replace(stop=lambda state: jnp.int32(StopReason.COLLAPSE))
    found = run(strategy=collapsed, stop=stopping.any_of())
    assert (found.rounds, found.stop_reason) == (1, StopReason.COLLAPSE)
    found = run(strategy=collapsed)
    assert (found.rounds, found.stop_reason) == (5, StopReason.BUDGET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"on_error": "skip"}, r"on_error must be one of \('raise', 'inf'\), got 'skip'"),
        ({"strategy": walker()._replace(needs=mh.Needs(gradients=True))}, "needs_grad=True"),
        ({"strategy": walker(parent=2)}, "no training state to go on from.* parent 2"),
        ({"space": {"x": (0, 1)}}, "leaves are Float, Int or Choice"),
    ],
)
def test_wrong_arguments_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_a_folder_of_another_space_is_refused(tmp_path):
    run(rounds=1, directory=tmp_path)
    other = SPACE | {"x": mh.Float(-2.0, 1.0)}
    with pytest.raises(ValueError, match=r"of another run: .*low=-1.0.*low=-2.0"):
        run(space=other, rounds=1, directory=tmp_path, resume=True)
