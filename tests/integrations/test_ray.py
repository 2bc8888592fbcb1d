"""The sampler in Ray Tune, on a Ray of this machine: a trial dies, and the experiment goes on."""

import functools
import os
import sys

import pytest

optuna = pytest.importorskip("optuna")
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'metahpo[ray]'")
tune = pytest.importorskip("ray.tune", reason="Ray Tune is not installed")

from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray.tune.search.optuna import OptunaSearch  # noqa: E402
from studies import candidates, params  # noqa: E402

import metahpo as mh  # noqa: E402
from metahpo.integrations.optuna import Sampler  # noqa: E402

pytestmark = pytest.mark.slow

SPACE = {
    "x": FloatDistribution(-1.0, 1.0),
    "n": IntDistribution(0, 6),
    "kind": CategoricalDistribution(["a", "b"]),
}
TRIALS = 9


@pytest.fixture(scope="module", autouse=True)
def machine():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers lack this file
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def loss(h):
    return (h["x"] - 0.3) ** 2 + abs(h["n"] - 3) + (h["kind"] == "b")


def sampler():
    return Sampler(functools.partial(mh.strategies.cma_es, population=4), seed=1)


def test_an_experiment_in_which_a_trial_died_is_restored_with_its_searcher(tmp_path):
    died = tmp_path / "died"
    alone = optuna.create_study(direction="maximize", sampler=sampler())
    for _ in range(TRIALS):
        trial = alone.ask(SPACE)
        alone.tell(trial, -loss(trial.params))
    weak = params(alone)[3]["x"]

    def train(config):
        if config["x"] == weak and not died.exists():
            died.touch()
            os._exit(1)  # the process, as if it had been killed
        tune.report({"score": -loss(config)})

    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    tuner = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                SPACE, metric="score", mode="max", sampler=sampler(), storage=storage
            ),
            num_samples=TRIALS,
            max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(tmp_path),
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    )
    tuner.fit()
    assert died.exists()
    study = optuna.load_study(study_name="optuna", storage=storage)
    assert len(study.trials) < TRIALS

    restored = tune.Tuner.restore(str(tmp_path / "run"), trainable=train, resume_errored=True)
    results = restored.fit()

    assert len(results) == TRIALS and results.num_errors == 0
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * (TRIALS - 4)
    assert candidates(study) == [-1, 0, 1, 2, *range(2, TRIALS - 2)]
    assert params(study)[:4] + params(study)[5:] == params(alone)[: TRIALS - 1]
    assert results.get_best_result("score", "max").metrics["score"] >= study.best_value
