"""What the docstrings of the bridge to Optuna show, runs; and what is public has one."""

import doctest
import importlib

import pytest

pytest.importorskip("optuna")


@pytest.mark.parametrize("name", ["sampler", "export"])
def test_docstring_examples_run(name):
    module = importlib.import_module(f"metahpo.integrations.optuna.{name}")
    failed, tried = doctest.testmod(module)
    assert tried and not failed, "see the captured output"


def test_public_names_have_docstrings():
    optuna = importlib.import_module("metahpo.integrations.optuna")
    assert all(getattr(optuna, name).__doc__ for name in optuna.__all__)
