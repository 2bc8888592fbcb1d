"""MAML on the sinusoid, a whole meta-training: the library, a user's own JAX program, and torch.

python -m benchmarks._few_shot_sinusoid --rounds 2000    # in seconds, extrapolated to 70,000
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from benchmarks import _peers, common
from benchmarks._variants import Effort, Variant, compile_in_turns, turns
from benchmarks.common import Row
from metahpo.base import Key, PyTree

INNER_RATE, META_RATE = 0.01, 1e-3  # the paper's


class Setting(NamedTuple):
    """The paper's protocol, with so many inner steps.

    Attributes:
        steps: inner updates, also of the rivals.
        rounds: meta-updates, which torch's and, if ``measured`` is less, all figures are
            multiplied up to.
        measured: meta-updates that are run.
        torch: meta-updates of torch's that are run.
    """

    steps: int
    rounds: int = 70_000
    measured: int = 70_000
    torch: int = 200
    tasks: int = 25
    shots: int = 5
    queries: int = 10
    hidden: tuple[int, ...] = (40, 40)

    @property
    def name(self) -> str:
        """For the rows."""
        plural = "s" * (self.steps > 1)
        return f"few_shot/sinusoid, {self.steps} step{plural}"


def measure(setting: Setting, effort: Effort) -> Iterator[Row]:
    """Seconds of a whole meta-training, compilation included, beside its rivals'."""
    variants = [ours(setting), by_hand(setting)]
    compiled, compile_seconds = compile_in_turns(variants, effort)
    scale = setting.rounds / setting.measured

    def running(program: Any, variant: Variant) -> Callable[[], float]:
        return lambda: scale * common.seconds(lambda: program(*variant.arguments))

    calls = [running(*pair) for pair in zip(compiled, variants, strict=True)]
    with _peers.started([("torch.func", "few_shot_torch", "sinusoid")], arrays(setting)) as peers:
        slowed = setting.rounds / setting.torch
        calls += [lambda peer=peer: slowed * peer.seconds() for peer in peers]
        # Their first turn is no slower than the others: all is compiled, and the runs are long.
        seconds = turns(calls, effort, warm_up=False)
    totals = [
        [run + min(compilation) for run in runs]
        for runs, compilation in zip(seconds, [*compile_seconds, [0.0]], strict=False)
    ]
    for i, variant in enumerate(variants):
        title = f"{setting.name}, {variant.name}"
        yield common.row(title, "run_seconds", "s", seconds[i])
        baseline = () if variant.rival else compile_seconds[1]
        yield common.row(title, "compile_seconds", "s", compile_seconds[i], baseline)
        yield common.row(title, "last_loss", "1", [last_loss(compiled[i], variant)])
    yield common.row(f"{setting.name}, {variants[0].name}", "total_seconds", "s", totals[0])
    rivals = [variants[1].name, *(peer.name for peer in peers)]
    for name, total in zip(rivals, totals[1:], strict=True):
        title = f"{setting.name}, {name}"
        yield common.row(title, "total_seconds", "s", total)
        yield common.row(title, "seconds_by_ours", "s", total, totals[0])


def ours(setting: Setting) -> Variant:
    """The steps written out, Adam on one vector, a device a core for its share of the tasks."""
    family = mh.problems.sinusoid(setting.shots, setting.queries, setting.hidden)
    problem = mh.meta.maml(family, learning_rate=INNER_RATE)
    estimator = mh.hypergrad.reverse(problem, setting.steps, "unrolled")
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("tasks",)) if devices > 1 else None
    params = mh.meta.initial_params(jax.random.key(0), family)

    def train(key: Key, params: PyTree) -> tuple[PyTree, chex.Array]:
        result = mh.meta_train(
            key,
            problem,
            estimator,
            params,
            optax.flatten(optax.adam(META_RATE)),
            rounds=setting.measured,
            tasks=setting.tasks,
            mesh=mesh,
        )
        return result.hparams, result.history.loss

    return Variant("metahpo", train, (jax.random.key(1), params))


def by_hand(setting: Setting) -> Variant:
    """What a JAX user writes without a library; of the inner loops the faster, in Python."""

    def sample(key: Key) -> PyTree:
        amplitude_key, phase_key, x_key = jax.random.split(key, 3)
        amplitude = jax.random.uniform(amplitude_key, minval=0.1, maxval=5.0)
        phase = jax.random.uniform(phase_key, maxval=math.pi)
        x = jax.random.uniform(x_key, (setting.shots + setting.queries, 1), minval=-5.0, maxval=5.0)
        y = amplitude * jnp.sin(x - phase)
        shots = setting.shots
        return (x[:shots], y[:shots]), (x[shots:], y[shots:])

    def error(params: PyTree, data: PyTree) -> chex.Array:
        x, y = data
        for weight, bias in params[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = params[-1]
        return jnp.mean((x @ weight + bias - y) ** 2)

    def loss(params: PyTree, task: PyTree) -> chex.Array:
        support, query = task
        for _ in range(setting.steps):
            grads = jax.grad(error)(params, support)
            params = jax.tree.map(lambda p, g: p - INNER_RATE * g, params, grads)
        return error(params, query)

    optimizer = optax.adam(META_RATE)

    def step(carry: PyTree, key: Key) -> tuple[PyTree, chex.Array]:
        params, state = carry
        tasks = jax.vmap(sample)(jax.random.split(key, setting.tasks))
        value, grads = jax.value_and_grad(
            lambda params: jax.vmap(loss, (None, 0))(params, tasks).mean()
        )(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    def train(key: Key, params: PyTree) -> tuple[PyTree, chex.Array]:
        keys = jax.random.split(key, setting.measured)
        (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return params, losses

    return Variant("plain JAX", train, (jax.random.key(1), layers(setting)), rival=True)


def layers(setting: Setting) -> list[tuple[chex.Array, chex.Array]]:
    """Initial weights and biases as the library's."""
    widths = (1, *setting.hidden, 1)
    keys = jax.random.split(jax.random.key(0), len(widths) - 1)
    shapes = zip(widths[:-1], widths[1:], strict=True)
    lecun = jax.nn.initializers.lecun_normal()
    return [
        (lecun(key, shape), jnp.zeros(shape[1])) for key, shape in zip(keys, shapes, strict=True)
    ]


def last_loss(program: Any, variant: Variant) -> float:
    """The mean query loss of the last tenth, to see that both learn the same."""
    losses = np.asarray(program(*variant.arguments)[1])
    return float(losses[-max(1, len(losses) // 10) :].mean())


def arrays(setting: Setting) -> dict[str, np.ndarray]:
    """What torch gets."""
    named = {}
    for i, (weight, bias) in enumerate(layers(setting)):
        named |= {f"w{i}": np.asarray(weight), f"b{i}": np.asarray(bias)}
    sizes = ("steps", "torch", "tasks", "shots", "queries")
    rates = {"inner_rate": np.array(INNER_RATE), "meta_rate": np.array(META_RATE)}
    return {**named, **rates, **{name: np.array(getattr(setting, name)) for name in sizes}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints rows of short trainings, multiplied up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000, help="meta-updates that are run")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3], help="inner updates")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", common.cores())  # as in common.main
    effort = Effort(chosen.repeats, compilations=1, limit=60.0)
    for steps in chosen.steps:
        for row in measure(Setting(steps, measured=chosen.rounds), effort):
            print(common.readable(row), flush=True)


if __name__ == "__main__":
    main()
