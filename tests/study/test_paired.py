"""Cells of a table: means, and differences pair by pair."""

import numpy as np
import pytest

from metahpo.report import interval
from metahpo.study import paired


def test_differences_are_of_pairs_and_the_base_has_none():
    values = {"ours": np.array([1.0, 20.0, 3.0]), "grid": np.array([2.0, 21.0, 4.0])}
    cells = paired(values, "ours", "loss", "minus ours")
    assert list(cells) == ["ours", "grid"]
    assert cells["ours"] == {"loss": interval(values["ours"])}
    assert cells["grid"]["loss"].mean == 9.0
    # The tasks differ far more than the methods do.
    assert cells["grid"]["minus ours"] == (1.0, 0.0, 3)


def test_an_unknown_base_is_refused():
    with pytest.raises(ValueError, match=r"values of 'grid', got those of \['ours'\]"):
        paired({"ours": [1.0]}, "grid", "loss", "minus")
