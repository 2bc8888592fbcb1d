"""Multi-fidelity: what a whole bracket costs, beside its rungs as populations of their own.

    python -m benchmarks.multi_fidelity --json FILE

A bracket of successive halving begins with 81 members, and after each of five rungs the best third
of them go on, so its rungs have 81, 27, 9, 3 and 1 members; Hyperband has five brackets.  The
trainings are those of ``benchmarks.core``.

Metrics:

* ``run_seconds``: one ``mh.search`` through all rounds.  The baseline is the sum over the rounds
  of a random search of as many members, in one round of as many updates, each a program of its
  own, measured in the same turn.  A ratio of 1 says that members who were dropped take no time.
  ``..., all slots``: the same strategy if it had not said how many members its rounds have.
* ``compile_seconds``: of the same programs; the baseline is the sum over the different rounds.

What was learned (CPU seconds of one core, the bracket of 1 to 81 steps at the digits' size):

* Without sizes all slots take part in every update of a rung: 9 times the time of the parts.
* With them the bracket takes 24 ms and its parts 23; from 10 to 810 steps both take 89.
* As branches of ``lax.switch`` it took 29: a condition copies what it passes on, here the states of
  all 81 members, in every round.  Loops of no or one turn change the states where they stand.
* XLA moves out of such a loop what does not depend on its turns, and so drew the initial weights of
  every size in every round: 85 ms, until a barrier bound them to the loop's counter.
* Members who go on need no new weights and members from scratch no old ones, so each size says
  which it is.
* The price is compilation: each size is a program, so a bracket compiles for about as long as its
  parts do together, Hyperband with 13 sizes two to three times as long as a bracket.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

import metahpo as mh
from benchmarks import common, core
from benchmarks.common import Row
from benchmarks.core import Model
from metahpo.base import Key, RoundSize, Strategy, Task
from metahpo.strategies.along_training import rungs
from metahpo.strategies.along_training.hyperband import schedule
from metahpo.strategies.along_training.rungs import Rung


class Case(NamedTuple):
    """A strategy that trains members for a while, and the rounds that it has."""

    name: str
    model: Model
    strategy: Strategy
    rounds: list[RoundSize]


class Sizes(NamedTuple):
    """How much is measured."""

    models: tuple[Model, ...]
    population: int
    min_steps: tuple[int, ...]
    repeats: int


FULL = Sizes((core.DIGITS, core.SMALL), 81, (1, 10), repeats=15)
QUICK = Sizes((core.FEW_SHOT,), 9, (1,), repeats=1)


def cases(sizes: Sizes) -> Iterator[Case]:
    """All cases."""
    for model, least in itertools.product(sizes.models, sizes.min_steps):
        space, population = core.space(model), sizes.population
        most = least * population
        halving = mh.strategies.successive_halving(space, population, most, min_steps=least)
        name = f"multi_fidelity/{model.name}, bracket, {least} to {most} steps"
        rounds = granted(rungs.bracket(population, rungs.fidelities(least, most, 3), 3))
        yield Case(name, model, halving, rounds)
        if least > sizes.min_steps[0]:
            continue
        everybody = halving._replace(needs=halving.needs._replace(sizes=()))
        yield Case(f"{name}, all slots", model, everybody, rounds)
        band = mh.strategies.hyperband(space, population, most, min_steps=least)
        name = f"multi_fidelity/{model.name}, Hyperband, {least} to {most} steps"
        brackets = schedule(population, rungs.fidelities(least, most, 3), 3)
        yield Case(name, model, band, granted(itertools.chain(*brackets)))


def granted(rounds: Iterable[Rung]) -> list[RoundSize]:
    """What is trained in each round."""
    return [RoundSize(rung.members, rung.granted) for rung in rounds]


def searched(case: Case, strategy: Strategy, rounds: int, steps: int) -> Callable[..., Any]:
    """``(key, task) -> (best loss, losses)``."""
    problem, space = core.problem(case.model), core.space(case.model)

    def run(key: Key, task: Task) -> Any:
        found = mh.search(key, problem, space, strategy, rounds=rounds, steps=steps, task=task)
        return found.best_loss, found.history.loss

    return run


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes = QUICK if quick else FULL
    for case in cases(sizes):
        yield from measure_case(case, sizes)


def measure_case(case: Case, sizes: Sizes) -> Iterator[Row]:
    """Run and compile seconds of one case."""
    space = core.space(case.model)
    task = jax.jit(core.problem(case.model).sample)(jax.random.key(0))
    arguments = jax.random.key(1), task
    steps = max(size.steps for size in case.rounds)
    whole = jax.jit(searched(case, case.strategy, len(case.rounds), steps))
    parts = {
        size: jax.jit(searched(case, mh.strategies.random(space, size.members), 1, size.steps))
        for size in case.rounds
    }
    compiled: dict[Any, Any] = {}

    def build(name: Any, program: Any) -> None:
        compiled[name] = program.lower(*arguments).compile()

    def build_parts() -> None:
        for size, program in parts.items():
            build(size, program)

    seconds = common.interleaved(1, lambda: build("whole", whole), build_parts, warm_up=False)
    yield common.row(case.name, "compile_seconds", "s", *seconds)
    seconds = common.interleaved(
        sizes.repeats,
        lambda: compiled["whole"](*arguments),
        lambda: [jax.block_until_ready(compiled[size](*arguments)) for size in case.rounds],
    )
    yield common.row(case.name, "run_seconds", "s", *seconds)


if __name__ == "__main__":
    common.main(measure, __doc__)
