"""Imports of what only an extra brings, so that ``import metahpo`` needs the core alone."""

import importlib
import json
import sys
from importlib import metadata
from types import ModuleType
from urllib.parse import unquote, urlparse


def require(module: str, extra: str) -> ModuleType:
    """Imports ``module``, or says which extra brings it.

    Args:
        module: dotted name of the module.
        extra: the extra of the ``metahpo`` distribution that installs it.

    Returns:
        The module itself, also for a dotted name.

    Raises:
        ImportError: if the module is not installed; the message names the extra.

    Example:
        >>> require("json", "cli").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # A module that is there but cannot find one of its own imports is not a missing extra.
        if missing != module and not module.startswith(f"{missing}."):
            raise
        raise ImportError(
            f"this needs {module}, which is not installed: {command(extra)}", name=module
        ) from error


def command(extra: str) -> str:
    """What installs an extra into the running interpreter's environment.

    It names where metahpo itself came from: the index, an address, or the checkout that an editable
    installation points to.
    """
    return f"{sys.executable} -m pip install {_requirement(extra)}"


def _requirement(extra: str) -> str:
    try:
        text = metadata.distribution("metahpo").read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # a checkout on the path, without an installation
        text = None
    if not text:
        return f"'metahpo[{extra}]'"
    origin = json.loads(text)
    if origin.get("dir_info", {}).get("editable"):
        return f"-e '{unquote(urlparse(origin['url']).path)}[{extra}]'"
    vcs = origin.get("vcs_info", {}).get("vcs")
    return f"'metahpo[{extra}] @ {f'{vcs}+' if vcs else ''}{origin['url']}'"
