"""The site of `make docs`: the pages as they are, and the docstrings as the reference."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_api  # noqa: E402

import metahpo  # noqa: E402

project = "metahpo"
release = version = metahpo.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["api.md", "skeletons"]  # the reference has what is in api.md
html_theme = "furo"
html_title = f"metahpo {version}"
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
add_module_names = False
napoleon_use_ivar = True
html_show_copyright = False
# The same function stands in metahpo and in its part; texts of others are not ours to mend.
suppress_warnings = ["myst.xref_missing", "ref.ref", "docutils", "autodoc.duplicate_object"]

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)\)")


def setup(app: Any) -> None:
    """Writes a page for each public module, and mends links that leave the folder."""
    app.connect("builder-inited", _write_reference)
    app.connect("source-read", lambda app, name, source: _mend(source, HERE))
    app.connect("include-read", lambda app, path, name, source: _mend(source, HERE.parent))
    app.connect("autodoc-skip-member", _skip_fields)


def _skip_fields(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool:
    """The fields of a named tuple stand in its docstring."""
    return skip or type(member).__name__ == "_tuplegetter"


def _write_reference(app: Any) -> None:
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    names = [module.__name__ for module in make_api.public_modules()]
    for module in make_api.public_modules():
        name, members = module.__name__, ", ".join(make_api.public_names(module))
        body = f".. automodule:: {name}\n   :members: {members}\n   :imported-members:\n"
        _write(folder / f"{name}.rst", name, body)
    entries = "".join(f"   {name}\n" for name in names)
    _write(folder / "index.rst", "Reference", f".. toctree::\n   :maxdepth: 1\n\n{entries}")


def _write(page: Path, title: str, body: str) -> None:
    """Only what is new, so that the next build is a short one."""
    text = f"{title}\n{'=' * len(title)}\n\n{body}"
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def _mend(source: list[str], base: Path) -> None:
    """A link to a folder, or from the README to a file that is no page, becomes its text."""

    def kept(link: re.Match[str]) -> str:
        target = base / link[2]
        page = target.is_file() and (base == HERE or target.is_relative_to(HERE))
        return link[0] if page else link[1]

    text = source[0]
    for old in ("docs/api.md", "api.md"):  # the reference says more
        text = text.replace(f"]({old})", f"]({old.replace('api.md', 'reference/index.rst')})")
    source[0] = LINK.sub(kept, text)
