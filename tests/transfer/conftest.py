import jax
import jax.numpy as jnp
import pytest

import metahpo as mh

DECADE = jnp.log(10.0)


@pytest.fixture(scope="session")
def bowls():
    """Bowls ``c x^2 / 2`` described by ``log c``, c in [0.1, 10]: the best rate is ``1 / c``."""

    def sample(key):
        return jnp.exp(jax.random.uniform(key, minval=-DECADE, maxval=DECADE))

    def init(key, task):
        return jax.random.normal(key, (3,))

    def loss(params, task, split):
        # The validation loss is the squared error, so that all bowls count the same.
        return jnp.sum(params**2) * (task / 2.0 if split == "support" else 1.0)

    return mh.TaskFamily(sample, init, loss, lambda task: jnp.log(task)[None])
