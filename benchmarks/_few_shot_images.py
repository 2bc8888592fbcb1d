"""One meta-step of MAML on small images, as torchbench's ``functorch_maml_omniglot`` has it.

    python -m benchmarks._few_shot_images --tasks 2    # in a minute or two, without peers

Three blocks of 3 x 3 convolution without padding, batch norm, ReLU and max-pooling, and a dense
layer; 32 tasks of 25 support and 75 query images, 5 inner steps of rate 0.1, Adam.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import metahpo as mh
from benchmarks import _peers, common
from benchmarks._variants import Effort, Variant, compile_in_turns, error, jax_seconds, turns
from benchmarks.common import Row
from metahpo.base import Estimator, Key, Params, Problem, PyTree
from metahpo.problems import Episode, Examples

INNER_RATE, META_RATE = 0.1, 1e-3
PEERS = {
    "torch.func": "torch_func",
    "torch.func, task by task": "torch_loop",
    "torchopt": "torchopt",
}


class Setting(NamedTuple):
    """Sizes; those of torchbench by default."""

    tasks: int = 32
    ways: int = 5
    shots: int = 5
    queries: int = 15
    side: int = 28
    filters: int = 64
    layers: int = 3
    steps: int = 5
    rivals: bool = True

    @property
    def name(self) -> str:
        """For the rows."""
        return f"few_shot/{self.tasks} tasks, {self.layers} convolutions, {self.steps} steps"


def measure(setting: Setting, effort: Effort) -> Iterator[Row]:
    """Seconds, compile seconds, memory and error of a meta-step, beside its rivals'."""
    data = episodes(setting)
    params = network(setting).init(jax.random.key(1), data.support.x[0])
    rivals = [by_hand(setting, "unrolled"), by_hand(setting, "scan")] if setting.rivals else []
    both = [ours(setting, "second"), ours(setting, "first")]
    variants = [v._replace(arguments=(params, data)) for v in (*both, *rivals)]
    compiled, compile_seconds = compile_in_turns(variants, effort)
    calls = [jax_seconds(c, v.arguments) for c, v in zip(compiled, variants, strict=True)]
    peers = [(name, "few_shot_torch", case) for name, case in PEERS.items() if setting.rivals]
    with _peers.started(peers, arrays(setting, params, data)) as alive:
        seconds = turns([*calls, *(peer.seconds for peer in alive)], effort)
        results = {peer.name: peer.result() for peer in alive if not peer.failed}
    names = [v.name for v in (*variants, *alive)]
    for i, name in enumerate(names):
        title = f"{setting.name}, {name}"
        yield common.row(title, "run_seconds", "s", seconds[i])
        if i > 1:
            yield common.row(title, "seconds_by_ours", "s", seconds[i], seconds[0])
        if i < len(variants):
            yield common.row(title, "compile_seconds", "s", compile_seconds[i])
            memory = compiled[i].memory_analysis().temp_size_in_bytes
            yield common.row(title, "peak_bytes", "B", [memory])
    title = f"{setting.name}, {names[0]}"
    yield common.row(title, "seconds_by_first_order", "s", seconds[0], seconds[1])
    yield from errors(setting, params, data, results)


def errors(setting: Setting, params: Params, data: Episode, peers: dict[str, Any]) -> Iterator[Row]:
    """Of the gradients against the same in f64, and the memory of the peers."""
    expected = truth(setting, params, data)
    found = {"metahpo, second order": (our_gradient(setting, params, data), None), **peers}
    for name, (gradient, memory) in found.items():
        title = f"{setting.name}, {name}"
        yield common.row(title, "relative_error", "1", [error(gradient, expected)])
        if memory is not None:
            yield common.row(title, "peak_bytes", "B", [memory])


def ours(setting: Setting, order: str) -> Variant:
    """A round of ``mh.meta_train``, sampling included; on CPUs a task at a time on every core."""

    def step(params: Params, data: Episode) -> PyTree:
        def sample(key: Key) -> Episode:
            chosen = jax.random.randint(key, (), 0, setting.tasks)
            return jax.tree.map(lambda x: x[chosen], data)

        problem = maml(setting, sample)
        on_cpu = jax.default_backend() == "cpu"
        devices = len(jax.devices()) if on_cpu else 1
        devices = devices if setting.tasks % devices == 0 else 1
        return mh.meta_train(
            jax.random.key(0),
            problem,
            estimator(problem, setting, order),
            params,
            optax.adam(META_RATE),
            rounds=1,
            tasks=setting.tasks,
            mesh=jax.make_mesh((devices,), ("tasks",)) if devices > 1 else None,
            chunk=devices if on_cpu else None,
        ).hparams

    return Variant(f"metahpo, {order} order", step, ())


def our_gradient(setting: Setting, params: Params, data: Episode) -> dict[str, np.ndarray]:
    """The mean over the given tasks, by the same estimator: a round draws its own."""
    problem = maml(setting, lambda key: jax.tree.map(lambda x: x[0], data))
    made = estimator(problem, setting, "second")

    def grad(task: Episode) -> Params:
        return made.estimate(jax.random.key(0), params, task, ())[0].grad

    return flat(jax.tree.map(lambda x: x.mean(0), jax.jit(lambda d: jax.lax.map(grad, d))(data)))


