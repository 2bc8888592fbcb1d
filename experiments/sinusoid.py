"""Sinusoid regression: the error of every meta-learner against the steps that it adapts.

The protocol of Finn et al. (2017, section 5.1): ``y = A sin(x - phase)``, A in [0.1, 5], phase in
[0, pi], x in [-5, 5]; a network 1-40-40-1; 25 tasks a round, Adam, 70,000 rounds.  A training task
has 20 query points.  The meta-rate falls from 3e-3, of MAML++ from 2e-3 and of iMAML from 1e-3, to
0 on a cosine, and the meta-gradient is clipped to a norm of 10.  Inner rates: 0.01 for MAML, its
first-order version, ANIL's head and the start of what Meta-SGD and MAML++ learn; MAML++'s steps
are 5 and what it does beyond them repeats the fifth.  Reptile hands the displacement of 8 steps of
0.02 to Adam; iMAML takes 16 of 0.003, of gradients clipped to a norm of 10, with a proximal
strength of 20; CAVIA one of 1.0 on 5 context numbers, which widen the first layer.  The ridge head
solves for the last layer on 40 features, and the neural processes, of width 40, read the points
instead of adapting.

MAML's, Meta-SGD's, MAML++'s and CAVIA's meta-rates and the query points were chosen among a few by
whole trainings with other seeds, iMAML's rates and strength among thirteen by 8,000 rounds; the
other learners had less attention or none, so the table does not rank them.  iMAML's implicit
gradient does not see whether its steps converge: with rates or strengths for which some tasks
overshoot (0.02 and 0.5, say) it ended above 3.

Errors on 10,000 fresh tasks of 100 points after as many steps as in training; 95 % intervals over
three whole trainings.  Seconds include compilation; working memory is what XLA's program takes for
itself, without its arguments.  Every training is kept under ``parts`` as it ends, so an
interrupted study goes on from there.  About forty minutes on 2 cores, each of which is a device
for half the tasks.  The committed trainings had a core each, half of the learners at a time
(``taskset``, ``--only``), which takes half as long in all.

    python -m experiments.sinusoid [--out results/sinusoid] [--quick] [--only MAML ...]
"""

import argparse
import functools
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from metahpo import floats
from metahpo.base import Network
from metahpo.run.progress import reporter

INNER_RATE, TASKS, QUERIES = 0.01, 25, 20
FIRST_SEED = 100  # settings were chosen with the seeds 0 to 2
STRENGTH = 20.0  # of iMAML's proximal term
LONGEST = 10  # adaptation steps in the picture


class Size(NamedTuple):
    """How much is computed."""

    rounds: int = 70_000
    stages: int = 10  # of a training, after each of which progress is told
    seeds: int = 3
    episodes: int = 10_000


FULL = Size()
QUICK = Size(rounds=200, stages=2, seeds=2, episodes=200)


class Method(NamedTuple):
    """A meta-learner, how it is differentiated and how many steps it adapts in training."""

    problem: Callable[[mh.TaskFamily], mh.Problem]
    estimator: Callable[[mh.Problem, mh.TaskFamily], mh.Estimator]
    steps: int
    adapts: bool = True  # whether more steps mean anything
    shots: tuple[int, ...] = (5,)
    meta_rate: float = 3e-3


def through(steps: int) -> Callable[[mh.Problem, mh.TaskFamily], mh.Estimator]:
    """Reverse mode through all steps, written out."""
    return lambda problem, family: mh.hypergrad.reverse(problem, steps, "unrolled")


def by_reptile(problem: mh.Problem, family: mh.TaskFamily) -> mh.Estimator:
    """The displacement; Adam, whose step has no scale, would not see it divided by the rate."""
    return mh.hypergrad.reptile(problem, 8, unrolled=True)


def by_conjugate_gradients(problem: mh.Problem, family: mh.TaskFamily) -> mh.Estimator:
    inner_loss = mh.meta.proximal_loss(family, STRENGTH)
    return mh.hypergrad.implicit(problem, 16, "cg", inner_loss=inner_loss, iterations=5)


