"""The study of BBOB: padded instances, resumable measurements, published running times."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from experiments import bbob as study
from metahpo.problems.bbob.functions import FUNCTIONS
from metahpo.study import Work

RESULTS = Path(study.__file__).parent / "results" / "bbob" / "results.json"
# Published running times to 1e-8 of BIPOP-CMA-ES, as tabulated elsewhere to three digits.
TABULATED = {
    5: {1: 726, 2: 2.16e3, 5: 66, 6: 1.86e3, 9: 2.38e3, 13: 4.37e3, 15: 2.55e4, 21: 4.52e4},
    10: {1: 1.47e3, 2: 6.10e3, 5: 123, 7: 7.86e3, 13: 1.58e4, 15: 1.07e5, 23: 3.05e5},
}


@pytest.mark.parametrize("dimension", TABULATED)
def test_the_published_runs_give_the_published_running_times(dimension):
    runs = study.published(study.OURS, dimension)
    for number, expected in TABULATED[dimension].items():
        assert study.running_time(runs[number])[0] == pytest.approx(expected, rel=6e-3)
    unsolved = [number for number in runs if study.running_time(runs[number])[3] == 0]
    assert unsolved == [4]


def test_instances_filled_up_to_one_shape_are_the_same_functions():
    dimension, x = 3, jnp.array([0.3, -2.0, 4.0])
    shapes = set()
    for number in (1, 9, 16, 22):
        filled = study.stacked(number, dimension, (2, 3))
        shapes.add(tuple(leaf.shape for leaf in filled))
        for row, instance in enumerate((2, 3)):
            one = jax.tree.map(lambda leaf, row=row: leaf[row], filled)
            plain = mh.problems.bbob_instance(number, dimension, instance)
            fn = FUNCTIONS[number - 1]
            np.testing.assert_allclose(fn(x, one), fn(x, plain), rtol=1e-6)
    assert len(shapes) == 1


SIZE = study.QUICK._replace(elsewhere=300, numbers=(1, 5, 8), instances=(1, 2))


def test_a_measurement_goes_on_where_it_was_cut_short(tmp_path, monkeypatch):
    compiled = []
    program = study.program
    monkeypatch.setattr(study, "program", lambda *args: compiled.append(args) or program(*args))

    first, seconds = study.measure("random", 2, SIZE._replace(numbers=(1, 5)), Work(tmp_path))
    whole, longer = study.measure("random", 2, SIZE, Work(tmp_path))
    _, again = study.measure("random", 2, SIZE, Work(tmp_path))
    assert len(compiled) == 2  # nothing is left to run the third time
    for number in (1, 5):
        np.testing.assert_array_equal(first[number].hits, whole[number].hits)
    assert again == longer > seconds
    for lengths in whole.values():
        assert np.all(lengths.total == 600)  # the budget of 300 in 2 dimensions
        assert np.all(lengths.hits[:, 1:] >= lengths.hits[:, :-1])
        assert np.all((lengths.hits <= 600) | np.isinf(lengths.hits))
    # A disc of radius 1/2 holds 1/127 of the square, so 600 points miss it once in 100 times.
    quarter = np.searchsorted(-mh.report.BBOB_TARGETS, -0.25)
    assert np.isfinite(whole[1].hits[:, quarter]).all()
    assert not np.array_equal(whole[1].hits[0], whole[1].hits[1])


def test_the_table_holds_ratios_of_running_times():
    hits = np.full((15, 51), 1452.0)
    lengths = mh.report.RunLengths(mh.report.BBOB_TARGETS, hits, np.full(15, 1460.0))
    never = lengths._replace(hits=np.full((15, 51), np.inf))
    records = {
        (study.OURS, study.MAIN): {1: lengths, 6: never},
        ("DE", study.MAIN): {1: never, 6: lengths},
    }
    size = study.QUICK._replace(numbers=(1, 6), methods=(study.OURS, "DE"))
    sphere, sector = study.tabulate(records, size)
    assert sphere["ratio"] == pytest.approx(1452 / 726, rel=1e-3) and sphere["solved"] == 15
    assert sphere["DE"] == sector["ratio"] == np.inf and sector["DE"] == 1452


def test_the_committed_running_times_are_near_the_published_ones():
    rows = {row["f"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    for number in (1, 2, *range(5, 15), 17):
        assert rows[number]["ratio"] <= 1.25, f"f{number}"
        assert rows[number]["solved"] == 60, f"f{number}"
    # Of f15 even 60 runs leave open whether it is within 1.25, but all of them arrive.
    assert rows[15]["solved"] == 60 and rows[15]["low"] <= 1.25 * rows[15]["published"]
    solved = [number for number, row in rows.items() if row["solved"] > 0]
    assert len(solved) >= 21
