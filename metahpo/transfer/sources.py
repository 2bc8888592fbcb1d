"""Experience from runs, folders of runs, tables and surrogates."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np

from metahpo import checks, problems
from metahpo import space as spaces
from metahpo.base import Key
from metahpo.run import MinimizeResult, SearchResult, kept
from metahpo.space import Choice, Constant, Space
from metahpo.transfer.experience import Experience, experience


def from_results(
    space: Space,
    results: Mapping[str, SearchResult | MinimizeResult],
    descriptors: Any,
    names: Sequence[str] | None = None,
) -> Experience:
    """Experience of runs, one of each task.

    Args:
        space: that was searched.
        results: by the task's name: of ``mh.search``, ``mh.run.drive`` or ``mh.minimize``.
        descriptors: of the tasks in their order, as for ``experience``.
        names: of the descriptors.

    Returns:
        An ``Experience`` with the loss of every evaluation, whatever its budget was; a point that
        was evaluated again is a repeat.

    Raises:
        ValueError: for something else than results, or a run without a finite loss.

    Example:
        >>> import metahpo as mh
        >>> space = {"x": mh.Float(0.0, 1.0)}
        >>> strategy = mh.strategies.random(space, population=4)
        >>> run = mh.minimize(lambda h: h["x"], space, strategy, rounds=2, progress=False)
        >>> from_results(space, {"task": run}, [{"rows": 10.0}]).scores.shape
        (1, 8, 1, 1)
    """
    units, losses = [], []
    for result in results.values():
        if not isinstance(result, SearchResult | MinimizeResult):
            checks.record("result", result, SearchResult, "mh.search")
        history = jax.device_get(result.history)
        made = history.budget > 0
        units.append(np.asarray(history.unit[made], np.float64))
        losses.append(_failures(history.loss[made]))
    return experience(space, descriptors, units, losses, names=names, tasks=list(results))


def from_folders(
    space: Space,
    folders: Mapping[str, str | os.PathLike[str]],
    descriptors: Any,
    names: Sequence[str] | None = None,
) -> Experience:
    """Experience of the folders of ``mh.minimize(directory=...)``, one of each task.

    Args:
        space: that was searched.
        folders: by the task's name.
        descriptors: of the tasks in their order, as for ``experience``.
        names: of the descriptors.

    Raises:
        ValueError: if a folder holds no evaluations, or damaged ones.
    """
    found = [kept(folder) for folder in folders.values()]
    units = [np.asarray(unit, np.float64) for unit, _, _ in found]
    losses = [_failures(loss) for _, loss, _ in found]
    return experience(space, descriptors, units, losses, names=names, tasks=list(folders))


def from_tables(
    tables: Mapping[str, problems.Table], descriptors: Any, names: Sequence[str] | None = None
) -> Experience:
    """Experience of tables with the same configurations, as ``mh.problems.table`` makes them.

    Args:
        tables: by the task's name.
        descriptors: of the tasks in their order, as for ``experience``.
        names: of the descriptors.

    Raises:
        ValueError: if the tables have other configurations, or none is given.

    Example:
        >>> import metahpo as mh
        >>> rows = {"x": np.arange(4)}
        >>> one = mh.problems.table({"x": mh.Int(0, 3)}, rows, np.arange(8.0).reshape(4, 2))
        >>> from_tables({"one": one}, [{"rows": 10.0}]).scores.shape
        (1, 4, 2, 1)
    """
    if not tables:
        raise ValueError("there must be at least one table, got none")
    first = next(iter(tables.values()))
    for name, table in tables.items():
        checks.record(f"tables[{name!r}]", table, problems.Table, "mh.problems.table")
        if table.space != first.space or not np.array_equal(table.columns, first.columns):
            raise ValueError(f"tables must have the same configurations, {name} has others")
    dims = first.space
    with jax.enable_x64(True):
        unit = np.stack(
            [
                np.asarray(dim.encode(column.astype(int) if isinstance(dim, Choice) else column))
                for dim, column in zip(dims.values(), first.columns.T, strict=True)
            ],
            axis=1,
        )
    order = [list(dims).index(name) for name in spaces.dimensions(dims)]
    scores = np.stack([table.scores for table in tables.values()])
    return experience(dims, descriptors, unit[:, order], scores, names=names, tasks=list(tables))


def from_surrogate(
    key: Key,
    read: problems.Surrogate,
    metric: str,
    descriptors: Any,
    configurations: int = 1000,
    names: Sequence[str] | None = None,
    instances: Sequence[str] | None = None,
) -> Experience:
    """Experience that a surrogate makes up: random configurations at its full training time.

    Args:
        key: draws the configurations.
        read: as ``mh.problems.read_surrogate`` makes it.
        metric: one of ``read.best``; negated where it is maximised.
        descriptors: of the tasks in their order, as for ``experience``.
        configurations: how many.
        names: of the descriptors.
        instances: which of ``read.instances``, all by default.

    Raises:
        ValueError: for an unknown metric or instance.
    """
    problem = problems.surrogate(read, metric)
    configurations = checks.whole("configurations", configurations)
    chosen = read.instances if instances is None else tuple(instances)
    for name in chosen:
        checks.one_of("an instance", name, read.instances)
    places = np.array([read.instances.index(name) for name in chosen])
    unit = jax.random.uniform(key, (configurations, spaces.size(read.space)))
    steps = np.iinfo(np.int32).max // 128  # beyond the last: at the full training time

    @jax.jit
    def losses(task: chex.Array) -> chex.Array:
        def one(point: chex.Array) -> chex.Array:
            hparams = spaces.decode(read.space, point)
            return problem.loss(key, hparams, task, np.int32(steps))

        return jax.vmap(one)(unit)

    scores = np.stack([np.asarray(losses(place), np.float64) for place in places])
    return experience(
        read.space, descriptors, np.asarray(unit, float), scores, names=names, tasks=chosen
    )


def read_pmlb(path: str | os.PathLike[str], metric: str = "bal_accuracy") -> Experience:
    """Evaluations of scikit-learn's learners on data sets of PMLB, from where a user keeps them.

    Args:
        path: an NPZ file with ``dataset`` (names), ``configs_json``, ``meta`` and ``meta_names``
            (descriptors) and scores of every data set and configuration, NaN where missing.
        metric: which of the scores, higher is better; it is subtracted from 1.

    Returns:
        An ``Experience``; numbers in the configurations are ordered choices.  Data sets of one
        family (``GAMETES_*``, the ``thyroid`` ones and so on) are groups.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is something else, or has no such metric.

    Source:
        Olson, La Cava, Orzechowski, Urbanowicz & Moore, "PMLB: a large benchmark suite for machine
        learning evaluation and comparison", BioData Mining 2017.

    Example:
        >>> past = read_pmlb("data/mapping/pmlb_SVC.npz")  # doctest: +SKIP
    """
    with np.load(Path(path).expanduser(), allow_pickle=False) as found:
        content = {name: found[name] for name in found.files}
    wanted = {"dataset", "configs_json", "meta", "meta_names"}
    if missing := sorted(wanted - set(content)):
        raise ValueError(f"{os.fspath(path)} must have {sorted(wanted)}, it lacks {missing}")
    others = set(content) - wanted - {"task_id"}
    checks.one_of("metric", metric, sorted(others))
    configurations = [json.loads(text) for text in content["configs_json"]]
    space = {name: _listed([c[name] for c in configurations]) for name in configurations[0]}
    rows = [{**c, **_constants(space)} for c in configurations]
    tasks = [str(name) for name in content["dataset"]]
    return experience(
        space,
        content["meta"],
        rows,
        1.0 - content[metric].astype(np.float64),
        names=[str(name) for name in content["meta_names"]],
        tasks=tasks,
        groups=[family(name) for name in tasks],
    )


FAMILIES = (
    "GAMETES", "Hill_Valley", "mfeat", "thyroid", "solar-flare", "monk", "mux", "parity",
    "cleve", "heart", "hungarian", "breast", "wdbc", "wine-quality", "car-evaluation", "cars",
    "credit", "german", "kr-vs-kp", "chess", "krkopt", "pima", "diabetes", "bupa", "liver",
    "house-votes", "vote", "analcatdata_cyyoung", "waveform", "led", "allbp", "allhyper",
    "allhypo", "allrep", "ann-thyroid", "dis", "hypothyroid", "new-thyroid", "sick",
)  # fmt: skip
_SAME = {
    **dict.fromkeys(
        ("allbp", "allhyper", "allhypo", "allrep", "ann-thyroid", "dis", "hypothyroid",
         "new-thyroid", "sick"),
        "thyroid",
    ),
    **dict.fromkeys(("cleve", "heart", "hungarian"), "heart"),
    **dict.fromkeys(("breast", "wdbc"), "breast"),
    **dict.fromkeys(("kr-vs-kp", "chess"), "chess"),
    **dict.fromkeys(("credit", "german"), "credit"),
    **dict.fromkeys(("pima", "diabetes"), "diabetes"),
    **dict.fromkeys(("bupa", "liver"), "bupa"),
    **dict.fromkeys(("house-votes", "vote"), "vote"),
}  # fmt: skip


def family(name: str) -> str:
    """The family of near-duplicates that a data set of PMLB or OpenML belongs to, or its name.

    Example:
        >>> family("GAMETES_Epistasis_2_Way"), family("kc1"), family("iris")
        ('GAMETES', 'kc', 'iris')
    """
    if name.rstrip("0123456789") in ("kc", "pc", "mc", "cm", "jm"):
        return "kc"  # defects of software, all of NASA
    if "thyroid" in name:
        return "thyroid"
    whole = {"dis", "led", "sick", "cars", "vote", "car-evaluation"}
    for start in FAMILIES:
        if name == start or (start not in whole and name.startswith(start)):
            return _SAME.get(start, start)
    return name


def _listed(values: Sequence[Any]) -> Choice | Constant:
    """All values of a hyperparameter; numbers in their order."""
    found = list(dict.fromkeys(values))
    if len(found) == 1 and found[0] is not None:
        return Constant(found[0])
    ordered = len(found) > 1 and not any(isinstance(x, bool | str | None) for x in found)
    return Choice(tuple(sorted(found) if ordered else found), ordered=ordered)


def _constants(space: dict[str, Any]) -> dict[str, Any]:
    return {name: dim.value for name, dim in space.items() if isinstance(dim, Constant)}


def _failures(losses: Any) -> np.ndarray:
    """What is not finite is a failure."""
    losses = np.asarray(losses, np.float64)
    return np.where(np.isfinite(losses), losses, np.inf)
