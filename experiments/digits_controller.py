"""A controller of rate, weight decay and momentum beside the best constant ones of each task.

A two-layer network of 32 units is trained by AdamW for 100 steps of 32 images on tasks drawn from
scikit-learn's digits (5 to 10 classes, 20 to 400 images, noisy labels and pixels).  A controller,
a network of 16 units, moves learning rate, weight decay and momentum before each of ten segments;
it sees them, the losses on the validation images until now, the time and a descriptor of the
training images.  It has learned on other tasks, and does a single training on a new one.

It learns by hypergradients through the training.  Another one learns so to choose once, at the
beginning, which shows what moves are worth.  They stand beside the best constant configurations
that 32 trainings on the new task find.  The yardstick are schedules that hypergradient descent fits
to the new task, from what the first controller does there.

The losses of searches are the lowest that they have found; as the best of many is too good, what
they found is trained again, with fresh seeds that are the same for all.  95 % intervals over 32
held-out tasks, differences paired by task; a controller is judged by the mean over 5 that learned
from different seeds.  The settings were chosen on other tasks.

    python -m experiments.digits_controller [--quick] [--resume]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import metahpo as mh
from metahpo import rl, strategies
from metahpo.problems import digits, digits_accuracy, digits_minibatch
from metahpo.report.plots import COLORS, label_ends, scales
from metahpo.study import (
    GRADIENT_COST,
    Findings,
    Work,
    beside,
    column,
    command,
    draw_intervals,
    paired,
    panels,
)

STEPS, SEGMENTS, WIDTH = 100, 10, 32
SPACE = {
    "damping": mh.Float(0.01, 1.0, log=True),  # 1 - momentum
    "learning_rate": mh.Float(1e-4, 1e-1, log=True),
    "weight_decay": mh.Float(1e-4, 10.0, log=True),
}
NAMES = list(SPACE)
TIME = len(NAMES) + 3  # of an observation
BUDGET = 32
BASE, YARDSTICK = "static, hypergradient", "fitted schedule"
OURS = "controller, hypergradient"
FITTED, REPEATS = 100, 4  # rounds of hypergradients, each of so many trainings


class Size(NamedTuple):
    """How much is computed: ``trainings`` are those that a controller learns from."""

    tasks: int = 32
    fresh: int = 8
    seeds: int = 5
    trainings: int = 9_600
    seed: int = 0


QUICK = Size(tasks=3, fresh=2, seeds=2, trainings=192)


@functools.cache
def family() -> mh.TaskFamily:
    return digits(WIDTH)


def training() -> mh.Problem:
    """AdamW on tasks without their test images."""

    def optimizer(hparams):
        rate, decay = hparams["learning_rate"], hparams["weight_decay"]
        # eps_root keeps hypergradients finite for weights whose gradient is zero.
        return optax.adamw(rate, 1 - hparams["damping"], weight_decay=decay, eps_root=1e-8)

    problem = mh.problems.training(family(), optimizer, minibatch=digits_minibatch)
    return problem._replace(sample=lambda key: blind(family().sample(key)))


def blind(task):
    """The task as those see it who learn from it."""
    return task._replace(test=())


@functools.cache
def described() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the descriptors of other tasks."""
    problem = training()
    with jax.ensure_compile_time_eval():
        keys = jax.random.split(jax.random.key(7), 64)
        seen = np.asarray(jax.lax.map(lambda key: problem.describe(problem.sample(key)), keys))
    return seen.mean(axis=0), seen.std(axis=0)


@functools.cache
def environment(segments: int) -> rl.Environment:
    """From the middle of the space the first move reaches every point of it."""
    mean, scale = described()
    with jax.ensure_compile_time_eval():
        return rl.tuning_environment(
            training(), SPACE, STEPS // segments, segments, moves=mh.Float(-0.5, 0.5), mean=mean,
            scale=scale,
        )  # fmt: skip


