"""Many small trainings in one program, against a Python loop over one jitted training.

A training is 100 steps of a masked two-layer MLP on synthetic clusters.  Three sizes:

* ``digits size``: that of the digits comparison, 64 features, 10 classes, up to 64 hidden units,
  AdamW on minibatches of 32;
* ``small``: 8 features, 4 classes, up to 16 hidden units, AdamW on minibatches of 8;
* ``few-shot size``: the same network, gradient descent on all of its 8 examples, as in the inner
  loop of a meta-learner.

Cases:

* ``population=P``: ``mh.search`` trains P members with different hyperparameters on one task.
* ``population=256, D devices``: the same, spread over all local devices by ``mesh=``.
* ``tasks=K``: one training on each of K tasks with the same hyperparameters, vmapped.

* ``CNN with batch normalisation, population=P``: a flax NNX network of two convolutions through
  ``mh.problems.nnx``; its loop is over a training in flax and optax alone, with XLA's convolutions.

The baseline trains as many members or tasks one after another: one jitted training, data and
hyperparameters already on the device, the losses awaited only at the end.

What was learned about CPUs (CPU time on a loaded machine with AVX-512, one core unless said):

* XLA's CPU runtime costs a lone training only about 4 us a step.  At the digits' size a step takes
  13 us with 32 hidden units and 17 with 64, of which the matrix products, 0.65 MFLOP with 64 at
  some 60 GFLOP/s, are about 10.  Batching can gain little there; it gains in the measure in which
  models are smaller: 1.1, 2.8 and 3.9 times the members per second of the loop at the three sizes
  on one of two quiet cores, and 1.6, 5.2 and 6.7 times on both.
* Of the 11 us of a batched step with 32 hidden units, products and loss are 6, AdamW 3, and the
  minibatch 2 to 3.  How rows are gathered (clip, fill, slices) makes no difference.  The select
  that honours a member's budget costs less than a tenth.
* Batched matrix products of these sizes use one core.  One XLA device a core
  (``jax_num_cpu_devices``, set before JAX starts, as here) and ``mesh=`` use all of them.
* Batches beyond the cache cost: a population of 256 at the digits' size takes 0.53 to 0.65 s at
  once and 64 MB; in groups of 16 or 32 (``jax.lax.map``) 0.43 to 0.47, as the loop does, and
  25 MB.  1,536 members on 24 tasks take 4.1 s and 681 MB at once, task by task 2.8 s and 28 MB.
* Compile time is random numbers.  A hash is two kernels, which LLVM unrolls over short trailing
  axes: ``normal(key, (64, 64))`` and ``(64, 10)`` under three ``vmap``s take 10 s to compile, under
  one 2.8 s; one flat draw of all of them 1.5 and 0.4 s.  Since weights are drawn flat, minibatches
  need one hash instead of four and the keys of all steps are hashed before the loop, a search on
  digits compiles in 2.7 s instead of 5.4, over 24 tasks one by one in 4.5 instead of 7, with the
  tasks vmapped in 9.4 instead of 18, and a step is 13 % cheaper.
"""

import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from benchmarks import _flax_networks, common
from benchmarks.common import Row
from metahpo.base import HParams, Key, Problem, PyTree, Task, TaskFamily


class Model(NamedTuple):
    """The sizes of a training; ``batch=None`` is gradient descent on all examples."""

    name: str
    features: int
    width: int
    classes: int
    batch: int | None
    examples: int = 400


DIGITS = Model("digits size", features=64, width=64, classes=10, batch=32)
SMALL = Model("small", features=8, width=16, classes=4, batch=8)
FEW_SHOT = Model("few-shot size", features=8, width=16, classes=4, batch=None, examples=8)


class Sizes(NamedTuple):
    """How much is measured."""

    model: Model
    populations: tuple[int, ...]
    tasks: tuple[int, ...]
    others: tuple[Model, ...]  # measured with the largest population alone
    networks: tuple[int, ...]  # populations of convolutional networks
    steps: int
    repeats: int
    compilations: int


