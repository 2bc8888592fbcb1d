"""Strategies of all kinds beat random search where dimensions exist only in branches."""

import functools
import math

import numpy as np
import pytest
from strategy_table import TABLE, Program, searched
from test_conditional import SPACE, loss


@functools.cache
def lowest(name, rounds, duels):
    program = Program(searched(name, SPACE, loss, rounds=rounds), TABLE[name].costly)
    results = [program(seed).history.loss for seed in range(-(-duels // program.lanes))]
    return np.concatenate([losses.min(axis=(1, 2)) for losses in results])[:duels]


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("name", ["gaussian_process", "tpe", "differential_evolution", "genetic"])
def test_finds_lower_losses_than_random_search(name):
    rounds, duels = TABLE[name].rounds, 20
    wins = int((lowest(name, rounds, duels) < lowest("random", rounds, duels)).sum())
    p = sum(math.comb(duels, k) for k in range(wins, duels + 1)) / 2**duels
    assert p < 1e-3, f"{wins} wins of {duels}"
