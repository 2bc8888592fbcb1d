"""Evolution on the 24 noiseless BBOB functions, beside the data published in 2009.

Every strategy minimises every function on instances 1 to 15 in 5 dimensions and in float64, until
it comes within 1e-8 of the optimum or has spent 200,000 evaluations; BIPOP-CMA-ES does so in 2, 3
and 10 dimensions too, with 10,000 evaluations a dimension.  One run an instance, but four of
BIPOP-CMA-ES in 5 dimensions, whose run lengths on f15 and f19 spread so much that the mean of 15
has a standard error of 17 %.  The runs on a function go side by side in one program, which ends
with the last of them; the function's number is an argument of it, so a strategy is compiled once
for all 24.

Strategies have their defaults in the box [-5, 5]^D; only BIPOP- and IPOP-CMA-ES restart.  In 2009
CMA-ES had no bounds, so these two have those of [-10, 10]^D, with starts in [-4, 4]^D and an
initial step size of 2 as then.  L-SHADE spreads the budget that it is given, so its run lengths
grow with it.

A run's length is the number of evaluations until its loss is at most a target; the targets are 51,
from 100 down to 1e-8.  The expected running time is what a success costs: the evaluations of all
runs up to their success or their end, divided by the number of successes, with a 95 % bootstrap
interval.  Published are the run lengths to 1e-8 of the optimisers of the workshop BBOB 2009 (15
runs, three on each of instances 1 to 5), kept in ``bbob_2009.json`` with their source; their
budgets are larger.

Finished functions are kept in the folder of the results, so that a run that was cut short goes on
where it was.  About ten minutes on 2 cores.

    python -m experiments.bbob [--out results/bbob] [--quick]
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from metahpo.problems.bbob.functions import FUNCTIONS
from metahpo.report import BBOB_TARGETS, RunLengths

PUBLISHED = Path(__file__).with_name("bbob_2009.json")
NUMBERS, INSTANCES, TARGET = range(1, 25), range(1, 16), 1e-8
MAIN, OURS = 5, "BIPOP-CMA-ES"  # the dimension of all strategies, the strategy of all dimensions


class Method(NamedTuple):
    """A strategy: ``make(space, population, budget)``, its population in ``D`` dimensions.

    ``slack`` is by how much rounds outnumber ``budget / population`` because some slots are idle,
    ``bound`` that of every coordinate.
    """

    make: Callable[..., mh.Strategy]
    population: Callable[[int], int]
    slack: float = 1.0
    bound: float = 5.0


def cma_population(dimension: int) -> int:
    return 4 + int(3 * math.log(dimension))


S = mh.strategies
WIDE = 10.0
LIKE_2009 = {"starts": (0.3, 0.7), "sigma": 0.1}  # of [-10, 10]^D: [-4, 4]^D and 2
METHODS = {
    OURS: Method(
        lambda space, p, _: S.bipop_cma_es(space, p, **LIKE_2009), cma_population, 2.0, WIDE
    ),
    "IPOP-CMA-ES": Method(
        lambda space, p, _: S.ipop_cma_es(space, p, **LIKE_2009), cma_population, 2.0, WIDE
    ),
    "CMA-ES": Method(lambda space, p, _: S.cma_es(space, p), cma_population),
    "L-SHADE": Method(
        lambda space, p, budget: S.l_shade(space, p, evaluations=budget), lambda d: 18 * d, 4.0
    ),
    "DE": Method(lambda space, p, _: S.differential_evolution(space, p), lambda d: 10 * d),
    "PSO": Method(lambda space, p, _: S.pso(space, p), lambda d: 40),
    "GA": Method(lambda space, p, _: S.genetic(space, p), lambda d: 100),
    "random": Method(lambda space, p, _: S.random(space, p), lambda d: 100),
}


class Size(NamedTuple):
    """How much is computed; budgets are evaluations a run and dimension, in 5-D and elsewhere."""

    budget: int = 40_000
    elsewhere: int = 10_000
    dimensions: tuple[int, ...] = (2, 3, 5, 10)
    methods: tuple[str, ...] = tuple(METHODS)
    numbers: tuple[int, ...] = tuple(NUMBERS)
    instances: tuple[int, ...] = tuple(INSTANCES)
    repeats: int = 4  # runs an instance, of OURS in MAIN dimensions; one of all others
    seed: int = 1

    def evaluations(self, dimension: int) -> int:
        return dimension * (self.budget if dimension == MAIN else self.elsewhere)

    def runs(self, name: str, dimension: int) -> tuple[int, ...]:
        """The instance of every run."""
        return self.instances * (self.repeats if (name, dimension) == (OURS, MAIN) else 1)


FULL = Size()
QUICK = Size(
    budget=1000,
    elsewhere=1000,
    dimensions=(2, 5),
    methods=(OURS, "DE"),
    numbers=(1, 6, 10),
    instances=(1, 2, 3),
    repeats=1,
)


class Record(NamedTuple):
    """The runs of one strategy in one dimension, by number of the function."""

    runs: dict[int, RunLengths]
    seconds: float  # that they took, without compiling


def stacked(number: int, dimension: int, instances) -> mh.problems.BBOBInstance:
    """Instances of a function, of the same shapes for all functions: filled up with zeros."""
    square, peaks = np.zeros((dimension, dimension)), np.zeros((101, dimension))
    shapes = mh.problems.BBOBInstance(square[0], square, square, peaks, peaks, np.zeros(101))

    def padded(leaf, zeros):  # a peak of height zero stands nowhere above the others
        if leaf is None:
            return zeros
        return np.pad(leaf, [(0, b - a) for a, b in zip(leaf.shape, zeros.shape, strict=True)])

    each = [mh.problems.bbob_instance(number, dimension, i) for i in instances]
    filled = [mh.problems.BBOBInstance(*map(padded, one, shapes)) for one in each]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *filled)


def program(method: Method, dimension: int, size: Size):
    """A strategy's runs, ``(keys [N], index into size.numbers, N instances) -> losses, slots``."""
    budget = size.evaluations(dimension)
    population = method.population(dimension)
    space = mh.problems.bbob_space(dimension, method.bound)
    strategy = method.make(space, population, budget)
    stop = mh.stopping.when(target=TARGET, evaluations=budget)

    functions = [FUNCTIONS[number - 1] for number in size.numbers]

    def run(key, index, instance):
        def loss(key, hparams, task, state):
            return jax.lax.switch(index, functions, hparams["x"], task)

        problem = mh.problems.bbob(1, dimension)._replace(loss=loss)
        rounds = math.ceil(method.slack * budget / population)
        history = mh.search(
            key, problem, space, strategy, rounds=rounds, steps=1, task=instance, stop=stop
        ).history
        return history.loss, history.budget > 0

    return jax.jit(jax.vmap(run, in_axes=(0, None, 0)))


