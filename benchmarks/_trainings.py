"""Populations of trainings of an MLP on handwritten digits, beside the device's own ceilings.

A training is 100 steps of AdamW on minibatches of 32 images, 64 hidden units.  Two ceilings are
measured in the same run: operations per second of a large matrix product, and bytes per second of
a large copy.  Of a training the matrix products of its steps count, and each step has to read the
weights, the two moments and a minibatch and to write weights and moments back, as long as all this
does not stay in a cache.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import metahpo as mh
from benchmarks import common
from benchmarks.common import Row
from metahpo.base import HParams, Key, Problem, TaskFamily

BATCH = 32
SPACE = {"lr": mh.Float(1e-4, 1e-1, log=True), "l2": mh.Float(1e-6, 1e-1, log=True)}


class Sizes(NamedTuple):
    """How much is measured."""

    populations: tuple[int, ...]
    width: int
    steps: int
    chunk: int
    repeats: int
    product: int  # side of the square matrices
    copied: int  # floats


FULL = Sizes((4, 16, 64, 256, 1024), 64, steps=100, chunk=32, repeats=5, product=2048, copied=2**26)
QUICK = Sizes((2, 3), 4, steps=3, chunk=2, repeats=1, product=64, copied=2**12)


def problem(width: int) -> Problem:
    """AdamW on minibatches of digits."""

    def family(hparams: HParams) -> TaskFamily:
        del hparams
        return mh.problems.digits(max_width=width)

    return mh.problems.training(
        family(None),
        lambda h: optax.adamw(h["lr"], weight_decay=h["l2"]),
        family,
        lambda key, task: mh.problems.digits_minibatch(key, task, BATCH),
    )


def program(
    trained: Problem, population: int, steps: int, chunk: int | None, devices: int
) -> Callable[[Key, Any], Any]:
    """One round of random search."""
    mesh = jax.make_mesh((devices,), ("members",)) if devices > 1 else None
    strategy = mh.strategies.random(SPACE, population)

    def run(key: Key, task: Any) -> Any:
        found = mh.search(
            key, trained, SPACE, strategy, rounds=1, steps=steps, task=task, mesh=mesh, chunk=chunk
        )
        return found.best_loss, found.history.loss

    return run


def measure(sizes: Sizes) -> Iterator[Row]:
    """Members per second for each population, at once and in chunks, beside the ceilings."""
    trained = problem(sizes.width)
    task = jax.jit(trained.sample)(jax.random.key(0))
    peak = 2 * sizes.product**3 / min(product_seconds(sizes))
    bandwidth = 2 * 4 * sizes.copied / min(copy_seconds(sizes))  # read and written
    yield common.row("evolution/digits, ceiling", "operations_per_second", "1/s", [peak])
    yield common.row("evolution/digits, ceiling", "bytes_per_second", "B/s", [bandwidth])
    operations, bytes_moved = needs(trained, task, sizes)
    devices = jax.local_device_count()
    for population in sizes.populations:
        ways = {"at once": None, f"chunks of {sizes.chunk}": sizes.chunk}
        for way, chunk in ways.items():
            if chunk and chunk * devices >= population:
                continue
            run = jax.jit(program(trained, population, sizes.steps, chunk, devices))
            compiled = run.lower(jax.random.key(1), task).compile()
            (seconds,) = common.interleaved(
                sizes.repeats, lambda compiled=compiled: compiled(jax.random.key(1), task)
            )
            rates = [population / second for second in seconds]
            name = f"evolution/digits, population={population}, {devices} devices, {way}"
            yield common.row(name, "members_per_second", "1/s", rates)
            shares = {
                "operations_share": operations / peak,
                "memory_share": bytes_moved / bandwidth,
            }
            for metric, cost in shares.items():
                yield common.row(name, metric, "1", [rate * cost for rate in rates])
            temporary = compiled.memory_analysis().temp_size_in_bytes
            yield common.row(name, "temporary_bytes", "B", [temporary])


def needs(trained: Problem, task: Any, sizes: Sizes) -> tuple[float, float]:
    """Operations of a training's products, and the bytes it moves when nothing is in a cache."""
    pixels, classes = task.support.x.shape[-1], task.classes.shape[-1]
    # Forward and with respect to the weights in both layers; to the hidden units in the second.
    a_step = 2 * BATCH * sizes.width * (2 * pixels + 3 * classes)
    hparams = mh.space.decode(SPACE, jnp.full(2, 0.5))
    state = jax.eval_shape(trained.init, jax.random.key(0), hparams, task)
    held = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
    images = BATCH * pixels * task.support.x.dtype.itemsize
    return sizes.steps * a_step, sizes.steps * (2 * held + images)


def product_seconds(sizes: Sizes) -> list[float]:
    """Of one large matrix product."""
    a = jnp.ones((sizes.product, sizes.product))
    multiply = jax.jit(lambda a: a @ a)
    return common.interleaved(max(3, sizes.repeats), lambda: multiply(a))[0]


def copy_seconds(sizes: Sizes) -> list[float]:
    """Of reading and writing a large array."""
    a = jnp.ones(sizes.copied)
    scale = jax.jit(lambda a: a * 2.0)
    return common.interleaved(max(3, sizes.repeats), lambda: scale(a))[0]