def embedding(family: mh.TaskFamily) -> mh.TaskFamily:
    """The same tasks with the network less its last layer, 1-40-40."""
    layers = mh.networks.MLP((40,), bias=(0.0,) * 40, scale=1.0, activation=jax.nn.relu)
    network = Network(layers.init, lambda params, x: jax.nn.relu(layers.apply(params, x)))
    return mh.problems.few_shot(family.sample, network, mh.problems.squared_error)


METHODS = {
    "MAML": Method(lambda f: mh.meta.maml(f, INNER_RATE), through(1), 1, shots=(5, 10)),
    "FOMAML": Method(
        lambda f: mh.meta.maml(f, INNER_RATE),
        lambda problem, f: mh.hypergrad.first_order(problem, 1, unrolled=True),
        1,
    ),
    "Reptile": Method(lambda f: mh.meta.maml(f, 0.02), by_reptile, 8),
    "ANIL": Method(lambda f: mh.meta.anil(f, INNER_RATE), through(1), 1),
    "Meta-SGD": Method(mh.meta.meta_sgd, through(1), 1, shots=(5, 10)),
    "MAML++, 5 steps": Method(
        lambda f: mh.meta.maml_plus_plus(f, 5), through(5), 5, shots=(5, 10), meta_rate=2e-3
    ),
    "iMAML": Method(
        lambda f: mh.meta.imaml(f, 0.003, STRENGTH, gradient=mh.meta.clipped_gradient(10.0)),
        by_conjugate_gradients,
        16,
        meta_rate=1e-3,
    ),
    "CAVIA": Method(lambda f: mh.meta.cavia(f, 1.0), through(1), 1, shots=(5, 10)),
    "ridge head": Method(
        lambda f: mh.meta.ridge_head(embedding(f)), through(0), 0, adapts=False, shots=(5, 10)
    ),
    "neural process": Method(
        lambda f: mh.meta.neural_process(f, width=40), through(0), 0, adapts=False, shots=(5, 10)
    ),
    "attentive process": Method(
        lambda f: mh.meta.attentive_neural_process(f, width=40),
        through(0),
        0,
        adapts=False,
        shots=(5, 10),
    ),
}


def optimizer(rounds: int, rate: float) -> optax.GradientTransformation:
    """Adam on a cosine to 0; as one vector, which takes a few kernels instead of many."""
    adam = optax.adam(optax.cosine_decay_schedule(rate, rounds))
    return optax.flatten(optax.chain(optax.clip_by_global_norm(10.0), adam))


class Trained(NamedTuple):
    """What was learned, how many updates were skipped, and the bytes that a training works in."""

    hparams: Any
    skipped: int
    temporary: int


def train(key, method: Method, shots: int, size: Size, report=lambda loss: None) -> Trained:
    """A whole meta-training in stages."""
    family = mh.problems.sinusoid(shots, QUERIES)
    problem = method.problem(family)
    estimator, adam = method.estimator(problem, family), optimizer(size.rounds, method.meta_rate)
    init_key, train_key = jax.random.split(key)
    hparams = jax.jit(problem.initial)(init_key)
    mesh = jax.make_mesh((jax.device_count(),), ("tasks",)) if jax.device_count() > 1 else None
    rounds, rest = divmod(size.rounds, size.stages)
    assert not rest, "the stages must divide the rounds"

    def stage(state):
        options = {"rounds": rounds, "tasks": TASKS, "state": state, "mesh": mesh}
        result = mh.meta_train(train_key, problem, estimator, hparams, adam, **options)
        return result.state, result.history.loss.mean(), result.skipped

    start = adam.init(floats.split(hparams)[0])
    state, skipped = mh.run.MetaState(jnp.zeros((), jnp.int32), hparams, start, ()), 0
    program = jax.jit(stage).lower(state).compile()
    for _ in range(size.stages):
        state, loss, left_out = program(state)
        skipped += int(left_out)
        report(float(loss))
    temporary = program.memory_analysis().temp_size_in_bytes
    return Trained(jax.device_get(state.hparams), skipped, temporary)