def maml(setting: Setting, sample: Any) -> Problem:
    """The library's."""
    criterion = mh.problems.cross_entropy
    family = mh.problems.few_shot(sample, network(setting), criterion, ways=setting.ways)
    return mh.meta.maml(family, learning_rate=INNER_RATE)


def estimator(problem: Problem, setting: Setting, order: str) -> Estimator:
    """Second order keeps everything of the few steps, which are written out."""
    if order == "first":
        return mh.hypergrad.first_order(problem, setting.steps, unrolled=True)
    return mh.hypergrad.reverse(problem, setting.steps, checkpoint="unrolled")


def network(setting: Setting) -> mh.base.Network:
    """Torchbench's."""
    return mh.networks.conv4(setting.ways, setting.filters, layers=setting.layers, padding="VALID")


def by_hand(setting: Setting, loop: str, dtype: Any = jnp.float32) -> Variant:
    """What a JAX user writes without a library: XLA's convolutions, ``vmap`` over the tasks."""

    def apply(params: Params, x: chex.Array) -> chex.Array:
        for i in range(setting.layers):
            conv, norm = params[f"conv{i}"], params[f"norm{i}"]
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(
                x, conv["kernel"], (1, 1), "VALID", dimension_numbers=layout
            )
            x = x + conv["bias"]
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            x = (x - mean) / jnp.sqrt(variance + 1e-5) * norm["scale"] + norm["bias"]
            window = (1, 2, 2, 1)
            x = jax.nn.relu(x)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        return x.reshape(x.shape[0], -1) @ params["head"]["kernel"] + params["head"]["bias"]

    def loss(params: Params, examples: Examples) -> chex.Array:
        logits = apply(params, examples.x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, examples.y).mean()

    def outer(params: Params, task: Episode) -> chex.Array:
        def step(params: Params, _: None) -> tuple[Params, None]:
            grads = jax.grad(loss)(params, task.support)
            return jax.tree.map(lambda p, g: p - INNER_RATE * g, params, grads), None

        if loop == "scan":
            params = jax.lax.scan(step, params, None, length=setting.steps)[0]
        else:
            for _ in range(setting.steps):
                params = step(params, None)[0]
        return loss(params, task.query)

    def meta_step(params: Params, data: Episode) -> PyTree:
        optimizer = optax.adam(META_RATE)
        grads = jax.grad(lambda p: jax.vmap(outer, (None, 0))(p, data).mean())(params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return optax.apply_updates(params, updates), grads

    return Variant(f"plain JAX, {loop}", meta_step, (), rival=True)


def truth(setting: Setting, params: Params, data: Episode) -> dict[str, np.ndarray]:
    """The gradient in f64, by hand with one task after another."""
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64 if x.dtype == jnp.float32 else x.dtype),
            (params, data),
        )
        one = jax.jit(by_hand(setting._replace(tasks=1), "unrolled").fn)
        total = jax.tree.map(np.zeros_like, flat(wide[0]))
        for i in range(setting.tasks):
            grads = one(wide[0], jax.tree.map(lambda x, i=i: x[i : i + 1], wide[1]))[1]
            total = {name: total[name] + grad for name, grad in flat(grads).items()}
        return {name: np.asarray(x) / setting.tasks for name, x in total.items()}


def episodes(setting: Setting) -> Episode:
    """Images of noise, which no two pixels of tie in; time does not depend on what they show."""
    keys = jax.random.split(jax.random.key(0), 2)

    def part(key: Key, each: int) -> Examples:
        shape = (setting.tasks, setting.ways * each, setting.side, setting.side, 1)
        y = jnp.repeat(jnp.arange(setting.ways), each)
        return Examples(jax.random.uniform(key, shape), jnp.tile(y, (setting.tasks, 1)))

    return Episode(part(keys[0], setting.shots), part(keys[1], setting.queries))


def flat(params: Params) -> dict[str, np.ndarray]:
    """``{"conv0.kernel": ...}``; without the biases before a norm, whose gradient is zero."""
    named = {
        f"{layer}.{name}": np.asarray(x) for layer in params for name, x in params[layer].items()
    }
    return {k: x for k, x in named.items() if not (k.startswith("conv") and k.endswith("bias"))}


def arrays(setting: Setting, params: Params, data: Episode) -> dict[str, np.ndarray]:
    """What torch gets."""
    named = {f"{layer}.{k}": np.asarray(x) for layer in params for k, x in params[layer].items()}
    named |= {"support_x": data.support.x, "support_y": data.support.y}
    named |= {"query_x": data.query.x, "query_y": data.query.y}
    named |= {"steps": np.array(setting.steps), "inner_rate": np.array(INNER_RATE)}
    return _peers.single({**named, "meta_rate": np.array(META_RATE)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the rows of a smaller case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=Setting().tasks)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rivals", action="store_true", help="plain JAX and torch as well")
    chosen = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", common.cores())  # as in common.main
    setting = Setting(chosen.tasks, rivals=chosen.rivals)
    for row in measure(setting, Effort(chosen.repeats, compilations=1, limit=120.0)):
        print(common.readable(row), flush=True)


if __name__ == "__main__":
    main()
