"""Imports of what only an extra brings, so that ``import metahpo`` needs the core alone."""

import importlib
from types import ModuleType


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
            f"this needs {module}, which is not installed: pip install 'metahpo[{extra}]'",
            name=module,
        ) from error