def measure(name: str, dimension: int, size: Size, folder: Path) -> Record:
    """Runs a strategy on all functions, but for those that the folder already holds."""
    path = folder / f"{name}.{dimension}.npz"
    instances = size.runs(name, dimension)
    settings = np.array([size.evaluations(dimension), size.seed, *instances], float)
    known = mh.report.load_npz(path) if path.exists() else {}
    if not np.array_equal(known.get("settings"), settings):
        known = {"settings": settings, "seconds": np.zeros(())}
    run = None
    for index, number in enumerate(size.numbers):
        if f"hits.{number}" in known:
            continue
        with jax.enable_x64(True):
            key = jax.random.fold_in(jax.random.key(size.seed), number)
            keys = jax.random.split(key, len(instances))
            arguments = keys, jnp.int32(index), stacked(number, dimension, instances)
            if run is None:  # once for all functions
                run = program(METHODS[name], dimension, size).lower(*arguments).compile()
            begin = time.perf_counter()
            loss, evaluated = map(np.asarray, run(*arguments))
        known["seconds"] = known["seconds"] + time.perf_counter() - begin
        lengths = mh.report.run_lengths(loss, BBOB_TARGETS, evaluated)
        known[f"hits.{number}"], known[f"total.{number}"] = lengths.hits, lengths.total
        mh.report.save_npz(path, known)
        solved = np.isfinite(lengths.hits[:, -1]).sum()
        print(f"{name}, {dimension}-D, f{number}: {solved} of {len(loss)} solved", flush=True)
    runs = {
        number: RunLengths(BBOB_TARGETS, known[f"hits.{number}"], known[f"total.{number}"])
        for number in size.numbers
    }
    return Record(runs, float(known["seconds"]))


