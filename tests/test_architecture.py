"""The import arrows of docs/design.md, read from the source and not from what happens to run."""

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "metahpo"

# part -> the parts that it may import; every part may also import itself and the leaves.
LEAVES = {"_deprecation", "_extras", "_files", "base", "checks"}
ARROWS = {
    "_deprecation": set(),
    "_extras": set(),
    "_files": set(),
    "base": set(),
    "checks": set(),
    "draws": set(),
    "floats": set(),
    "lanes": set(),
    "staged": set(),
    "mixed_mode": set(),
    "recomputation": set(),
    "reparametrised": set(),
    "safe_sqrt": set(),
    "schedules": set(),
    "space": set(),
    "stopping": set(),
    "quasirandom": set(),
    "report": {"space"},
    "updates": {"safe_sqrt"},
    "choose": {"space", "updates"},
    "cube": {"space"},
    "hinted": {"space"},
    "diagnostics": {"floats"},
    "inner": {"floats", "recomputation"},
    "networks": {"floats"},
    "links": {"reparametrised"},
    "surrogates": {"cube", "draws", "lanes", "space"},
    "problems": {"floats", "inner", "networks", "safe_sqrt", "space", "updates"},
    "hypergrad": {"diagnostics", "floats", "inner", "recomputation"},
    "strategies": {
        "cube",
        "draws",
        "lanes",
        "quasirandom",
        "space",
        "staged",
        "stopping",
        "surrogates",
    },
    "meta": {"floats", "inner", "problems"},
    "learned_optimizers": {"floats", "links", "report", "space", "updates"},
    "transfer": {"inner", "networks", "problems", "report", "run", "space", "surrogates"},
    "rl": {"diagnostics", "draws", "inner", "lanes", "networks", "space", "updates"},
    "run": {
        "floats",
        "hinted",
        "hypergrad",
        "inner",
        "lanes",
        "safe_sqrt",
        "space",
        "staged",
        "stopping",
        "updates",
    },
    "study": {"inner", "report", "run", "space", "strategies", "transfer"},
    "testing": {"hypergrad", "inner", "problems", "rl", "run", "space", "strategies"},
    "automl": {"hinted", "report", "space", "strategies", "study", "transfer"},
    "integrations": {"lanes", "rl", "run", "space", "strategies", "transfer"},
}
# Rooms of a part that has several floors: a family does not see its neighbours.
FAMILIES = {
    "strategies": {
        "along_training": set(),
        "bayesian": set(),
        "cma": set(),
        "de": set(),
        "genetic_algorithms": set(),
        "nes": set(),
        "swarm": {"genetic_algorithms"},
    }
}
# What the user meets first and the commands may import everything, but nobody imports them.
TOPS = {"__init__": {"__main__", "comparisons"}, "comparisons": {"__main__"}, "__main__": set()}
CORE = {"jax", "jaxlib", "optax", "flax", "chex", "numpy"} | set(sys.stdlib_module_names)


class Import(NamedTuple):
    """One imported module; ``lazy`` if only a call or a type checker imports it."""

    source: str
    target: str
    line: int
    lazy: bool