def segment_of(seen):
    """The segment that comes next."""
    return jnp.round((seen[TIME] + 1) / 2 * SEGMENTS).astype(jnp.int32)


class Controller(NamedTuple):
    """Who learns: how, and how often it may act."""

    learn: Callable[[Any, "Controller", int], Any]
    segments: int = SEGMENTS

    def policy(self) -> rl.Policy:
        return rl.gaussian_policy(environment(self.segments), (16,))


def by_gradients(estimator: Callable[[mh.Problem, int], mh.Estimator], tasks: int, rate: float):
    """Learning from the loss after a training, with the most probable moves."""

    def learn(key, controller: Controller, trainings: int):
        policy = controller.policy()
        process = rl.problem(
            environment(controller.segments), policy, greedy=True, loss=lambda state: state.loss
        )
        rounds = max(1, round(trainings / (tasks * GRADIENT_COST)))
        start_key, run_key = jax.random.split(key)
        return mh.meta_train(
            run_key,
            process,
            estimator(process, controller.segments),
            policy.init(start_key),
            optax.adam(optax.cosine_decay_schedule(rate, rounds)),
            rounds=rounds,
            tasks=tasks,
        ).hparams

    return learn


def reverse(process: mh.Problem, segments: int) -> mh.Estimator:
    return mh.hypergrad.clipped(mh.hypergrad.reverse(process, segments), 1.0)


hypergradients = by_gradients(reverse, tasks=8, rate=0.02)
CONTROLLERS = {
    OURS: Controller(hypergradients),
    "chooses once, hypergradient": Controller(hypergradients, segments=1),
}
STATIC = {
    "static, random": (lambda: strategies.random(SPACE, BUDGET), 1),
    "static, DE": (lambda: strategies.differential_evolution(SPACE, 8), BUDGET // 8),
    "static, hypergradient": (lambda: strategies.hypergradient(SPACE, 2), 5),  # 30 trainings
}


class Judged(NamedTuple):
    """Of trainings with fresh seeds; leading axes ``[tasks, fresh]``, of controllers before them
    ``[seeds]``."""

    loss: np.ndarray  # on validation images
    test_loss: np.ndarray
    accuracy: np.ndarray  # of test images
    units: np.ndarray  # f[SEGMENTS, D], where in the cube each segment trained
    found: np.ndarray  # the lowest loss of the search itself; of controllers as ``loss``


def play(key, task, act, segments: int = SEGMENTS):
    """One training with somebody's moves: losses, accuracy and where it went."""
    process = environment(segments)
    reset_key, run_key = jax.random.split(key)
    state = process.reset(reset_key, blind(task))
    state, trajectory = rl.episode(run_key, process, act, segments, state)
    params = state.training.state.params
    test_loss = family().loss(params, task._replace(query=task.test), "query")
    units = (trajectory.next_observation[:, : len(NAMES)] + 1) / 2
    units = jnp.repeat(units, SEGMENTS // segments, axis=0)
    return Judged(state.loss, test_loss, digits_accuracy(params, task, WIDTH), units, state.loss)


def planned(units):
    """Moves to the points ``f[SEGMENTS, D]`` of a plan, one after the other."""
    before = jnp.concatenate([jnp.full((1, len(NAMES)), 0.5), units[:-1]])
    moves = jnp.clip(units - before, -0.5, 0.5)
    return lambda key, seen: moves[jnp.minimum(segment_of(seen), SEGMENTS - 1)]


def search(name: str, key, task):
    """The best constant point of a search on one task, and its loss."""
    make, rounds = STATIC[name]
    strategy, problem = make(), training()
    gradient = mh.hypergrad.reverse(problem, STEPS, "none") if strategy.needs.gradients else None
    found = mh.search(
        key, problem, SPACE, strategy, rounds=rounds, steps=STEPS, task=blind(task),
        estimator=gradient,
    )  # fmt: skip
    return found.best_unit, found.best_loss


def fit(key, task, units):
    """Hypergradient descent on the points of a plan for one task, from some."""

    def act(key, plan, seen):
        return planned(plan["units"])(key, seen)

    process = rl.problem(environment(SEGMENTS), act, loss=lambda state: state.loss)
    process = process._replace(sample=lambda key: blind(task))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, FITTED))
    return mh.meta_train(
        key, process, reverse(process, SEGMENTS), {"units": units}, optimizer, rounds=FITTED,
        tasks=REPEATS,
    ).hparams["units"]  # fmt: skip


