"""Experiments leave to ``metahpo.study`` what it does for all of them."""

import re
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))
# Command lines, frames, files of pictures, folders and what is taken up again.
OURS = r"argparse|tyro|spines|savefig|plt\b|pyplot|save_json|save_npz|load_npz|resume=|directory="


def test_there_are_experiments():
    assert len(FILES) >= 17


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_uses_the_engine(path):
    source = path.read_text()
    assert re.findall(OURS, source) == []
    if "__main__" in source:  # all but the pictures of another one
        call = rf'    command\(\s*"experiments.{path.stem}", __doc__, study, Size\(\), QUICK'
        assert re.search(call, source)
        assert f"python -m experiments.{path.stem} [--quick] [--resume]" in source
