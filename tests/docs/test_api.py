"""What is public has a docstring and a place on the API page."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location(
    "make_api", Path(__file__).parents[2] / "docs" / "make_api.py"
)
make_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_api)

SYMBOLS = [
    (module, name) for module in make_api.public_modules() for name in make_api.public_names(module)
]


@pytest.mark.parametrize(
    ("module", "name"), SYMBOLS, ids=[f"{m.__name__}.{name}" for m, name in SYMBOLS]
)
def test_public_symbol_has_a_docstring(module, name):
    assert make_api.docstring(module, name)


def test_packages_say_what_is_public():
    silent = [m.__name__ for m in make_api.public_modules() if not make_api.public_names(m)]
    assert silent == []


def test_api_page_is_up_to_date():
    assert make_api.PAGE.read_text() == make_api.render(), "docs/api.md is old: run `make api`"