def held_out(size: Size):
    """Tasks, and keys ``[tasks, 1 + fresh]``, which nobody learns from."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(size.seed), 1), size.tasks)
    tasks = jax.jit(jax.vmap(family().sample))(keys)
    return tasks, jax.vmap(lambda key: jax.random.split(key, 1 + size.fresh))(keys)


@functools.cache
def learner(name: str, trainings: int):
    controller = CONTROLLERS[name]
    return jax.jit(lambda key: ravel_pytree(controller.learn(key, controller, trainings))[0])


def learn(name: str, seed: int, size: Size) -> dict[str, Any]:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(size.seed), 2), seed + 1)
    return {"weights": learner(name, size.trainings)(keys[seed])}


def judge_controller(name: str, weights: np.ndarray, size: Size) -> Judged:
    """All seeds' weights ``f[seeds, W]`` on all tasks."""
    controller = CONTROLLERS[name]
    policy = controller.policy()
    unravel = ravel_pytree(policy.init(jax.random.key(0)))[1]

    def one(key, task, flat):
        act = lambda key, seen: policy.mode(unravel(flat), seen)  # noqa: E731
        return play(key, task, act, controller.segments)

    def everywhere(flat):
        over_fresh = jax.vmap(one, (0, None, None))
        return jax.lax.map(lambda pair: over_fresh(pair[0][1:], pair[1], flat), (keys, tasks))

    tasks, keys = held_out(size)
    return jax.tree.map(np.asarray, jax.jit(lambda w: jax.lax.map(everywhere, w))(weights))


def judge_search(name: str, size: Size, plans: np.ndarray | None = None) -> Judged:
    """A search on each task, or a fit from a plan for each, and what it found trained again."""

    def one(what):
        keys, task, plan = what
        if plans is None:
            unit, loss = search(name, keys[0], task)
            units = jnp.tile(unit, (SEGMENTS, 1))
        else:
            units = fit(keys[0], task, plan)
        judged = jax.vmap(lambda key: play(key, task, planned(units)))(keys[1:])
        if plans is None:
            judged = judged._replace(found=jnp.broadcast_to(loss, judged.loss.shape))
        return judged

    tasks, keys = held_out(size)
    starts = jnp.zeros(len(keys)) if plans is None else jnp.asarray(plans)
    found = jax.jit(lambda: jax.lax.map(one, (keys, tasks, starts)))()
    return jax.tree.map(np.asarray, found)


def over_tasks(values: np.ndarray) -> np.ndarray:
    """Means over seeds and trainings, ``f[tasks]``."""
    values = values if values.ndim == 3 else values[None]
    return values.mean(axis=(0, 2))


def tabulate(judged: dict[str, Judged], size: Size):
    fitting = FITTED * REPEATS * GRADIENT_COST
    rows = {}
    for name in judged:
        before = 0 if name in STATIC else size.trainings
        here = 1 if name in CONTROLLERS else int(fitting) if name == YARDSTICK else BUDGET
        rows[name] = {"method": name, "trainings before": before, "on the task": here}
    for label, field, factor in (
        ("validation loss", "found", 1),
        ("trained again", "loss", 1),
        ("test loss", "test_loss", 1),
        ("test accuracy %", "accuracy", 100),
    ):
        values = {name: factor * over_tasks(getattr(x, field)) for name, x in judged.items()}
        for name, cells in paired(values, BASE, label, f"{label} - static").items():
            rows[name] |= cells
    return sorted(rows.values(), key=lambda row: float(row["test loss"].mean))


