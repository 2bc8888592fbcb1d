"""The experience that is shipped for ``python -m metahpo suggest``, and what it is worth.

Three learners (a multilayer perceptron in JAX; random forests and support vector machines of
scikit-learn) with a default and quasi-random configurations each, on small tables to classify that
anyone may redistribute (``experiments.tables``).  The loss is the balanced error on the half of the
rows that is not trained on; two repeats with other halves.

The table: each table left out in turn with its near-duplicates, the normalised regret of the first
1 and 4 suggestions, 0 for the best of the configurations on record for a table, 1 for the worst;
intervals over tables.  Every method has the same configurations to choose from.

    python -m experiments.shipped_experience [--quick] [--resume] [--package FOLDER]

``--package metahpo/transfer/shipped_experience`` writes the files that the package ships.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.table_learners import LEARNERS, halves
from experiments.tables import Table, tables
from metahpo import quasirandom, transfer
from metahpo import space as spaces
from metahpo.report import interval
from metahpo.study import Findings, Work, command

METHODS = {
    "best on average": transfer.best_on_average,
    "greedy": transfer.greedy_portfolio,
    "nearest": transfer.nearest_tasks,
    "conditioned": transfer.conditioned_portfolio,
}
K = (1, 4)


class Size(NamedTuple):
    """How much is computed."""

    tables: int = 1000  # at most
    configurations: int = 32
    repeats: int = 2
    package: Path | None = None  # where the files go


QUICK = Size(tables=4, configurations=4, repeats=1)


def configurations(learner: str, count: int) -> list[dict[str, Any]]:
    """The default, and points of a Sobol sequence."""
    space, default, _ = LEARNERS[learner]
    sequence = quasirandom.scrambled(jax.random.key(0), quasirandom.directions(spaces.size(space)))
    unit = quasirandom.as_fractions(quasirandom.points(sequence, 0, count - 1))
    return [default, *spaces.decoder(space)(np.asarray(unit))]


def losses(learner: str, table: Table, size: Size) -> dict[str, np.ndarray]:
    """``f[C, R]`` of a table."""
    tried = configurations(learner, size.configurations)
    repeats = [
        LEARNERS[learner].losses(halves(table.x, table.y, seed), tried, seed)
        for seed in range(size.repeats)
    ]
    return {"losses": np.stack(repeats, axis=1)}


def experience(
    learner: str, chosen: Sequence[Table], found: dict[tuple[str, str], Any], size: Size
) -> transfer.Experience:
    """What a learner did on all tables, described."""
    return transfer.experience(
        LEARNERS[learner].space,
        [transfer.describe(table.x, table.y) for table in chosen],
        configurations(learner, size.configurations),
        np.stack([found[learner, table.name]["losses"] for table in chosen]),
        tasks=[table.name for table in chosen],
        groups=[table.group for table in chosen],
    )


def measured(past: transfer.Experience) -> list[dict]:
    """A row a method: on tables that are left out."""
    losses = past.losses()
    low, high = losses.min(1), losses.max(1)
    regret = (losses[:, 0] - low) / np.maximum(high - low, 1e-12)
    rows = [{"method": "default", "regret @1": interval(regret)}]
    for name, method in METHODS.items():
        found = transfer.evaluate(method(), past, K, grouped=True, controls=0)
        row = {"method": name}
        row |= {f"regret @{k}": interval(values) for k, values in zip(K, found.regret, strict=True)}
        rows.append(row | {"coverage": found.coverage})
    return rows


def study(size: Size, work: Work) -> Findings:
    """Trains, saves, and measures what it is worth."""
    chosen = list(tables())[: size.tables]
    by_name = {table.name: table for table in chosen}
    jobs = [(learner, table.name) for learner in LEARNERS for table in chosen]
    found = work.each(jobs, lambda job: losses(job[0], by_name[job[1]], size))
    rows, bytes_ = [], {}
    for learner in LEARNERS:
        past = experience(learner, chosen, found, size)
        rows += [{"learner": learner, **row} for row in measured(past)]
        if size.package is not None:
            path = size.package / f"{learner}.npz"
            transfer.save(path, past)
            bytes_[learner] = path.stat().st_size
    notes = {"tables": list(by_name), "bytes": bytes_}
    return Findings(rows, formats={"coverage": ".0%"}, notes=notes)


if __name__ == "__main__":
    command("experiments.shipped_experience", __doc__, study, Size(), QUICK, choices=("package",))
