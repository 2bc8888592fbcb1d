"""The command line of metahpo: compare methods, model a table, ask what past tasks suggest.

python -m metahpo compare digits            real classification tasks
python -m metahpo compare quadratics        a problem whose optimum is known
python -m metahpo compare module:function   your own: what it returns are arguments of mh.compare
python -m metahpo automl train.csv --target y --test test.csv    a model of a table, with a report
python -m metahpo suggest data.csv --target y --learner mlp    what to try on a table
python -m metahpo info                      versions and devices, for a bug report
"""

import datetime
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from metahpo._extras import require


def compare(
    name: str,
    strategies: tuple[str, ...] = (),
    tasks: int | None = None,
    seeds: int | None = None,
    budget: int | None = None,
    seed: int | None = None,
    quick: bool = False,
    out: Path | None = None,
    resume: bool = False,
    redraw: bool = False,
) -> None:
    """Compares methods on the same tasks and seeds; prints a table, writes results and plots.

    Args:
        name: digits (real classification tasks), quadratics (the optimum is known), or
            module:function of your own, which returns the arguments of metahpo.compare as a dict.
        strategies: methods to compare, all by default.  Of digits: default, random, grid,
            differential_evolution, pbt, hypergradient, policy, learned_optimizer, mapping,
            mapping_regression, mapping_differential_evolution.  Of quadratics: static, chebyshev,
            random, differential_evolution, pbt, hypergradient, hypergradient_forward,
            hypergradient_es, hypergradient_first_order, policy, learned_optimizer.
        tasks: held-out tasks; 24 of digits.
        seeds: repetitions on each task; 3 for digits, 5 for quadratics.
        budget: complete trainings that a method may spend on a task; 32 for digits, 16384 for
            quadratics.
        seed: of everything random; 0 by default.
        quick: a trial run: other defaults for the sizes above, hardly any learning beforehand.
        out: results folder, a new one below results/ by default.
        resume: go on with the run in --out; finished methods are taken from there.
        redraw: run nothing; draw the losses of the results.json in --out.
    """
    from metahpo import report, study
    from metahpo.study.results import redrawn

    require("matplotlib", "plot")  # say it now rather than after minutes of work
    what = _comparison(name, tasks, seeds, budget, seed, quick)
    if resume and out is None:
        raise ValueError("--resume needs --out, the results folder to go on with")
    if redraw:
        if out is None:
            raise ValueError("--redraw needs --out, the results folder to draw pictures of")
        study.redraw(out, redrawn(what))
        print(f"Drawn in {out}: {', '.join(redrawn(what))}")
        return
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    out = out or Path("results") / f"compare-{what.name.replace(':', '-')}-{stamp}"
    outcomes = study.run(what, strategies or tuple(what.methods), out, resume)
    found = study.as_findings(what, outcomes)
    study.write(out, found)
    settings = ", ".join(f"{key} {value}" for key, value in what.settings.items())
    report.print_table(found.rows, formats=found.formats, title=f"compare {name}: {settings}")
    print(f"\nMeans and 95 % intervals. Results and plots are in {out}")


def _comparison(
    name: str,
    tasks: int | None,
    seeds: int | None,
    budget: int | None,
    seed: int | None,
    quick: bool,
) -> Any:
    """A built-in comparison, or one of the user's own."""
    from metahpo.comparisons import catalogue
    from metahpo.study.compare import comparison_of

    if ":" not in name:
        return catalogue.comparison(name, tasks, seeds, budget, seed or 0, quick)
    if quick:
        raise ValueError("--quick is for the built-in comparisons: give --budget, --tasks, --seeds")
    arguments = dict(_own(name))
    asked = {"tasks": tasks, "seeds": seeds, "budget": budget, "seed": seed}
    arguments |= {size: value for size, value in asked.items() if value is not None}
    try:
        inspect.signature(comparison_of).bind(**arguments, name=name)
    except TypeError as error:
        raise ValueError(
            f"{name} must return arguments of metahpo.compare, without directory, resume and "
            f"progress, which are those of the command line: {error}"
        ) from error
    return comparison_of(**arguments, name=name)


def _own(name: str) -> dict[str, Any]:
    """What a function of the user returns."""
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:  # as an installed script, unlike python -m
        sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module of the user's lacks something
        raise ValueError(f"there is no module {module!r} to compare, in {os.getcwd()}") from error
    except AttributeError as error:
        raise ValueError(f"the module {module!r} has no {function!r}") from error
    arguments = make() if callable(make) else make
    if not isinstance(arguments, dict):
        raise ValueError(
            f"{name} must return a dict of arguments of metahpo.compare, "
            f"got {type(arguments).__name__}"
        )
    return arguments


