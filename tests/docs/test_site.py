"""The site is built without errors, and its links lead somewhere."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

DOCS = Path(__file__).parents[2] / "docs"


class Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found["id"]} if found.get("id") else set()
        link = found.get({"a": "href", "img": "src", "script": "src"}.get(tag, ""))
        if link and not link.startswith(("http:", "https:", "data:", "//")):
            self.links.append(link)


@pytest.mark.slow
def test_every_link_and_picture_of_the_site_is_there(tmp_path):
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    build = pytest.importorskip("sphinx.cmd.build").build_main
    assert build(["-q", "-b", "html", str(DOCS), str(tmp_path)]) == 0
    pages = {path.resolve(): Page(path.read_text()) for path in tmp_path.rglob("*.html")}
    assert tmp_path / "reference" / "metahpo.strategies.html" in pages
    broken = []
    for path, page in pages.items():
        for link in page.links:
            file, _, anchor = link.partition("#")
            target = (path.parent / unquote(file.split("?")[0])).resolve() if file else path
            known = anchor == "" or target not in pages or unquote(anchor) in pages[target].anchors
            if not target.exists() or not known:
                broken.append(f"{path.name}: {link}")
    assert broken == []
