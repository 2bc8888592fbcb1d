"""Checks of arguments see a number that is known, wherever they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo import checks

CHECKS = {
    "positive": lambda value: checks.positive(x=value),
    "at_least": lambda value: checks.at_least("x", value, 0),
    "probability": lambda value: checks.probability("x", value),
    "share": lambda value: checks.share("x", value),
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("value", [0.5, np.float32(0.5), jnp.array(0.5), jnp.bfloat16(0.5)])
def test_a_number_is_known_within_a_trace_too(check, value):
    check(value)
    jax.jit(lambda x: check(value) or x)(1.0)
    jax.jit(lambda x: check(x) or x)(-1.0)  # this one is not


def test_a_whole_number_is_known_within_a_trace_too():
    three = jnp.array(3)
    assert jax.eval_shape(lambda: jnp.zeros(checks.whole("x", three))).shape == (3,)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("value", [-0.5, jnp.array(-0.5), float("nan"), "half", None, True])
def test_what_is_no_such_number_is_refused_by_name(check, value):
    for call in (lambda: check(value), lambda: jax.eval_shape(lambda: check(value))):
        with pytest.raises(ValueError, match="^x must be"):
            call()
