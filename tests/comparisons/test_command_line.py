"""The command line: real runs in small, and one-line errors with exit status 2."""

import json
import sys

import pytest

from metahpo.__main__ import main
from metahpo.comparisons.catalogue import METHODS, USUAL, comparison
from metahpo.study.compare import powers
from metahpo.study.setting import Setting


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["metahpo", *map(str, arguments)])
    main()


def test_the_quadratics_give_the_known_ratios(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out"
    methods = ("static", "chebyshev")
    call(monkeypatch, "compare", "quadratics", "--seeds", 2, "--out", out, "--strategies", *methods)
    saved = json.loads((out / "results.json").read_text())["methods"]
    # The figures of the closed forms; the grid's maximum may be 0.8 % below the interval's.
    assert saved["static"]["loss"][-1]["mean"] == pytest.approx(0.670, abs=5e-4)
    assert saved["chebyshev"]["loss"][-1]["mean"] == pytest.approx(0.0361, abs=5e-4)
    assert "chebyshev" in capsys.readouterr().out
    picture = out / "loss_against_budget.png"
    before = picture.read_bytes()
    picture.unlink()
    call(monkeypatch, "compare", "quadratics", "--out", out, "--redraw")
    assert picture.read_bytes() == before


@pytest.mark.slow
def test_digits_run_resume_and_refuse_another_budget(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out"
    common = ("compare", "digits", "--tasks", 2, "--seeds", 1, "--out", out, "--budget", 4)
    call(monkeypatch, *common, "--strategies", "random")
    first = (out / "results.json").read_text()
    call(monkeypatch, *common, "--strategies", "random", "--resume")
    assert (out / "results.json").read_text() == first
    assert json.loads(first)["budgets"] == [1, 2, 4]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, *common[:-1], 8, "--strategies", "random", "--resume")
    assert "budget is 4 there, 8 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "letters"], "unknown comparison 'letters'; there are digits, quadratics"),
        (["compare", "quadratics", "--strategies", "typo"], "unknown strategies ['typo']"),
        (["compare", "quadratics", "--budget", "0"], "budget must be at least 1, got 0"),
        (["compare", "digits", "--seeds", "-1"], "seeds must be at least 1, got -1"),
        (["compare", "quadratics", "--tasks", "3"], "quadratics has one task"),
        (["compare", "quadratics", "--resume"], "--resume needs --out"),
        (["compare", "quadratics", "--redraw"], "--redraw needs --out"),
    ],
)
def test_wrong_inputs_end_with_one_line_that_names_them(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_trial_run_is_small_learns_little_and_says_so_in_its_settings():
    usual = comparison("quadratics", None, None, None, seed=0)
    quick = comparison("quadratics", None, None, 20, seed=0, quick=True)
    assert usual.settings == {"seeds": 5, "budget": 4**7, "seed": 0}
    assert quick.settings == {"seeds": 1, "budget": 20, "effort": 0.05, "seed": 0}
    assert (usual.setting.effort, quick.setting.effort) == (1.0, 0.05)


@pytest.mark.parametrize(("effort", "rounds"), [(1.0, 60), (0.05, 3), (0.001, 1)])
def test_effort_is_a_share_of_the_usual_work_but_never_none(effort, rounds):
    assert Setting(*[None] * 7, budget=4, effort=effort).share(60) == rounds


OWN = """
import metahpo as mh

def make():
    space = {"x": mh.Float(-1.0, 1.0)}
    problem = mh.problems.function(lambda h: (h["x"] - 0.5) ** 2)
    methods = {"default": {"x": 0.0}, "random": mh.strategies.random(space, 4)}
    sizes = {"budget": 8, "steps": 1, "seed": 7}
    return {"problem": problem, "space": space, "methods": methods, **sizes}

def wrong():
    return make() | {"resume": True}
"""


def test_a_comparison_of_ones_own_runs_with_the_sizes_that_are_given(monkeypatch, tmp_path, capsys):
    (tmp_path / "own_comparison.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    own = ("compare", "own_comparison:make", "--out", tmp_path / "out")
    call(monkeypatch, *own, "--seeds", 2, "--seed", 0)
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert saved["settings"] == {
        "comparison": "own_comparison:make",
        "tasks": 1, "seeds": 2, "budget": 8, "steps": 1, "seed": 0,
    }  # fmt: skip
    assert saved["methods"]["default"]["loss"][-1]["mean"] == pytest.approx(0.25)
    for name, message in (
        ("own_comparison:wrong", "without directory, resume and progress"),
        ("own_comparison:other", "has no 'other'"),
        ("no_such_module:make", "there is no module 'no_such_module'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            call(monkeypatch, "compare", name)
        assert message in capsys.readouterr().err


def test_the_help_names_all_methods_and_the_real_defaults(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, "compare", "--help")
    shown = capsys.readouterr().out
    words = set(shown.replace("│", " ").replace(",", " ").replace(".", " ").split())
    assert {name for methods in METHODS.values() for name in methods} <= words
    assert {str(size) for sizes in USUAL.values() for size in sizes.values()} <= words
    assert "default: None" not in shown and "(default: )" not in shown


@pytest.mark.parametrize("arguments", [(), ("info",), ("--version",)])
def test_what_needs_no_extra_works_without(monkeypatch, capsys, arguments):
    monkeypatch.setitem(sys.modules, "tyro", None)
    call(monkeypatch, *arguments)
    assert "metahpo" in capsys.readouterr().out or arguments == ("--version",)


def test_budgets_are_powers_and_end_at_the_budget():
    assert powers(2, 32) == [1, 2, 4, 8, 16, 32]
    assert powers(2, 20) == [1, 2, 4, 8, 16, 20]
    assert powers(4, 1) == [1]


@pytest.mark.parametrize(("module", "extra"), [("tyro", "cli"), ("matplotlib", "plot")])
def test_a_missing_extra_ends_with_one_line_that_names_it(monkeypatch, capsys, module, extra):
    monkeypatch.setitem(sys.modules, module, None)  # an import of it fails
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "compare", "quadratics")
    assert f"[{extra}]'" in capsys.readouterr().err
