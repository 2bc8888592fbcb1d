"""Writes docs/api.md from the docstrings: every public name, its signature and its first line.

Run as ``make api``; tests/docs/test_api.py fails when the page is out of date.
"""

import ast
import enum
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import metahpo

PAGE = Path(__file__).with_name("api.md")
HEAD = """# API

Every public name, written by `make api` from the docstrings. Shapes, errors, an example and the
source of each method stand in the docstring itself: `help(metahpo.search)`.
"""
# The command line, what stands behind it, and parts that need a package of somebody else.
NOT_LIBRARY = {"__main__", "comparisons", "integrations"}


def public_modules() -> list[ModuleType]:
    """metahpo itself, its public parts, and the modules that a part makes public."""
    names = sorted(m.name for m in pkgutil.iter_modules(metahpo.__path__))
    parts = [n for n in names if not n.startswith("_") and n not in NOT_LIBRARY]
    found = [metahpo]
    for part in (importlib.import_module(f"metahpo.{name}") for name in parts):
        values = (getattr(part, name) for name in getattr(part, "__all__", ()))
        found += [part, *(value for value in values if inspect.ismodule(value))]
    return found


def public_names(module: ModuleType) -> list[str]:
    """``__all__``, else the functions and classes that the module defines itself."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    return sorted(names, key=str.lower)


def docstring(module: ModuleType, name: str) -> str:
    """The docstring of a public name, "" if nobody wrote one.

    Named tuples and dataclasses are born with a docstring that only repeats their fields, and an
    instance shows that of its class: neither counts.
    """
    value = getattr(module, name)
    if not (inspect.ismodule(value) or inspect.isclass(value) or callable(value)):
        return _constant_docstring(module, name)
    text = inspect.cleandoc(value.__doc__ or "")
    return "" if text.startswith(f"{name}(") else text


def signature(value: Any, name: str) -> str:
    """``name(a, b=1)``: no annotations, so that it is the same under every Python.

    So are enumerations, whose signature is that of the machinery of the Python at hand.
    """
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return name
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return name
    if getattr(value, "_is_protocol", False):
        return name
    shown = inspect.Signature(
        [p.replace(annotation=p.empty, default=_default(p)) for p in parameters]
    )
    return f"{name}{shown}"


def render() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(module) for module in public_modules())])


def _section(module: ModuleType) -> str:
    lines = [f"## {module.__name__}", "", _first_line(module.__doc__ or ""), ""]
    for name in public_names(module):
        value = getattr(module, name)
        if inspect.ismodule(value):
            lines.append(f"- [`{name}`](#{value.__name__.replace('.', '')})")
        else:
            shown = signature(value, name) if callable(value) else name
            lines.append(f"- `{shown}`: {_first_line(docstring(module, name))}")
    return "\n".join(lines) + "\n"


class _Shown:
    """Prints a default value as the page shows it."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _default(parameter: inspect.Parameter) -> Any:
    value = parameter.default
    if value is parameter.empty or isinstance(value, int | float | str | tuple | None):
        return value
    return _Shown(getattr(value, "__name__", "..."))


def _first_line(text: str) -> str:
    """The summary of a docstring, which ends at the first empty line."""
    return " ".join(text.strip().split("\n\n")[0].split())


def _constant_docstring(module: ModuleType, name: str) -> str:
    """The string below an assignment to ``name``, in the module or where it imported it from."""
    body = ast.parse(inspect.getsource(module)).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        assigned = ast.unparse(node).split("=")[0].split(":")[0].strip()
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(node, ast.Assign | ast.AnnAssign) and assigned == name:
            return text.value if isinstance(text, ast.Constant) else ""
        if isinstance(node, ast.ImportFrom) and name in {a.asname or a.name for a in node.names}:
            package = module.__package__ if node.level else None
            origin = "." * node.level + (node.module or "")
            return _constant_docstring(importlib.import_module(origin, package), name)
    return ""


if __name__ == "__main__":
    PAGE.write_text(render())
