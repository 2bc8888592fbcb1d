"""How to differentiate small convolutions when every task has its own weights.

    python -m benchmarks._few_shot_convolutions    # prints the table

One gradient of the support loss for each task: by XLA's convolutions, by patches and matrix
products (``im2col``), by Winograd's sums and products in all layers, or by what the library takes
(``auto``: on CPUs Winograd's where there is enough to save, else patches).  The tasks come all at
once (``vmap``), one after another in a loop (``scan``), or at once with the weights that all share
before the first step (``vmap, shared weights``).
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

import metahpo as mh
from benchmarks import common
from benchmarks._few_shot_images import Setting, episodes
from benchmarks._variants import Effort, Variant, compile_in_turns, jax_seconds, turns
from benchmarks.common import Row
from metahpo.base import Params

METHODS = ("auto", "im2col", "winograd", "xla")


def measure(setting: Setting, effort: Effort) -> Iterator[Row]:
    """Seconds of all ways; the baseline is the one that the library takes on this device."""
    x, y = episodes(setting).support
    variants = [
        Variant(f"{method}, {name}", fn, (params, x, y))
        for method in METHODS
        for name, fn, params in ways(setting, method, x)
    ]
    compiled, _ = compile_in_turns(variants, effort)
    calls = [jax_seconds(c, v.arguments) for c, v in zip(compiled, variants, strict=True)]
    seconds = turns(calls, effort)
    taken = "auto, scan" if jax.default_backend() == "cpu" else "auto, vmap"
    baseline = seconds[[v.name for v in variants].index(taken)]
    for variant, program, found in zip(variants, compiled, seconds, strict=True):
        title = f"few_shot/gradients of {setting.tasks} tasks, {variant.name}"
        yield common.row(title, "run_seconds", "s", found, baseline)
        memory = program.memory_analysis().temp_size_in_bytes
        yield common.row(title, "peak_bytes", "B", [memory])


def ways(
    setting: Setting, method: Any, x: chex.Array
) -> list[tuple[str, Callable[..., Params], Params]]:
    """``(name, (params, x, y) -> gradients, params)``."""
    network = mh.networks.conv4(
        setting.ways, setting.filters, layers=setting.layers, padding="VALID", method=method
    )
    shared = network.init(jax.random.key(0), x[0])
    own = jax.tree.map(lambda p: jnp.repeat(p[None], setting.tasks, axis=0), shared)

    def grad(params: Params, x: chex.Array, y: chex.Array) -> Params:
        def loss(params: Params) -> chex.Array:
            return mh.problems.cross_entropy(network.apply(params, x), y)

        return jax.grad(loss)(params)

    def one_by_one(params: Params, x: chex.Array, y: chex.Array) -> Params:
        return jax.lax.map(lambda task: grad(*task), (params, x, y))

    return [
        ("vmap", jax.vmap(grad), own),
        ("scan", one_by_one, own),
        ("vmap, shared weights", jax.vmap(grad, (None, 0, 0)), shared),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=Setting().tasks)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", common.cores())  # as in common.main
    effort = Effort(chosen.repeats, compilations=1, limit=120.0)
    for row in measure(Setting(chosen.tasks), effort):
        print(common.readable(row), flush=True)


if __name__ == "__main__":
    main()
