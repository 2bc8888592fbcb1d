"""All members of a round: side by side, in chunks, over the devices of a mesh."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from metahpo.base import PyTree, RoundSize, State, Task
from metahpo.inner import Training
from metahpo.lanes import highest
from metahpo.run.member import Job, Train, Trained, blank, select
from metahpo.run.packing import packed
from metahpo.run.sharding import automatic, padded


class Best(NamedTuple):
    """The member with the lowest loss of a round; the first of several."""

    loss: chex.Array
    state: State


Evaluate = Callable[[Task, Training, Job], tuple[Trained, Best]]


def evaluator(
    train: Train,
    keep: bool,
    chunk: int | None,
    mesh: Mesh | None,
    sized: Sequence[tuple[RoundSize, Train]] = (),
) -> Evaluate:
    """Makes ``train`` a function of a whole population.

    Args:
        train: from ``run.member``.
        keep: whether the trainings of all members are needed in the next round.  If not, only the
            state of the best is kept, so memory need not hold more than a chunk of them.
        chunk: members that are trained side by side on one device; all by default.  A chunk whose
            members are all idle is skipped.
        mesh: devices to spread the members over.
        sized: rounds of certain sizes, and what trains one of their members; see
            ``run.packing``.

    Returns:
        ``(task, trainings, jobs) -> (members, best)`` with leading axes ``[P]``; ``trainings`` are
        those after the round before, and ``members.training`` those after this one (``()`` where
        they are not kept).  All but the trainings are on every device.
    """

    def of(train: Train, scratch: bool | None = None) -> Evaluate:
        return lambda *args: _in_chunks(train, keep, chunk, bool(scratch), *args)

    def nobody(task: Task, trainings: Training, jobs: Job) -> tuple[Trained, Best]:
        shapes = jax.eval_shape(of(train), task, trainings, jobs)
        # With a mesh there are the trainings of all devices.
        kept = jax.tree.map(lambda x: x[jobs.source], trainings) if mesh and keep else trainings
        return _idle(shapes, kept, jobs)

    here = of(train)
    if sized:
        programs = [(size, of(train, size.scratch)) for size, train in sized]
        here = packed(here, programs, nobody, in_place=mesh is None)
    if mesh is None:
        return here
    return _on_mesh(here, keep, mesh)


def _side_by_side(
    train: Train, keep: bool, scratch: bool, task: Task, trainings: Training, jobs: Job
) -> tuple[Trained, Best]:
    if keep and not scratch:
        sources = jax.tree.map(lambda x: x[jobs.source], trainings)
        trained = jax.vmap(train, (None, 0, 0))(task, sources, jobs)
    else:
        trained = jax.vmap(train, (None, None, 0))(task, None, jobs)
    i = jnp.argmin(trained.loss)
    best = Best(trained.loss[i], jax.tree.map(lambda x: x[i], trained.training.state))
    return (trained if keep else trained._replace(training=())), best


def _in_chunks(
    train: Train,
    keep: bool,
    chunk: int | None,
    scratch: bool,
    task: Task,
    trainings: Training,
    jobs: Job,
) -> tuple[Trained, Best]:
    size = jobs.budget.shape[0]
    if chunk is None or chunk >= size:
        return _side_by_side(train, keep, scratch, task, trainings, jobs)
    pad = -size % chunk
    shape = ((size + pad) // chunk, chunk)
    chunks = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), _idle_padded(jobs, pad))
    some = jax.tree.map(lambda x: x[0], chunks)
    shapes = jax.eval_shape(
        lambda *args: _side_by_side(train, keep, scratch, *args), task, trainings, some
    )

    def busy(jobs: Job) -> tuple[Trained, Best]:
        return _side_by_side(train, keep, scratch, task, trainings, jobs)

    def idle(jobs: Job) -> tuple[Trained, Best]:
        kept = jax.tree.map(lambda x: x[jobs.source], trainings) if keep else trainings
        return _idle(shapes, kept, jobs)

    def body(best: Best, jobs: Job) -> tuple[Best, Trained]:
        some_work = highest(jobs.budget.max()) > 0
        trained, found = jax.lax.cond(some_work, busy, idle, jobs)
        return select(found.loss < best.loss, found, best), trained

    nobody = blank(shapes[1], jobs.key[0])._replace(loss=jnp.full_like(shapes[1].loss, jnp.inf))
    best, rows = jax.lax.scan(body, nobody, chunks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], rows), best


def _idle(shapes: tuple[Trained, Best], kept: Training, jobs: Job) -> tuple[Trained, Best]:
    """What training idle members comes to, for nothing: they have the trainings ``kept``."""
    trained, best = blank(shapes, jobs.key[0])
    infinite = jnp.full_like(trained.loss, jnp.inf)
    trained = trained._replace(training=kept, memory=jobs.memory, loss=infinite)
    return trained, best._replace(loss=jnp.full_like(best.loss, jnp.inf))


def _on_mesh(here: Evaluate, keep: bool, mesh: Mesh) -> Evaluate:
    split, same = PartitionSpec(mesh.axis_names), PartitionSpec()

    def everywhere(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: _gathered(x, mesh), tree)

    def on_device(task: Task, trainings: Training, jobs: Job) -> tuple[Trained, Best]:
        # A member may go on from the state of a member on another device.
        trained, best = here(task, everywhere(trainings), jobs)
        training, memory = trained.training, trained.memory
        rows = everywhere(trained._replace(training=(), memory=()))
        bests = everywhere(jax.tree.map(lambda x: x[None], best))
        i = jnp.argmin(bests.loss)
        best = jax.tree.map(lambda x: x[i], bests)
        return rows._replace(training=training, memory=memory), best

    def run(task: Task, trainings: Training, jobs: Job) -> tuple[Trained, Best]:
        size = jobs.budget.shape[0]
        pad = -size % mesh.size
        rows = Trained(split, split, same, same, same, same, same)
        trained, best = jax.shard_map(
            on_device,
            mesh=automatic(mesh),
            in_specs=(same, split, split),
            out_specs=(rows, same),
            check_vma=False,
        )(task, padded(trainings, pad), _idle_padded(jobs, pad))
        return jax.tree.map(lambda x: x[:size] if pad else x, trained), best

    return run


def _gathered(x: chex.Array, mesh: Mesh) -> chex.Array:
    """The parts of all devices, in order."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        numbers = _gathered(jax.random.key_data(x), mesh)
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(x))
    return jax.lax.all_gather(x, mesh.axis_names, tiled=True)


def _idle_padded(jobs: Job, pad: int) -> Job:
    """Copies of the last member that have nothing to do."""
    if not pad:
        return jobs
    more = padded(jobs, pad)
    return more._replace(budget=more.budget.at[-pad:].set(0))
