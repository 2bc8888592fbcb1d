"""The advice about a missing extra names a command that works for how metahpo was installed."""

import importlib
import sys
from importlib import metadata

import pytest

from metahpo._extras import command


class Installed:
    def __init__(self, text):
        self.text = text

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.text


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "'metahpo[plot]'"),
        (
            '{"url": "file:///home/me/my%20code", "dir_info": {"editable": true}}',
            "-e '/home/me/my code[plot]'",
        ),
        (
            '{"url": "https://example.org/metahpo", "vcs_info": {"vcs": "git"}}',
            "'metahpo[plot] @ git+https://example.org/metahpo'",
        ),
        (
            '{"url": "https://example.org/metahpo-1.whl", "archive_info": {}}',
            "'metahpo[plot] @ https://example.org/metahpo-1.whl'",
        ),
    ],
)
def test_the_command_names_where_it_came_from(monkeypatch, origin, requirement):
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(origin))
    assert command("plot") == f"{sys.executable} -m pip install {requirement}"


def test_a_checkout_that_is_not_installed_has_a_command_too(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert command("cli").endswith("pip install 'metahpo[cli]'")


def test_a_bridge_names_the_extra_that_it_needs(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("metahpo.integrations.gymnasium")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"this needs gymnasium.* install .*\[gymnasium\]"):
        importlib.import_module("metahpo.integrations.gymnasium")
