"""The benchmark of faults: what it asks, and that the page says what it found."""

import json
import random

import pytest

from benchmarks import _fault_calls, _fault_damage, _fault_kills, _fault_tables


def rows():
    found = json.loads(_fault_tables.ROWS.read_text())
    return [row for row in found if row["name"].startswith("faults/")]


def test_the_page_has_the_committed_figures():
    assert _fault_tables.PAGE.read_text() == _fault_tables.page()


def test_as_many_faults_were_tried_as_are_promised_and_all_ended_right():
    values = {(row["name"], row["metric"]): row["value"] for row in rows()}
    kills = sum(v for (name, metric), v in values.items() if "kills" in name and metric == "faults")
    assert kills >= 1000 and values["faults/damaged files", "faults"] >= 500
    assert values["faults/wrong calls", "faults"] >= 500
    for (name, metric), value in values.items():
        if metric == "right":
            assert value == values[name, "runs"], name


def test_wrong_calls_are_refused_by_name():
    asked, named, others = _fault_calls.counted()
    assert asked > 500 and not others, others
    assert named == asked


@pytest.mark.parametrize("way", _fault_damage.WAYS)
def test_every_way_of_damage_changes_a_file(way):
    data = bytes(range(1, 200))
    assert _fault_damage.WAYS[way](random.Random(0), data) != data


def test_kills_are_spread_over_every_kind_of_run():
    assert sum(_fault_kills.KILLS.values()) == 1000
    assert sum(_fault_damage.DAMAGES.values()) == 500
