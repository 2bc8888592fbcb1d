"""Environments of every kind pass the check of environments, and wrong ones do not."""

import jax.numpy as jnp
import pytest

import metahpo as mh
from metahpo.testing import check_environment

rl = mh.rl

MAKE = {
    "sigmoid": lambda: rl.sigmoid(2, 3).environment,
    "luby": lambda: rl.luby(8).environment,
    "leading_ones": lambda: rl.leading_ones(4, (1, 2)).environment,
    "one_max": lambda: rl.one_max(3, (1, 2)).environment,
    "frozen_lake": lambda: rl.frozen_lake().environment,
    "testbed": lambda: rl.testbed(3, 8).environment,
}


@pytest.mark.parametrize("name", MAKE)
def test_an_exact_environment_passes(name):
    check_environment(MAKE[name](), steps=16)


def test_the_tuning_environment_passes(descent, space):
    moves = mh.Float(-0.1, 0.1)
    check_environment(rl.tuning_environment(descent, space, 2, segments=3, moves=moves), steps=8)


def changed(**change):
    """Counts to 3, rightly but for what is changed."""

    def step(key, state, action):
        return state + 1, rl.Transition(1.0, state + 1 >= 3, jnp.array(False))

    right = rl.Environment(
        reset=lambda key, task: jnp.int32(0),
        step=step,
        observe=lambda state: state,
        action_space=mh.Float(-1.0, 1.0),
        observation_space=mh.Int(0, 3),
    )
    return right._replace(**change)


def infinite(key, state, action):
    return state + 1, rl.Transition(1 / (state - 1), state + 1 >= 3, jnp.array(False))


def both(key, state, action):
    return state + 1, rl.Transition(1.0, state + 1 >= 3, state + 1 >= 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"observation_space": mh.Int(0, 2)},
            r"next_observation\[2\].*must be in \[0, 2\], got.*3",
        ),
        ({"step": infinite}, r"rewards are finite, got \[inf.*at \[1"),
        ({"step": both}, r"not both terminated and truncated, got so at \[2, 5, 8\]"),
        ({"observation_space": mh.Float(0.0, 3.0)}, "must be of type floating, got int32"),
    ],
)
def test_a_wrong_one_is_told_which_rule_it_breaks(change, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check_environment(changed(**change), steps=9)


def test_what_is_no_environment_is_refused():
    with pytest.raises(AssertionError, match="it is an mh.rl.Environment, got 3"):
        check_environment(3)