def module_names(package: Path) -> dict[str, Path]:
    """Dotted module name -> file."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(package: Path) -> list[Import]:
    """All imports of a package, each resolved to the module that it names."""
    names = module_names(package)
    found = []
    for source, path in names.items():
        for node, lazy in _import_nodes(ast.parse(path.read_text()), lazy=False):
            targets = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else _from_targets(node, source, path, names)
            )
            found += [Import(source, target, node.lineno, lazy) for target in targets]
    return found


def _import_nodes(tree: ast.AST, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        type_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        yield from _import_nodes(node, lazy or function or type_checking)


def _from_targets(
    node: ast.ImportFrom, source: str, path: Path, names: dict[str, Path]
) -> list[str]:
    base = node.module or ""
    if node.level:
        parent = source.split(".")
        parent = parent[: len(parent) - node.level + (path.name == "__init__.py")]
        base = ".".join([*parent, base] if base else parent)
    # `from package import module` names the module, `from module import name` the module it is in.
    return [
        f"{base}.{alias.name}" if f"{base}.{alias.name}" in names else base for alias in node.names
    ]


def part(module: str) -> str:
    """``metahpo.strategies.pbt`` -> ``strategies``; the package itself -> ``__init__``."""
    return (module.split(".") + ["__init__"])[1]


def wrong_arrows(package: Path) -> list[str]:
    """Imports between parts that the table does not have."""
    wrong = []
    for edge in imports(package):
        if edge.target.split(".")[0] != package.name:
            continue
        source, target = part(edge.source), part(edge.target)
        if source in TOPS:
            allowed = target not in TOPS[source]
        else:
            allowed = source in ARROWS and target in LEAVES | ARROWS[source]
        if source != target and not allowed:
            wrong.append(f"{edge.source}:{edge.line} imports {edge.target}")
    return wrong


def wrong_neighbours(package: Path) -> list[str]:
    """Imports of one family of a part by another, or of a family by what the families share."""
    wrong = []
    for edge in imports(package):
        source, target = edge.source.split("."), edge.target.split(".")
        families = FAMILIES.get(part(edge.target), {})
        if part(edge.source) != part(edge.target) or not families or len(source) < 3:
            continue
        room, other = source[2], (target + [""])[2]
        if other in families and room != other and other not in families.get(room, ()):
            wrong.append(f"{edge.source}:{edge.line} imports {edge.target}")
    return wrong


def cycles(package: Path) -> list[str]:
    """The first import cycle between modules, if there is one."""
    graph: dict[str, set[str]] = {name: set() for name in module_names(package)}
    for edge in imports(package):
        if edge.target in graph:
            graph[edge.source].add(edge.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def eager_extras(package: Path) -> list[str]:
    """Imports outside functions of what the core dependencies do not bring."""
    return [
        f"{edge.source}:{edge.line} imports {edge.target}"
        for edge in imports(package)
        if not edge.lazy
        and part(edge.source) != "integrations"  # each of these is an extra by itself
        and edge.target.split(".")[0] not in CORE | {package.name}
    ]


def test_every_part_stands_in_the_table():
    parts = {part(name) for name in module_names(PACKAGE)}
    assert parts <= set(ARROWS) | set(TOPS)


def test_parts_import_only_along_the_arrows():
    assert wrong_arrows(PACKAGE) == []


def test_families_do_not_see_their_neighbours():
    rooms = {
        name.split(".")[2]
        for name in module_names(PACKAGE)
        if name.startswith("metahpo.strategies.")
    }
    assert rooms >= set(FAMILIES["strategies"])
    assert wrong_neighbours(PACKAGE) == []


def test_no_module_imports_itself_by_a_detour():
    assert cycles(PACKAGE) == []


def test_only_functions_import_what_an_extra_brings():
    assert eager_extras(PACKAGE) == []


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        ("x64 only within jax.enable_x64", r"\bconfig\.update\("),
        ("no global configuration", r"\bjax\.config\.\w+ *="),
        ("typed keys: jax.random.key", r"\bPRNGKey\("),
    ],
)
def test_source_and_docstrings_are_free_of(rule, pattern):
    found = [
        f"{path.relative_to(PACKAGE)}:{number} {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], rule


# The checks above pass on an empty package too, so each is shown to find what it looks for.
@pytest.mark.parametrize(
    ("check", "files", "found"),
    [
        (wrong_arrows, {"strategies/de.py": "from ..problems import x"}, 1),
        (wrong_arrows, {"rl/env.py": "def f():\n    import metahpo.run"}, 1),
        (wrong_arrows, {"space.py": "import metahpo as mh"}, 1),
        (wrong_arrows, {"__init__.py": "from metahpo import comparisons"}, 1),
        (wrong_arrows, {"new_part.py": "from metahpo import base"}, 1),
        (wrong_arrows, {"comparisons/digits.py": "import metahpo as mh"}, 0),
        (wrong_arrows, {"strategies/de.py": "from .. import base, space\nfrom . import x"}, 0),
        (wrong_neighbours, {"strategies/nes/a.py": "from metahpo.strategies.de import b"}, 1),
        (wrong_neighbours, {"strategies/parts.py": "from metahpo.strategies.de import b"}, 1),
        (wrong_neighbours, {"strategies/nes/a.py": "from metahpo.strategies import x"}, 0),
        (cycles, {"meta/a.py": "from . import b", "meta/b.py": "from metahpo.meta.a import c"}, 1),
        (cycles, {"meta/__init__.py": "from .a import x", "meta/a.py": "from . import b"}, 0),
        (eager_extras, {"report/plot.py": "import matplotlib.pyplot as plt"}, 1),
        (eager_extras, {"report/plot.py": "def f():\n    import matplotlib"}, 0),
    ],
)
def test_check_finds_what_it_looks_for(tmp_path, check, files, found):
    modules = {"__init__.py": "", "base.py": "", "space.py": "", "run.py": "", "problems.py": ""}
    modules |= {"comparisons/__init__.py": "", "meta/b.py": "", "strategies/x.py": ""}
    modules |= {"strategies/__init__.py": "", "strategies/de/b.py": "", "strategies/nes/a.py": ""}
    for name, source in (modules | files).items():
        path = tmp_path / "metahpo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    for folder in (tmp_path / "metahpo").rglob("*"):
        if folder.is_dir():
            (folder / "__init__.py").touch()
    assert len(check(tmp_path / "metahpo")) == found
