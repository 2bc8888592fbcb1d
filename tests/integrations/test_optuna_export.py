"""Histories as studies of Optuna: every evaluation a trial, for its plots and its dashboard."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jax
import jax.numpy as jnp
import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from studies import SPACE, loss  # noqa: E402

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import to_study  # noqa: E402

TrialState = optuna.trial.TrialState


def minimized(fn=loss, **options):
    strategy = mh.strategies.differential_evolution(SPACE, 8)
    return mh.minimize(fn, SPACE, strategy, rounds=6, seed=0, progress=False, **options)


def searched(space, fn, strategy, rounds=5, steps=1):
    problem = mh.problems.function(fn)
    return jax.jit(
        lambda key: mh.search(key, problem, space, strategy, rounds=rounds, steps=steps)
    )(jax.random.key(0))


def test_every_evaluation_is_a_trial():
    result = minimized()
    study = to_study(result, SPACE)
    assert len(study.trials) == 48 == result.evaluations
    assert study.best_params == result.best_hparams and study.best_value == result.best_loss
    assert [t.value for t in study.trials] == result.history.loss.ravel().tolist()
    assert study.trials[9].user_attrs == {"round": 1, "member": 1, "steps": 1}


def test_losses_that_are_not_finite_are_failed_trials():
    calls = []

    def fn(h):
        calls.append(h)
        if len(calls) == 3:
            raise OSError
        return float("nan") if len(calls) == 5 else loss(h)

    study = to_study(minimized(fn, on_error="inf"), SPACE)
    failed = [t.number for t in study.trials if t.state == TrialState.FAIL]
    assert failed == [2, 4] and len(study.trials) == 48


def test_a_compiled_search_with_nested_names_and_shapes():
    space = {
        "net": {"rates": mh.Float(1e-3, 1.0, log=True, shape=(2,)), "width": mh.Int(1, 9)},
        "kind": mh.Choice((jnp.tanh, "relu"), shape=(2,)),
    }

    def fn(h):
        return h["net"]["rates"].sum() + h["net"]["width"] + h["kind"][0]

    result = searched(space, fn, mh.strategies.cma_es(space, 6))
    study = to_study(result, space)
    assert list(study.trials[0].params) == [
        "kind[0]",
        "kind[1]",
        "net.rates[0]",
        "net.rates[1]",
        "net.width",
    ]
    assert study.best_value == pytest.approx(float(result.best_loss))
    best = mh.space.readable(space, result.best_hparams)
    assert study.best_params["net.width"] == best["net"]["width"]
    assert study.best_params["net.rates[1]"] == pytest.approx(best["net"]["rates"][1], rel=1e-5)
    assert isinstance(study.best_params["kind[0]"], str)


def test_a_trial_has_the_parameters_of_the_branches_that_it_chose():
    model = mh.OneOf(svm={"C": mh.Float(0.0, 1.0)}, forest={"depth": mh.Int(1, 9, shape=(2,))})
    space = {
        "model": model,
        "n": mh.Choice((16, 32), ordered=True),
        "seed": mh.Constant(7),
        "kind": mh.Constant("adam"),
    }

    def fn(h):
        own = {"svm": lambda h: h["C"], "forest": lambda h: 0.1 * h["depth"].sum()}
        return h["model"].switch(own) + h["n"]

    result = searched(space, fn, mh.strategies.random(space, 8), rounds=2)
    study = to_study(result, space)
    rest = {"n", "seed", "kind", "model"}
    own = {"svm": {"model.svm.C"}, "forest": {"model.forest.depth[0]", "model.forest.depth[1]"}}
    assert {t.params["model"] for t in study.trials} == set(own)
    for trial in study.trials:
        assert set(trial.params) == set(trial.distributions) == rest | own[trial.params["model"]]
        assert (trial.params["seed"], trial.params["kind"]) == (7, "adam")
    assert study.trials[0].distributions["n"].choices == (16, 32)


def test_members_that_go_on_name_the_one_that_they_go_on_from():
    space = {"x": mh.Float(0.0, 1.0)}
    result = searched(space, lambda h: h["x"] ** 2, mh.strategies.pbt(space, 6), steps=4)
    study = to_study(result, space)
    parents = [t.user_attrs.get("parent") for t in study.trials]
    assert parents[:6] == [None] * 6 and None not in parents[6:]
    assert study.trials[-1].user_attrs["steps"] == result.history.budget[-1, -1]


def test_slots_without_an_evaluation_are_left_out():
    result = minimized(stop=mh.stopping.when(evaluations=20))
    assert len(to_study(result, SPACE).trials) == 24


def test_what_is_no_result_of_one_run_is_refused():
    result = minimized()
    with pytest.raises(ValueError, match="result must be"):
        to_study(result.history, SPACE)
    with pytest.raises(ValueError, match="it has 1 dimensions, the history 5"):
        to_study(result, {"rate": SPACE["rate"]})
    many = result._replace(history=jax.tree.map(lambda x: np.stack([x, x]), result.history))
    with pytest.raises(ValueError, match=r"\[rounds, P\]; got the shape \(2, 6, 8\)"):
        to_study(many, SPACE)


def test_importances_and_plots_work():
    pytest.importorskip("sklearn")
    study = to_study(minimized(), SPACE)
    found = optuna.importance.get_param_importances(study)
    assert set(found) == set(SPACE) and sum(found.values()) == pytest.approx(1.0)
    matplotlib = pytest.importorskip("matplotlib")
    axes = pytest.importorskip("optuna.visualization.matplotlib")
    # Optuna sets a style for the whole process, in which other tests would draw.
    with matplotlib.rc_context():
        assert axes.plot_optimization_history(study) is not None
        axes.plot_parallel_coordinate(study)


@pytest.mark.slow
def test_the_dashboard_shows_a_study_in_a_file(tmp_path):
    pytest.importorskip("optuna_dashboard")
    storage = f"sqlite:///{tmp_path}/study.db"
    to_study(minimized(), SPACE, storage=storage, study_name="ours")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    dashboard = subprocess.Popen([sys.executable, "-c", code, storage, "--port", str(port)])
    try:
        page = answer(f"http://127.0.0.1:{port}/api/studies", dashboard)
        assert '"ours"' in page
        assert "html" in answer(f"http://127.0.0.1:{port}/dashboard", dashboard)
    finally:
        dashboard.terminate()
        dashboard.wait(timeout=30)


def answer(url, server, seconds=60):
    """The page, as soon as the server is up."""
    for _ in range(seconds * 5):
        assert server.poll() is None, "the dashboard ended"
        try:
            with urllib.request.urlopen(url, timeout=10) as page:
                assert page.status == 200
                return page.read().decode()
        except urllib.error.URLError:
            time.sleep(0.2)
    raise TimeoutError(url)
