"""Tables line up, say what they hold, and survive every kind of cell."""

import io

import numpy as np
import pytest

from metahpo.report import Interval, interval, print_table, table

ROWS = [
    {"method": "random", "accuracy": interval([0.9, 0.92, 0.94]), "budget": 32, "note": None},
    {"method": "a|b [x]", "accuracy": interval([0.5]), "budget": np.int64(8), "seconds": 1.23456},
]


def test_plain_tables_align_numbers_on_the_right():
    assert table(ROWS).splitlines() == [
        "method        accuracy  budget  note  seconds",
        "-------  -------------  ------  ----  -------",
        "random   0.920 ± 0.050      32",
        "a|b [x]         0.5000       8          1.235",
    ]


def test_markdown_escapes_bars_and_marks_the_alignment():
    assert table(ROWS, ["method", "budget"], style="markdown").splitlines() == [
        "| method   | budget |",
        "| -------- | -----: |",
        "| random   |     32 |",
        "| a\\|b [x] |      8 |",
    ]


def test_formats_hold_for_means_and_half_widths():
    assert "0.92 ± 0.05" in table(ROWS, formats={"accuracy": ".2f"})
    assert table([{"a": 2}], formats={"a": ".1f"}).splitlines()[-1] == "2.0"


@pytest.mark.parametrize(
    ("mean", "half_width", "shown"),
    [
        (1234.5678, 56.7, "1235 ± 57"),
        (0.00012345, 0.0000023, "0.0001234 ± 0.0000023"),
        (1.0, 0.0, "1.000 ± 0.000"),
        (np.inf, np.nan, "inf"),
        (2.5, np.inf, "2.500 ± inf"),
    ],
)
def test_an_interval_shows_two_digits_of_its_half_width(mean, half_width, shown):
    cell = table([{"a": Interval(np.array(mean), np.array(half_width), 3)}]).splitlines()[-1]
    assert cell.strip() == shown


def test_wrong_tables_are_told():
    with pytest.raises(ValueError, match="no row has the column 'loss'; the columns are"):
        table(ROWS, ["method", "loss"])
    with pytest.raises(ValueError, match="must be one of .*, got 'html'"):
        table(ROWS, style="html")
    with pytest.raises(ValueError, match="at least one column"):
        table([])


def test_a_table_without_rows_has_a_head():
    assert table([], ["method"]) == "method\n------"


def test_printing_to_a_file_is_plain(capsys):
    print_table(ROWS, title="Digits")
    assert capsys.readouterr().out == "Digits\n" + table(ROWS) + "\n"


def test_printing_to_a_terminal_keeps_the_cells(monkeypatch):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    print_table(ROWS, title="Digits", file=terminal)
    shown = terminal.getvalue()
    for text in ("Digits", "accuracy", "0.920 ± 0.050", "a|b [x]", "1.235"):
        assert text in shown
    assert "─" in shown