def error_curve(key, method: Method, shots: int, hparams, longest: int, episodes: int):
    """Errors on fresh tasks after 0 ... ``longest`` updates, f[longest + 1, 2].

    The mean and the half-width of its 95 % interval over the tasks; one row where steps mean
    nothing.
    """
    problem = method.problem(mh.problems.sinusoid(shots))
    longest = longest if method.adapts else 0

    def one(key):
        sample_key, adapt_key = jax.random.split(key)
        support, query = problem.sample(sample_key)
        blind = mh.problems.Episode(support, None)

        def error(state):
            return mh.problems.squared_error(problem.predict(state, query.x), query.y)

        start = problem.init(mh.inner.keys(adapt_key).init, hparams, blind)
        train = mh.inner.unroll(problem, longest, record=error)
        return jnp.append(error(start), train(adapt_key, hparams, blind)[1])

    keys = jax.random.split(key, episodes)
    errors = jax.jit(lambda: jax.lax.map(one, keys, batch_size=min(episodes, 100)))()
    half = 1.96 * errors.std(axis=0, ddof=1) / np.sqrt(episodes)
    return np.stack([errors.mean(axis=0), half], axis=1)


GRID = np.linspace(-5, 5, 200, dtype=np.float32)[:, None]
AMPLITUDE, PHASE = 3.0, 1.0  # of the task in the picture


def functions(method: Method, shots: int, hparams) -> np.ndarray:
    """What the learner makes of one task, f[2, 200]: before and after adaptation."""
    problem = method.problem(mh.problems.sinusoid(shots))
    x = support_points(shots)
    support = mh.problems.Examples(x, AMPLITUDE * jnp.sin(x - PHASE))

    @functools.partial(jax.jit, static_argnums=0)
    def after(steps):
        learner = mh.meta.learner(problem, steps)
        adapted = learner.adapt(hparams, support, jax.random.key(0))
        return learner.predict(adapted, jnp.asarray(GRID))[:, 0]

    return np.array([after(0), after(method.steps if method.adapts else 0)])


def support_points(shots: int) -> jax.Array:
    """Only on the right half, as in the paper's picture."""
    return jnp.linspace(0.5, 4.5, shots)[:, None]


class Part(NamedTuple):
    """One training: errors f[n, 2], functions f[2, 200], skipped updates, seconds and bytes."""

    errors: np.ndarray
    functions: np.ndarray
    skipped: int
    seconds: float
    temporary: int


def one_part(name: str, shots: int, seed: int, size: Size, report) -> Part:
    begin, method = time.perf_counter(), METHODS[name]
    keys = jax.random.split(jax.random.key(FIRST_SEED + seed), 2)
    hparams, skipped, temporary = train(keys[0], method, shots, size, report)
    seconds = time.perf_counter() - begin
    longest = max(LONGEST, method.steps)
    errors = error_curve(keys[1], method, shots, hparams, longest, size.episodes)
    return Part(errors, functions(method, shots, hparams), skipped, seconds, temporary)


def kept(path: Path, compute: Callable[[], Part]) -> Part:
    """From the file if an earlier run left it there."""
    if path.exists():
        found = mh.report.load_npz(path)
        return Part(**{name: found[name] for name in Part._fields})
    part = compute()
    mh.report.save_npz(path, part._asdict())
    return part


def study(out: Path, size: Size = FULL, only=None, progress: bool = False):
    """All parts: ``{(learner, shots): [Part of each seed]}``."""
    chosen = [
        (name, shots)
        for name, method in METHODS.items()
        for shots in method.shots
        if not only or name in only
    ]
    found: dict[tuple[str, int], list[Part]] = {}
    trainings = [(*pair, seed) for pair in chosen for seed in range(size.seeds)]
    with reporter(progress, "sinusoid", len(trainings) * size.stages, value="loss") as show:
        for done, (name, shots, seed) in enumerate(trainings):
            stages = itertools.count(done * size.stages + 1)
            tell = functools.partial(lambda stages, loss: show(next(stages), loss), stages)
            file = out / "parts" / f"{name}-{shots}-{seed}-{size.rounds}.npz"
            part = kept(file, functools.partial(one_part, name, shots, seed, size, tell))
            found.setdefault((name, shots), []).append(part)
    return found


