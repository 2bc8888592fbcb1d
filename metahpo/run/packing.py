"""A round in which few members train takes the time of few: the others are left out."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metahpo.base import RoundSize, Task
from metahpo.inner import Training
from metahpo.lanes import highest
from metahpo.run.member import Job, Trained

Evaluate = Callable[[Task, Training, Job], tuple[Trained, Any]]


def packed(
    whole: Evaluate, smaller: Sequence[tuple[RoundSize, Evaluate]], nobody: Evaluate
) -> Evaluate:
    """Trains those members side by side that have something to do.

    Sizes are static, so each has a program of its own, and a round takes the cheapest that holds
    it; under ``vmap`` the one that holds all lanes.

    Args:
        whole: of all members, for any round.
        smaller: of rounds of fewer members; those of as many or more are left out.
        nobody: what a round of idle members comes to.
    """

    def run(task: Task, trainings: Training, jobs: Job) -> tuple[Trained, Any]:
        population = jobs.budget.shape[0]
        fewer = [(size, evaluate) for size, evaluate in smaller if size.members < population]
        fewer = sorted(fewer, key=lambda pair: pair[0].members * pair[0].steps)
        sizes = np.array([(0, 0), *(size for size, _ in fewer)])
        busy = jobs.budget > 0
        # Those with something to do come first, in their order.
        order = jnp.argsort(~busy, stable=True)
        needed = jnp.stack([highest(busy.sum()), highest(jobs.budget.max())])
        fits = jnp.append((sizes >= needed).all(axis=1), True)

        def part(size: RoundSize, evaluate: Evaluate) -> Callable[..., tuple[Trained, Any]]:
            def branch(
                task: Task, trainings: Training, jobs: Job, order: jax.Array
            ) -> tuple[Trained, Any]:
                some = order[: size.members]
                trained, best = evaluate(task, trainings, jax.tree.map(lambda x: x[some], jobs))
                rest, _ = nobody(task, trainings, jobs)
                return jax.tree.map(lambda x, new: x.at[some].set(new), rest, trained), best

            return branch

        branches = [
            lambda task, trainings, jobs, order: nobody(task, trainings, jobs),
            *(part(*pair) for pair in fewer),
            lambda task, trainings, jobs, order: whole(task, trainings, jobs),
        ]
        return jax.lax.switch(jnp.argmax(fits), branches, task, trainings, jobs, order)

    return run
