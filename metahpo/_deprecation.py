"""Public names that have changed: the old spelling works for one release, with a warning."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module some of whose names are now spelled otherwise.

    Args:
        module: its ``__name__``.
        names: from the old spelling to the new one, a name of the same module.

    Returns:
        A function that warns, with both spellings, and gives what the new name stands for.

    Example:
        >>> import metahpo.transfer
        >>> with warnings.catch_warnings(record=True) as found:
        ...     warnings.simplefilter("always")
        ...     old = metahpo.transfer.Network
        >>> old is metahpo.transfer.Mapping, str(found[0].message)
        (True, 'metahpo.transfer.Network is now metahpo.transfer.Mapping')
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name} is now {module}.{names[name]}")
        return getattr(sys.modules[module], names[name])

    return __getattr__


def warn(message: str, level: int = 3) -> None:
    """Tells the caller's caller, ``level`` frames up, of an old spelling."""
    warnings.warn(message, DeprecationWarning, stacklevel=level)
