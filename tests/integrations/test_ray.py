"""The sampler in Ray Tune, on a Ray of this machine: a trial dies, and later the whole driver."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")
pytest.importorskip("ray", reason="Ray is not installed: pip install 'metahpo[ray]'")
pytest.importorskip("ray.tune", reason="Ray Tune is not installed: pip install 'metahpo[ray]'")

from ray_process import SPACE, sampler, score, study_in  # noqa: E402
from studies import candidates, params  # noqa: E402

pytestmark = pytest.mark.slow

PROCESS = Path(__file__).with_name("ray_process.py")
TRIALS = 8


@pytest.mark.parametrize("name", ["cma_es"])
def test_an_experiment_that_broke_off_is_restored_with_what_its_searcher_knew(name, tmp_path):
    alone = optuna.create_study(direction="maximize", sampler=sampler(name))
    for _ in range(TRIALS):
        trial = alone.ask(SPACE)
        alone.tell(trial, score(trial.params))
    weak = repr(params(alone)[3]["x"])

    def run(*options):
        environment = os.environ | {"TUNE_GLOBAL_CHECKPOINT_S": "0", "XLA_FLAGS": ""}
        command = [sys.executable, PROCESS, tmp_path, name, TRIALS, weak, *options]
        return subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=500
        )

    assert run(5).returncode == 9  # after five trials; one of them has died
    study = optuna.load_study(study_name="optuna", storage=study_in(tmp_path))
    before = len(study.trials)
    assert (tmp_path / "died").exists() and before < TRIALS

    done = run()

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[:2] == [str(TRIALS), "0"]
    states = [trial.state.name for trial in study.trials]
    assert len(states) >= TRIALS and states[3] == "FAIL"
    # Every candidate is evaluated, the failed one and what was under way a second time at most.
    found = candidates(study)
    assert set(found) == {*range(-1, max(found) + 1)} and len(found) - len(set(found)) <= 2
    for number, values in zip(found, params(study), strict=True):
        assert values == pytest.approx(params(alone)[number + 1])
