"""A round in which few members train takes the time of few: the others are left out."""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import PyTree, RoundSize, Task
from metahpo.inner import Training
from metahpo.lanes import highest
from metahpo.run.member import Job, Trained

Population = tuple[Trained, Any]
Evaluate = Callable[[Task, Training, Job], Population]


def packed(
    whole: Evaluate,
    sized: Sequence[tuple[RoundSize, Evaluate]],
    nobody: Evaluate,
    in_place: bool,
) -> Evaluate:
    """Trains those members side by side that have something to do.

    Sizes are static, so each has a program of its own, and a round takes the cheapest that holds
    it; under ``vmap`` the one that holds all lanes.

    Args:
        whole: of all members, for any round.
        sized: of rounds of certain sizes.
        nobody: what a round of idle members comes to.
        in_place: whether the trainings that members go on from are those of the same members, and
            not also those on other devices.
    """

    def run(task: Task, trainings: Training, jobs: Job) -> Population:
        population = jobs.budget.shape[0]
        programs = [(s._replace(members=min(s.members, population)), of) for s, of in sized]
        programs = sorted(programs, key=lambda pair: pair[0].members * pair[0].steps)
        holds = np.array([(0, 0, 0, 0), *(_holds(size) for size, _ in programs)])
        busy = (jobs.budget > 0) | ~jobs.itself  # a copy of another is to be made
        # Those with something to do come first, in their order.
        order = jnp.argsort(~busy, stable=True)
        wants = (busy.sum(), jobs.budget.max(), jobs.fresh.any(), (busy & ~jobs.fresh).any())
        needed = jnp.stack([highest(number).astype(jnp.int32) for number in wants])
        fits = jnp.append((holds >= needed).all(axis=1), True)

        def read(found: Population) -> Training:
            return found[0].training if in_place else trainings

        def part(size: RoundSize, evaluate: Evaluate) -> Callable[..., Population]:
            def body(t: chex.Array, found: Population) -> Population:
                some = within(t, order[: size.members])
                rows = jnp.where(busy[some], some, population)  # idle ones stay as they are
                picked = jax.tree.map(lambda x: x[some], jobs)
                trained, best = evaluate(task, read(found), picked)
                return jax.tree.map(
                    lambda x, new: x.at[rows].set(new, mode="drop"), found[0], trained
                ), best

            return body

        def everybody(t: chex.Array, found: Population) -> Population:
            return whole(task, read(found), within(t, jobs))

        bodies = [*(part(*pair) for pair in programs), everybody]
        found = nobody(task, trainings, jobs)
        # A loop changes the trainings where they stand; a condition would copy all of them.
        for number, body in enumerate(bodies, 1):
            times = (jnp.argmax(fits) == number).astype(jnp.int32)
            found = jax.lax.fori_loop(0, times, body, found)
        return found

    return run


def within(t: chex.Array, tree: PyTree) -> PyTree:
    """What a compiler does not move out of the loop whose counter is ``t``."""
    return jax.lax.optimization_barrier((tree, t))[0]


def _holds(size: RoundSize) -> tuple[int, int, bool, bool]:
    """The members and updates that fit, and whether some may begin, and some go on."""
    return size.members, size.steps, size.scratch is not False, size.scratch is not True
