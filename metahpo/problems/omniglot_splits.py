"""The two usual ways to part the characters of Omniglot."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from metahpo import checks

Part = Literal["train", "validation", "test"]
Split = Literal["vinyals", "random"]

# Vinyals et al. 2016 trained on 1,200 characters: the background set and the first of the
# evaluation set in alphabetical order, which ends within Gurmukhi.  The lists of Snell et al. 2017
# take five alphabets of them for validation.
VALIDATION = frozenset(
    ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
)  # fmt: skip
TEST = frozenset(
    (
        "Kannada",
        "Keble",
        "Malayalam",
        "Manipuri",
        "Mongolian",
        "Old_Church_Slavonic_(Cyrillic)",
        "Oriya",
        "Sylheti",
        "Syriac_(Serto)",
        "Tengwar",
        "Tibetan",
        "ULOG",
    )
)
DIVIDED, FIRST_TEST_CHARACTER = "Gurmukhi", 42
# Random characters: 1,200 of 1,623 train.
TRAIN_SHARE = (1200, 1623)


def members(names: Sequence[str], split: Split, part: Part) -> np.ndarray:
    """Indices ``i[n]`` of the characters of one part, ascending.

    Args:
        names: ``'Alphabet/characterNN'``, all that there are.
        split: ``"vinyals"``, by alphabet (1,028 / 172 / 423), or ``"random"``, where alphabets are
            shared: 1,200 / 423 in a fixed random order, no validation part.
        part: ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        ValueError: for a split or part that does not exist.

    Example:
        >>> members(["Greek/character01", "Hebrew/character01"], "vinyals", "validation").tolist()
        [1]
    """
    parts = {"vinyals": ("train", "validation", "test"), "random": ("train", "test")}
    checks.one_of("split", split, parts)
    if part not in parts[split]:
        raise ValueError(f"the {split} split has the parts {parts[split]}, got {part!r}")
    if split == "vinyals":
        return np.flatnonzero([_vinyals(name) == part for name in names])
    # Sorted by a hash: the same shuffle on every machine and with every version of numpy.
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    cut = round(len(names) * TRAIN_SHARE[0] / TRAIN_SHARE[1])
    return np.sort(order[:cut] if part == "train" else order[cut:]).astype(np.intp)


def _vinyals(name: str) -> Part:
    alphabet, character = name.split("/")
    if alphabet in VALIDATION:
        return "validation"
    late = alphabet == DIVIDED and int(character.removeprefix("character")) >= FIRST_TEST_CHARACTER
    return "test" if late or alphabet in TEST else "train"