FULL = Sizes(
    DIGITS, (1, 16, 256), (1, 8, 32), (SMALL, FEW_SHOT), (16,), steps=100, repeats=9, compilations=3
)
QUICK = Sizes(FEW_SHOT, (2,), (2,), (), (), steps=3, repeats=1, compilations=1)


class Data(NamedTuple):
    """A task's two parts, each ``x`` f[n, features] and ``y`` i32[n]."""

    support: tuple[chex.Array, chex.Array]
    query: tuple[chex.Array, chex.Array]


class Case(NamedTuple):
    """Something to measure: ``trainings`` at once, and one of them for the loop."""

    name: str
    trainings: int
    together: Callable[..., PyTree]
    arguments: tuple[PyTree, ...]
    single: Callable[..., PyTree]
    singles: list[tuple[PyTree, ...]]


def space(model: Model) -> dict[str, Any]:
    """What the members differ in."""
    return {
        "learning_rate": mh.Float(1e-4, 1e-1, log=True),
        "weight_decay": mh.Float(1e-4, 10.0, log=True),
        "width": mh.Int(model.width // 2, model.width),
    }


def classification(model: Model, width: chex.Numeric) -> TaskFamily:
    """Clusters of noisy points to tell apart."""
    network = mh.problems.MaskedMLP(model.features, model.width, model.classes)

    def sample(key: Key) -> Data:
        centre_key, *keys = jax.random.split(key, 3)
        centres = jax.random.normal(centre_key, (model.classes, model.features))

        def part(key: Key) -> tuple[chex.Array, chex.Array]:
            label_key, noise_key = jax.random.split(key)
            y = jax.random.randint(label_key, (model.examples,), 0, model.classes)
            noise = jax.random.normal(noise_key, (model.examples, model.features))
            return centres[y] + 2 * noise, y

        return Data(*(part(key) for key in keys))

    def loss(params: PyTree, task: Data, split: str) -> chex.Array:
        x, y = task.support if split == "support" else task.query
        scores = network.apply(params, x, width)
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

    return TaskFamily(
        sample, lambda key, task: network.init(key, width), loss, lambda task: jnp.zeros(0)
    )


def problem(model: Model) -> Problem:
    """Training with AdamW on minibatches, or with gradient descent on everything."""
    family = classification(model, model.width)

    def configure(hparams: HParams) -> TaskFamily:
        return classification(model, hparams["width"])

    def minibatch(key: Key, task: Data) -> Data:
        x, y = task.support
        uniform = jax.random.uniform(key, (model.batch,))
        rows = jnp.floor(uniform * model.examples).astype(jnp.int32)
        return task._replace(support=(x[rows], y[rows]))

    if model.batch is None:
        return mh.problems.training(family, lambda h: optax.sgd(h["learning_rate"]), configure)
    return mh.problems.training(
        family,
        lambda h: optax.adamw(h["learning_rate"], weight_decay=h["weight_decay"]),
        configure,
        minibatch,
    )


def one_training(model: Model, steps: int) -> Callable[[Key, HParams, Task], chex.Array]:
    """What the loop calls: the validation loss of one training."""
    train = mh.inner.outer_loss(problem(model), steps)
    return lambda key, hparams, task: train(key, hparams, task)[0]


def population_case(model: Model, population: int, steps: int, devices: int = 1) -> Case:
    """A random search of one round."""
    single = one_training(model, steps)
    return searched_case(
        model.name, problem(model), space(model), single, population, steps, devices
    )


def searched_case(
    name: str,
    tuned: Problem,
    dimensions: Any,
    single: Callable[..., PyTree],
    population: int,
    steps: int,
    devices: int = 1,
) -> Case:
    """A random search of one round of a problem, and a training in its loop."""
    task = jax.jit(tuned.sample)(jax.random.key(0))
    mesh = jax.make_mesh((devices,), ("members",)) if devices > 1 else None
    strategy = mh.strategies.random(dimensions, population)

    def together(key: Key, task: Task) -> Any:
        return mh.search(
            key, tuned, dimensions, strategy, rounds=1, steps=steps, task=task, mesh=mesh
        )

    keys = jax.random.split(jax.random.key(1), population)
    hparams = jax.jit(jax.vmap(lambda key: mh.space.sample(key, dimensions)))(keys)
    singles = [(key, h, task) for key, h in zip(keys, unstack(hparams), strict=True)]
    return Case(
        f"core/{name}, population={population}" + (f", {devices} devices" if mesh else ""),
        population,
        together,
        (jax.random.key(2), task),
        single,
        singles,
    )


def cnn_case(population: int, steps: int) -> Case:
    """A random search over the rate of a convolutional network."""
    return searched_case(
        "CNN with batch normalisation",
        _flax_networks.problem(),
        _flax_networks.SPACE,
        _flax_networks.plain_training(steps),
        population,
        steps,
    )


def tasks_case(model: Model, count: int, steps: int) -> Case:
    """One training a task."""
    tasks = jax.jit(jax.vmap(problem(model).sample))(jax.random.split(jax.random.key(0), count))
    keys = jax.random.split(jax.random.key(1), count)
    hparams = jax.jit(lambda key: mh.space.sample(key, space(model)))(jax.random.key(2))
    single = one_training(model, steps)
    return Case(
        f"core/{model.name}, tasks={count}",
        count,
        jax.vmap(single, (0, None, 0)),
        (keys, hparams, tasks),
        single,
        [(key, hparams, task) for key, task in zip(keys, unstack(tasks), strict=True)],
    )


def unstack(tree: PyTree) -> list[PyTree]:
    """The entries of the leading axis, on the device, so that the loop need not slice."""
    leaves, treedef = jax.tree.flatten(tree)
    columns = zip(*(jax.device_put(list(np.asarray(leaf))) for leaf in leaves), strict=True)
    return [treedef.unflatten(column) for column in columns]


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes, devices = QUICK if quick else FULL, jax.local_device_count()
    largest = sizes.populations[-1]
    cases = [population_case(sizes.model, size, sizes.steps) for size in sizes.populations]
    cases += [tasks_case(sizes.model, count, sizes.steps) for count in sizes.tasks]
    cases += [population_case(model, largest, sizes.steps) for model in sizes.others]
    cases += [cnn_case(size, sizes.steps) for size in sizes.networks]
    if devices > 1:
        models = (sizes.model, *sizes.others)
        cases += [population_case(model, largest, sizes.steps, devices) for model in models]
    for case in cases:
        yield from measure_case(case, sizes)
    yield peak_memory()


def measure_case(case: Case, sizes: Sizes) -> Iterator[Row]:
    """Compile seconds, run seconds, rates and memory of one case."""
    programs = [(case.together, case.arguments), (case.single, case.singles[0])]
    compiled: list[Any] = [None, None]

    def build(i: int) -> Callable[[], None]:
        fn, arguments = programs[i]

        def run() -> None:
            jax.clear_caches()
            compiled[i] = jax.jit(fn).lower(*arguments).compile()

        return run

    compile_seconds = common.interleaved(sizes.compilations, build(0), build(1), warm_up=False)
    yield common.row(case.name, "compile_seconds", "s", *compile_seconds)

    together, single = compiled
    run_seconds = common.interleaved(
        sizes.repeats,
        lambda: together(*case.arguments),
        lambda: [single(*arguments) for arguments in case.singles],
    )
    yield common.row(case.name, "run_seconds", "s", *run_seconds)
    for metric, count in (
        ("inner_steps_per_second", case.trainings * sizes.steps),
        ("members_per_second", case.trainings),
    ):
        rates = [[count / second for second in column] for column in run_seconds]
        yield common.row(case.name, metric, "1/s", *rates)

    temporary = [[program.memory_analysis().temp_size_in_bytes] for program in compiled]
    yield common.row(case.name, "temporary_bytes", "B", *temporary)


def peak_memory() -> Row:
    """The peak of everything above: of the device where it tells, else of the process."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return common.row("core", "peak_device_bytes", "B", [statistics["peak_bytes_in_use"]])
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return common.row("core", "peak_process_bytes", "B", [peak])


if __name__ == "__main__":
    common.main(measure, __doc__)