def tabulate(found: dict[tuple[str, int], list[Part]]) -> list[dict[str, Any]]:
    rows = []
    for (name, shots), parts in found.items():
        method = METHODS[name]
        row = {"learner": name, "shots": shots, "steps": method.steps}
        # Learners without steps have one error, at 0, which is also their number of steps.
        row["error"] = mh.report.interval([part.errors[method.steps, 0] for part in parts])
        if method.adapts:
            for steps in (0, 1, 5, 10):
                row[f"after {steps}"] = np.mean([part.errors[steps, 0] for part in parts])
        row["skipped"] = sum(int(part.skipped) for part in parts)
        row["s a training"] = float(np.mean([part.seconds for part in parts]))
        row["working MB"] = float(np.mean([part.temporary for part in parts])) / 1e6
        rows.append(row)
    return rows


def plot(found, path: Path, shots: int = 5) -> None:
    """Errors against steps, and adapted functions; needs matplotlib."""
    import matplotlib.pyplot as plt

    figure, (left, *panels) = plt.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
    shown = {name: parts for (name, n), parts in found.items() if n == shots}
    styles = {name: {"color": "black" if i == 10 else f"C{i}"} for i, name in enumerate(shown)}
    for i, (name, parts) in enumerate(shown.items()):
        mean = np.mean([part.errors[: LONGEST + 1, 0] for part in parts], axis=0)
        if METHODS[name].adapts:
            marks = "os^vD<>P*X"[i % 10]
            left.plot(mean, marker=marks, markersize=4, label=name, **styles[name])
        else:
            left.axhline(mean[0], linestyle="--", label=name, **styles[name])
    left.set(xlabel="adaptation steps", ylabel=f"mean squared error, {shots} shots", yscale="log")
    left.set_ylim(top=10)  # what goes on from there diverges
    left.legend(frameon=False, fontsize=7, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    groups = (
        ("MAML", "FOMAML", "Reptile", "iMAML"),
        ("Meta-SGD", "MAML++, 5 steps", "ANIL", "CAVIA"),
        ("ridge head", "neural process", "attentive process"),
    )
    x = np.asarray(support_points(shots))
    for axes, names in zip(panels, groups, strict=True):
        axes.plot(GRID, AMPLITUDE * np.sin(GRID - PHASE), color="0.6", linewidth=4, alpha=0.5)
        axes.plot(x, AMPLITUDE * np.sin(x - PHASE), "k^", zorder=3)
        for name in names:
            if name in shown:
                before, after = shown[name][0].functions
                axes.plot(GRID, after, label=name, **styles[name])
                if METHODS[name].adapts:
                    axes.plot(GRID, before, linestyle=":", linewidth=0.8, **styles[name])
        axes.set(xlabel="x", title="adapted (dotted: before)", ylim=(-5, 5))
        if shown.keys() & set(names):  # of a chosen few a panel may be empty
            axes.legend(frameon=False, fontsize=8)
    for axes in (left, *panels):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/sinusoid"))
    parser.add_argument("--quick", action="store_true", help="200 rounds, 2 seeds, 200 tasks")
    parser.add_argument("--only", nargs="+", choices=METHODS, help="these learners alone")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    size, out = QUICK if arguments.quick else FULL, arguments.out
    found = study(out, size, arguments.only, progress=True)
    rows = tabulate(found)
    mh.report.print_table(rows, formats={"s a training": ".1f"})
    mh.report.save_json(out / "results.json", {"settings": size._asdict(), "rows": rows})
    try:
        plot(found, out / "sinusoid.png")
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'metahpo[plot]')")


if __name__ == "__main__":
    main()
