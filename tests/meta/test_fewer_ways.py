"""Episodes with fewer classes than a network has outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_table import Net, clusters, planes

import metahpo as mh

KEY = jax.random.key(0)


def scores(metric, outputs=5, sample=clusters, criterion=mh.problems.cross_entropy, curve=False):
    problem = mh.meta.maml(mh.problems.few_shot(sample, Net(outputs), criterion), 0.1)
    hparams = problem.initial(KEY)
    if curve:
        return mh.meta.adaptation_curve(KEY, problem, hparams, metric, steps=1, episodes=20).mean
    return mh.meta.evaluate(KEY, mh.meta.learner(problem, 1), hparams, sample, metric, episodes=20)[
        "inductive"
    ].mean


@pytest.mark.parametrize("curve", [False, True])
@pytest.mark.parametrize("metric", [mh.problems.accuracy, mh.problems.cross_entropy])
def test_predictions_are_among_the_classes_of_the_support(metric, curve):
    found = scores(metric, curve=curve)
    three = scores(lambda outputs, y: metric(outputs[:, :3], y), curve=curve)
    np.testing.assert_allclose(found, three, rtol=1e-5)


def test_other_outputs_stay_as_they_are():
    def finite(outputs, y):
        return jnp.isfinite(outputs).all().astype(float)

    assert scores(finite, 3) == 1 and scores(finite, 5) == 0
    assert scores(finite, 1, planes, mh.problems.squared_error) == 1
