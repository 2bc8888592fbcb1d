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

Finished functions are kept one by one.  About ten minutes on 2 cores.

    python -m experiments.bbob [--quick] [--resume]
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from experiments import bbob_pictures as pictures
from metahpo.problems.bbob.functions import FUNCTIONS
from metahpo.report import RunLengths
from metahpo.study import Findings, Work, command

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


QUICK = Size(1000, 1000, (2, 5), (OURS, "DE"), numbers=(1, 6, 10), instances=(1, 2, 3), repeats=1)


def stacked(number: int, dimension: int, instances) -> mh.problems.BBOBInstance:
    """Instances of a function, of the same shapes for all functions: filled up with zeros."""
    d, peaks = dimension, 101
    shapes = mh.problems.BBOBInstance((d,), (d, d), (d, d), (peaks, d), (peaks, d), (peaks,))

    def padded(leaf, shape):  # a peak of height zero stands nowhere above the others
        leaf = np.zeros(shape) if leaf is None else leaf
        return np.pad(leaf, [(0, b - a) for a, b in zip(leaf.shape, shape, strict=True)])

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


def measure(name: str, dimension: int, size: Size, work: Work):
    """Runs a strategy on all functions: run lengths by number, seconds without compiling."""
    instances, compiled = size.runs(name, dimension), []

    def on_function(job):
        number = job[-1]
        with jax.enable_x64(True):
            key = jax.random.fold_in(jax.random.key(size.seed), number)
            keys, index = jax.random.split(key, len(instances)), size.numbers.index(number)
            arguments = keys, jnp.int32(index), stacked(number, dimension, instances)
            if not compiled:  # once for all functions
                run = program(METHODS[name], dimension, size)
                compiled.append(run.lower(*arguments).compile())
            begin = time.perf_counter()
            loss, evaluated = map(np.asarray, compiled[0](*arguments))
        seconds = time.perf_counter() - begin
        return mh.report.run_lengths(loss, evaluated=evaluated)._asdict() | {"seconds": seconds}

    parts = work.each([(name, dimension, number) for number in size.numbers], on_function)
    seconds = sum(part.pop("seconds") for part in parts.values())
    return {job[-1]: RunLengths(**part) for job, part in parts.items()}, seconds


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
        ours, known = running_time(records[OURS, MAIN][number]), running_time(theirs[number])[0]
        row = {"f": number, **dict(zip((OURS, "low", "high", "solved"), ours, strict=True))}
        ratio = ours[0] / known if math.isfinite(ours[0]) else math.inf
        row |= {"published": known, "ratio": ratio}
        for name in size.methods[1:]:
            row[name] = running_time(records[name, MAIN][number])[0]
        rows.append(row)
    return rows


def study(size: Size, work: Work) -> Findings:
    """Every strategy in MAIN dimensions, and ours in the others."""
    jobs = [(name, MAIN) for name in size.methods]
    jobs += [(OURS, dimension) for dimension in size.dimensions if dimension != MAIN]
    found = {job: measure(*job, size, work) for job in jobs}
    records = {job: runs for job, (runs, _) in found.items()}
    rows = tabulate(records, size)
    whole = dict.fromkeys([name for name in rows[0] if name not in ("f", "ratio")], ".3g")
    runs = {name: records[name, MAIN] for name in size.methods}
    times = {
        d: {f: running_time(each) for f, each in records[OURS, d].items()}
        for d in sorted(size.dimensions)
    }
    notes = {
        "seconds": {f"{name}, {d}-D": round(each[1], 1) for (name, d), each in found.items()},
        "published": mh.report.load_json(PUBLISHED)["source"],
        OURS: {f"{d}-D": by_number for d, by_number in times.items()},
    }
    drawn = {
        "run_lengths.png": lambda path: pictures.draw_run_lengths(runs, MAIN, size.budget, path),
    }
    return Findings(rows, formats=whole | {"ratio": ".2f"}, notes=notes, pictures=drawn)


def plot_dimensions(results, path) -> None:
    """The running times of ours as ratios to the published ones, in every dimension."""
    times = {int(name.removesuffix("-D")): each for name, each in results[OURS].items()}
    times = dict(sorted(times.items()))
    known = {
        d: {str(f): running_time(each)[0] for f, each in published(OURS, d).items()} for d in times
    }
    pictures.draw_dimensions(OURS, times, known, path)


PICTURES = {"dimensions.png": plot_dimensions}


if __name__ == "__main__":
    command("experiments.bbob", __doc__, study, Size(), QUICK, PICTURES)