def suggest(
    data: Path,
    target: str,
    experience: Path | None = None,
    learner: str | None = None,
    k: int = 4,
    out: Path | None = None,
) -> None:
    """Says which configurations past tasks suggest for a table, and what they were worth.

    Args:
        data: a CSV file with a line of names.
        target: the column that is to be predicted.
        experience: an NPZ file of mh.transfer.save, with the descriptors of mh.transfer.describe.
        learner: mlp, random_forest or svc, in place of --experience: what is shipped with the
            package, of small tables to classify (see mh.transfer.shipped_experience).
        k: how many configurations.
        out: a JSON file to write as well.
    """
    from metahpo import report, transfer

    if experience is not None and learner is None:
        past = transfer.load(experience)
    elif learner is not None and experience is None:
        past = transfer.shipped_experience(learner)
    else:
        raise ValueError("either --learner or --experience must be given")
    found = transfer.advise(*transfer.read_csv(data, target), past, k)
    report.print_table(found["suggestions"], formats={"regret": ".3f"}, title=f"suggest {data}")
    distance, tasks = found["distance"], found["tasks"]
    print("\nRegrets are expected ones and 90 % intervals: 0 is the best on record, 1 the worst.")
    print(f"Learned from {tasks} tasks; descriptors are {found['descriptors']}.")
    print(f"Distance to what was seen: {distance:.1f} (1 is usual among the past tasks).")
    if out is not None:
        report.save_json(out, found)


def automl(
    train: Path,
    target: str,
    test: Path | None = None,
    kind: Literal["classification", "regression"] | None = None,
    metric: str | None = None,
    budget: int = 64,
    deadline: float | None = None,
    models: tuple[str, ...] = (),
    groups: str | None = None,
    folds: int = 5,
    refit: bool = False,
    seed: int = 0,
    out: Path = Path("results") / "automl",
) -> None:
    """Finds a model of a table; prints a table, writes a report, the predictions and the model.

    Args:
        train: a CSV file with a line of names.
        target: the column that is to be predicted.
        test: another one, whose rows are predicted; with the target's column they are scored.
        kind: by default regression if the target has fractions, or more than 100 different numbers.
        metric: log loss (by default), accuracy, AUC, balanced accuracy or F1; of numbers RMSE (by
            default), MAE or R2.
        budget: configurations to try.
        deadline: seconds, after which no further round begins.
        models: linear, boosting, network, neighbours, discriminant, kernel, forest; by default all
            but the last two.
        groups: a column whose rows of one value validate together; it is no input.
        folds: of the cross-validation.
        refit: whether the members are trained once more, on all rows, to predict.
        seed: of everything random.
        out: the folder of results.json, table.md, the picture, predictions.csv and model.npz.
    """
    from metahpo.automl import command

    settings = {
        "metric": metric,
        "budget": budget,
        "deadline": deadline,
        "models": models or None,
        "folds": folds,
        "refit": refit,
        "seed": seed,
    }
    command.run(train, target, test, kind, settings, groups, out)


def info() -> None:
    """Prints the versions and the devices, for a bug report."""
    import jax

    import metahpo

    print(f"metahpo {metahpo.__version__}, jax {jax.__version__}, python {sys.version.split()[0]}")
    print(f"devices: {', '.join(map(str, jax.devices()))}")


def _annotate(command: Callable[..., None], conf: Any) -> None:
    """The first argument has no name; where nothing is given the text says what is done."""
    first, *_ = parameters = inspect.signature(command).parameters
    hints = command.__annotations__
    hints[first] = conf.Positional[hints[first]]
    for name, parameter in parameters.items():
        if parameter.default in (None, ()):
            hints[name] = Annotated[hints[name], conf.arg(help_behavior_hint="")]


def main() -> None:
    """Reads the command line; a wrong input ends with one line and exit status 2."""
    arguments = sys.argv[1:]
    if not arguments:
        print(__doc__.strip())
        return
    if arguments == ["info"]:  # works without extras
        info()
        return
    if arguments in (["--version"], ["-V"]):
        import metahpo

        print(metahpo.__version__)
        return
    try:
        tyro = require("tyro", "cli")
        app = tyro.extras.SubcommandApp()
        for command in (compare, automl, suggest):
            _annotate(command, tyro.conf)
            app.command(command)
        app.command(info)
        app.cli(
            prog="python -m metahpo",
            description=__doc__.splitlines()[0],
        )
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
