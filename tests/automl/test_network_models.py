"""Networks learn what is not linear, and see no padding."""

import jax
import numpy as np
import pytest
from fitted_families import data, fit_predict, task

from metahpo.automl.models import network

H = {"rate": [0.01, 0.01], "decay": [0.01, 0.01], "dropout": [0.0, 0.2], "frequency": [0.1, 0.1]}


@pytest.mark.slow
def test_a_network_learns_a_product_of_its_inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 3)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    h = {name: np.array(value, np.float32) for name, value in H.items()}
    fitted, out = fit_predict(network, h, data(x, y, 2, classes=2), task("binary", 2))
    own = np.arange(512) % 2
    for m in range(2):
        unseen = np.where(own == 0, out[m, 0, :, 0], out[m, 1, :, 0])
        assert ((unseen > 0) == y).mean() > 0.9
    # Folds began alike and have seen different rows.
    assert np.abs(fitted["w2"][0, 0] - fitted["w2"][0, 1]).max() > 1e-3


def test_a_column_of_padding_has_no_influence():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype(np.float32)
    here = data(x, x[:, 0], 2)
    here = here._replace(real=np.array([True, True, True, False]))
    h = {name: np.array(value[:1], np.float32) for name, value in H.items()}
    weights = jax.eval_shape(lambda: network.fit(jax.random.key(0), h, here, task("regression", 2)))
    assert {w.shape[:2] for w in jax.tree.leaves(weights)} == {(1, 2)}
    drawn = jax.tree.map(lambda w: rng.normal(size=w.shape).astype(np.float32), weights)
    drawn["real"] = np.broadcast_to(here.real.astype(np.float32), weights["real"].shape)
    out = network.predict(drawn, here.x, here, task("regression", 2))
    other = network.predict(drawn, here.x.at[..., 3].set(7.0), here, task("regression", 2))
    np.testing.assert_array_equal(out, other)