def study(size: Size, work: Work) -> Findings:
    """All controllers and searches on the same tasks."""
    learned = work.each_seed(CONTROLLERS, size.seeds, lambda name, seed: learn(name, seed, size))
    judged = work.each(STATIC, lambda name: judge_search(name, size), Judged)
    judged |= work.each(
        CONTROLLERS, lambda name: judge_controller(name, learned[name]["weights"], size), Judged
    )
    plans = judged[OURS].units[0, :, 0]
    judged |= work.each([YARDSTICK], lambda name: judge_search(name, size, plans), Judged)
    images = np.asarray(held_out(size)[0].size)
    order = np.argsort(images)
    third = max(1, len(order) // 3)
    groups = {"few images": order[:third], "many images": order[-third:]}
    paths = {
        name: {group: along(judged[name], chosen) for group, chosen in groups.items()}
        for name in (OURS, YARDSTICK)
    }
    return Findings(
        tabulate(judged, size),
        settings={"steps": STEPS, "segments": SEGMENTS, "seconds": work.seconds},
        notes={
            "images": {group: images[chosen].tolist() for group, chosen in groups.items()},
            "medians": paths,
        },
    )


def along(judged: Judged, tasks: np.ndarray) -> dict[str, list[float]]:
    """By name, the median values of each segment over seeds, trainings and some tasks."""
    units = judged.units if judged.units.ndim == 5 else judged.units[None]
    middle = np.median(units[:, tasks], axis=(0, 1, 2))
    return {name: np.asarray(SPACE[name].decode(middle[:, i])) for i, name in enumerate(NAMES)}


def plot(results, path) -> None:
    """Differences from the best constant configuration, and the rates along training."""
    label = "test loss - static"
    cells = column(results["rows"], label, "method")
    minus = {name: cell for name, cell in cells.items() if name != BASE}
    title = (
        f"With one training the controller ends {beside(minus[OURS].mean, '.3f')} the best "
        f"constant configuration of {BUDGET} in test loss; a schedule fitted to the task "
        f"{beside(minus[YARDSTICK].mean, '.3f')}"
    )
    with panels(path, 1, 2, size=(8, 3.6), title=title) as (left, right):
        draw_intervals(left, {name.replace(", ", ",\n"): cell for name, cell in minus.items()})
        left.axvline(0, color="0.4", linewidth=0.8)
        left.locator_params(axis="x", nbins=4)
        left.set_xlabel("test loss minus that of static,\nhypergradient; paired by task")
        draw_along(right, results["medians"], "learning_rate", "learning rate")


def plot_moves(results, path) -> None:
    """Weight decay and momentum along training."""
    title = "Weight decay and momentum along training, on tasks with few and with many images"
    with panels(path, 1, 2, size=(8, 3.4), title=title) as (left, right):
        draw_along(left, results["medians"], "weight_decay", "weight decay")
        draw_along(right, results["medians"], "damping", "1 - momentum")


def draw_along(axes, medians, name: str, title: str) -> None:
    """What the controller and the fitted schedules do, by the number of images."""
    edges = np.linspace(0, STEPS, SEGMENTS + 1)
    ends, colors = {}, {}
    for who, line, short in ((OURS, "-", "controller"), (YARDSTICK, ":", "fitted")):
        for color, (group, values) in zip(COLORS, medians[who].items(), strict=False):
            axes.stairs(
                values[name], edges, baseline=None, color=color, linestyle=line, linewidth=1.8
            )
            ends[f"{short}, {group.split()[0]}"] = values[name][-1]
            colors[f"{short}, {group.split()[0]}"] = color
    axes.set(xlabel="step", ylabel=f"{title}, median")
    scales(axes, edges, False, True)
    label_ends(axes, ends, colors)


PICTURES = {"digits_controller.png": plot, "moves.png": plot_moves}


if __name__ == "__main__":
    command("experiments.digits_controller", __doc__, study, Size(), QUICK, PICTURES)
