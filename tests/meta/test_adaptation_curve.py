"""Scores along the adaptation are those that ``evaluate`` gives after so many steps."""

import jax
import numpy as np
import pytest

import metahpo as mh

KEY = jax.random.key(0)
PROBLEM = mh.meta.maml(mh.problems.sinusoid(shots=5, hidden=(4,)), 0.05)
HPARAMS = PROBLEM.initial(jax.random.key(1))


def curve(problem=PROBLEM, **options):
    options = {"steps": 2, "episodes": 6, "chunk": 4} | options
    return mh.meta.adaptation_curve(KEY, problem, HPARAMS, mh.problems.squared_error, **options)


def test_every_number_of_steps_has_the_scores_that_evaluate_gives():
    found = jax.jit(curve)()
    assert found.per_episode.shape == (6, 3)
    for steps in range(3):
        learner = mh.meta.learner(PROBLEM, steps)
        scores = mh.meta.evaluate(
            KEY, learner, HPARAMS, PROBLEM.sample, mh.problems.squared_error,
            episodes=6, modes=("transductive",),
        )["transductive"]  # fmt: skip
        np.testing.assert_allclose(found.per_episode[:, steps], scores.per_episode, rtol=1e-5)
        np.testing.assert_allclose(found.mean[steps], scores.mean, rtol=1e-5)
        np.testing.assert_allclose(found.half_width[steps], scores.half_width, rtol=1e-4)


def test_without_steps_there_is_one_score():
    assert curve(steps=0).mean.shape == (1,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 1}, "episodes must be a whole number of at least 2, got 1"),
        ({"chunk": 0}, "chunk must be a whole number of at least 1, got 0"),
        ({"problem": PROBLEM._replace(predict=None)}, "needs a problem that can predict"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        curve(**options)