def published(name: str, dimension: int) -> dict[int, RunLengths]:
    """The run lengths to 1e-8 of an optimiser of 2009, by number of the function."""
    data = mh.report.load_json(PUBLISHED)["optimisers"][name][str(dimension)]
    return {
        int(number): RunLengths(
            np.array([TARGET]),
            np.array([[np.inf if hit is None else hit] for hit in runs["hits"]]),
            np.array(runs["total"], float),
        )
        for number, runs in data.items()
    }


def final(lengths: RunLengths) -> RunLengths:
    """The last target alone, 1e-8."""
    return lengths._replace(targets=lengths.targets[-1:], hits=lengths.hits[:, -1:])


def running_time(lengths: RunLengths) -> tuple[float, float, float, int]:
    """Expected running time to the last target, the ends of its interval, successes."""
    last = final(lengths)
    low, high = mh.report.running_time_interval(last)
    expected = mh.report.expected_running_time(last)
    return float(expected[0]), float(low[0]), float(high[0]), int(np.isfinite(last.hits).sum())


def tabulate(records, size: Size) -> list[dict]:
    """A row a function: running times of all strategies, ours beside the published one."""
    theirs = published(OURS, MAIN)
    rows = []
    for number in size.numbers:
        expected, low, high, successes = running_time(records[OURS, MAIN].runs[number])
        known = running_time(theirs[number])
        row = {
            "f": number,
            OURS: expected,
            "low": low,
            "high": high,
            "solved": successes,
            "published": known[0],
            "ratio": expected / known[0] if math.isfinite(expected) else math.inf,
        }
        for name in size.methods[1:]:
            row[name] = running_time(records[name, MAIN].runs[number])[0]
        rows.append(row)
    return rows


def study(size: Size, folder: Path):
    """Everything that the table and the pictures show: records by strategy and dimension."""
    jobs = [(name, MAIN) for name in size.methods]
    jobs += [(OURS, dimension) for dimension in size.dimensions if dimension != MAIN]
    return {job: measure(*job, size, folder) for job in jobs}


def draw(rows, records, size: Size, out: Path) -> None:
    """All pictures; needs matplotlib."""
    from experiments import bbob_pictures as pictures

    runs = {name: records[name, MAIN].runs for name in size.methods}
    pictures.draw_run_lengths(runs, MAIN, size.budget, out / "run_lengths.png")
    beside = [name for name in (OURS, "PSO", "GA") if name in size.methods]
    ours = {name: {f: final(each) for f, each in runs[name].items()} for name in beside}
    theirs = {
        name: {f: each for f, each in published(name, MAIN).items() if f in size.numbers}
        for name in beside
    }
    pictures.draw_published(rows, ours, theirs, out / "published.png")
    mine, known = (
        {d: {f: running_time(each) for f, each in by(d).items()} for d in sorted(size.dimensions)}
        for by in (lambda d: records[OURS, d].runs, lambda d: published(OURS, d))
    )
    pictures.draw_dimensions(OURS, mine, known, out / "dimensions.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/bbob"))
    parser.add_argument("--quick", action="store_true", help="3 functions, 3 instances, 2 methods")
    arguments = parser.parse_args()
    size, out = QUICK if arguments.quick else FULL, arguments.out
    records = study(size, out / "runs")
    rows = tabulate(records, size)
    whole = dict.fromkeys([name for name in rows[0] if name not in ("f", "ratio")], ".3g")
    mh.report.print_table(rows, formats=whole | {"ratio": ".2f"})
    seconds = {f"{name}, {d}-D": round(r.seconds, 1) for (name, d), r in records.items()}
    others = {
        f"{d}-D": {str(f): running_time(r.runs[f]) for f in size.numbers}
        for (name, d), r in records.items()
        if name == OURS
    }
    source = mh.report.load_json(PUBLISHED)["source"]
    notes = {"settings": size, "seconds": seconds, "published": source, OURS: others}
    mh.report.save_json(out / "results.json", notes | {"rows": rows})
    try:
        draw(rows, records, size, out)
    except ImportError:
        print("no pictures: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
