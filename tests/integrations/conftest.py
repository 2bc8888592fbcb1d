"""Optuna says little, and what it says is not ours to judge."""

import pytest


@pytest.fixture(autouse=True)
def quiet():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
