"""Optuna's Gaussian process: a trial of a study that has n.  Started by ``serve``."""

import numpy as np
import optuna
import serve


def gp(arrays: serve.Arrays):
    """The next trial, which fails, so that the study stays what it is."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=1))
    names = [f"x{i}" for i in range(arrays["unit"].shape[1])]
    floats = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in names}
    for row, loss in zip(arrays["unit"], arrays["loss"], strict=True):
        point = dict(zip(names, row.tolist(), strict=True))
        study.add_trial(
            optuna.trial.create_trial(params=point, distributions=floats, value=float(loss))
        )

    def run() -> dict[str, np.ndarray]:
        trial = study.ask()
        point = [trial.suggest_float(name, 0.0, 1.0) for name in names]
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return {"point": np.array(point)}

    return run


if __name__ == "__main__":
    serve.serve({"gp": gp}, "cpu")
