"""What the pages link to is there; what they show, runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(page: Path) -> list[tuple[int, str]]:
    """(line number, source) of each block fenced as python."""
    text = page.read_text()
    return [
        (text[: match.start(1)].count("\n") + 1, match[1])
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    broken = []
    for link in links:
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_readme_says_what_its_first_example_prints(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "README.md"
    exec(compile(code_blocks(page)[0][1], str(page), "exec"), {"__name__": "__main__"})
    shown = capsys.readouterr().out.splitlines()
    said = re.search(r"^```\n(SearchResult.*?)\n```", page.read_text(), re.DOTALL | re.MULTILINE)
    # The last digits depend on the machine.
    assert [line.split(":")[0] for line in shown] == [
        line.split(":")[0] for line in said[1].splitlines()
    ]
    assert float(shown[1].split()[-1]) < 0.45


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "README",
        "docs/automl",
        "docs/recipes",
        "docs/scaling_out",
        "docs/using",
        "docs/which_estimator",
        "docs/which_strategy",
        "docs/which_meta_learner",
        "docs/pretrained_optimizers",
        "docs/which_learned_optimizer",
        "docs/which_agent",
        "docs/when_do_descriptors_help",
    ],
)
def test_the_examples_of_a_page_run_in_their_order(name, tmp_path, monkeypatch):
    if name == "docs/scaling_out":
        pytest.importorskip("optuna")
        pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    page = ROOT / f"{name}.md"
    names = {"__name__": "__main__"}
    for line, source in code_blocks(page):
        exec(compile("\n" * (line - 1) + source, str(page), "exec"), names)
