"""What a docstring shows, runs."""

import doctest
import importlib
import pkgutil

import pytest

import metahpo

pytestmark = pytest.mark.versions

MODULES = ["metahpo"] + [
    module.name
    for module in pkgutil.walk_packages(metahpo.__path__, "metahpo.")
    if "__main__" not in module.name and not module.name.startswith("metahpo.integrations")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0, "see the captured output"
