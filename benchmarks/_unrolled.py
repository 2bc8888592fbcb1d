"""The cases of ``benchmarks.hypergrad`` that differentiate through training."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from benchmarks import _peers, _reference, common
from benchmarks._reference import Data, Size
from benchmarks._variants import Case, Effort, Variant, compile_in_turns, measure
from benchmarks.common import Row
from metahpo.base import Estimator, HParams, PyTree

PEERS = ("torch", "torchopt", "higher")
Arguments = tuple[HParams, Data]


def one_training(size: Size, modes: Sequence[str], effort: Effort) -> Iterator[Row]:
    """The reference: one large training."""
    data, hparams = _reference.data(size), _reference.hparams(size)
    arguments = _reference.cast(hparams), _reference.cast(data)
    variants = [
        *by_hand(size, arguments),
        *(reverse(size, arguments, mode) for mode in modes),
        forward(size, arguments),
    ]
    case = Case(
        "hypergrad/reference",
        training(size, arguments),
        variants,
        "metahpo auto",
        truth(size, data, hparams),
        set_bytes(data),
    )
    cases = [(name, "unrolled", name) for name in PEERS]
    with _peers.started(cases, arrays(size, data, hparams)) as peers:
        yield from measure(case, peers, effort)


def many_trainings(size: Size, tasks: int, modes: Sequence[str], effort: Effort) -> Iterator[Row]:
    """Many small trainings: in JAX all at once, in torch one after another."""
    data, hparams = _reference.data(size, tasks=tasks), _reference.hparams(size)
    arguments = _reference.cast(hparams), _reference.cast(data)
    variants = [*by_hand(size, arguments), *(reverse(size, arguments, mode) for mode in modes)]
    case = Case(
        f"hypergrad/{tasks} tasks",
        batched(training(size, arguments)),
        [batched(variant) for variant in variants],
        "metahpo auto",
        truth(size, data, hparams, tasks=True),
        set_bytes(data),
    )
    cases = [(name, "unrolled", f"{name}_tasks") for name in PEERS]
    with _peers.started(cases, arrays(size, data, hparams)) as peers:
        yield from measure(case, peers, effort)


def under_a_cap(size: Size, budget: int, effort: Effort) -> Iterator[Row]:
    """A long training whose gradient may take ``budget`` bytes, beside those that take more."""
    data, hparams = _reference.data(size), _reference.hparams(size)
    arguments = _reference.cast(hparams), _reference.cast(data)
    capped = reverse(size, arguments, "auto", memory_budget=budget)
    capped = capped._replace(name=f"metahpo in {budget / 2**20:.3g} MiB")
    variants = [*by_hand(size, arguments), reverse(size, arguments, "sqrt"), capped]
    case = Case(
        f"hypergrad/{size.steps} steps",
        training(size, arguments),
        variants,
        capped.name,
        truth(size, data, hparams),
        set_bytes(data),
    )
    cases = [("torchopt", "unrolled", "torchopt")]
    with _peers.started(cases, arrays(size, data, hparams)) as peers:
        for row in measure(case, peers, effort):
            yield row
            if row.metric == "peak_bytes":
                yield common.row(row.name, "bytes_by_budget", "B", [row.value], [budget])


def in_few_states(size: Size, states: int, effort: Effort) -> Iterator[Row]:
    """A very long training in a given number of stored states."""
    data, hparams = _reference.data(size), _reference.hparams(size)
    arguments = _reference.cast(hparams), _reference.cast(data)
    few = reverse(size, arguments, states)
    case = Case(
        f"hypergrad/{size.steps} steps",
        training(size, arguments),
        [by_hand(size, arguments)[1], reverse(size, arguments, "sqrt"), few],
        few.name,
        truth(size, data, hparams),
        set_bytes(data),
    )
    yield from measure(case, [], effort)


def compile_growth(
    size: Size, short: int, modes: Sequence[str | int], effort: Effort
) -> Iterator[Row]:
    """Compile seconds of a long training's gradient; the baseline is that of a short one."""
    data, hparams = _reference.data(size), _reference.hparams(size)
    arguments = _reference.cast(hparams), _reference.cast(data)
    for mode in modes:
        pair = [reverse(size._replace(steps=n), arguments, mode) for n in (size.steps, short)]
        _, seconds = compile_in_turns(pair, effort)
        name = f"hypergrad/{size.steps} steps over {short}, {pair[0].name}"
        yield common.row(name, "compile_seconds", "s", *seconds)


def gradient(estimator: Estimator) -> Any:
    """``(hparams, task) -> gradient``."""
    return lambda h, task: estimator.estimate(jax.random.key(0), h, task, ())[0].grad


def reverse(size: Size, arguments: Arguments, checkpoint: Any, **options: Any) -> Variant:
    """Ours in reverse mode."""
    made = mh.hypergrad.reverse(_reference.problem(), size.steps, checkpoint, **options)
    name = f"{checkpoint} states" if isinstance(checkpoint, int) else checkpoint
    return Variant(f"metahpo {name}", gradient(made), arguments)


def forward(size: Size, arguments: Arguments) -> Variant:
    """Ours in forward mode, for the two hyperparameters that are numbers."""
    inner, (hparams, task) = _reference.problem(), arguments
    weights = hparams["weights"]

    def weighted(fn: Any) -> Any:
        return lambda key, h, *rest: fn(key, {**h, "weights": weights}, *rest)

    narrow = inner._replace(
        init=weighted(inner.init), step=weighted(inner.step), loss=weighted(inner.loss)
    )
    numbers = {name: hparams[name] for name in ("l2", "lr")}
    made = mh.hypergrad.forward(narrow, size.steps)
    return Variant("metahpo forward, l2 and lr", gradient(made), (numbers, task))


def by_hand(size: Size, arguments: Arguments) -> list[Variant]:
    """What a JAX user writes without a library."""
    plain = jax.grad(_reference.hand_written(size.steps))
    again = jax.grad(_reference.hand_written(size.steps, checkpoint=True))
    return [
        Variant("plain JAX", plain, arguments, rival=True),
        Variant("plain JAX, jax.checkpoint", again, arguments, rival=True),
    ]


def training(size: Size, arguments: Arguments) -> Variant:
    """Without a gradient."""
    return Variant("training alone", _reference.hand_written(size.steps), arguments)


def batched(variant: Variant) -> Variant:
    """Over tasks."""
    return variant._replace(fn=jax.vmap(variant.fn, (None, 0)))


def truth(size: Size, data: Data, hparams: HParams, tasks: bool = False) -> dict[str, np.ndarray]:
    """The gradient in f64."""
    with jax.enable_x64(True):
        fn = jax.grad(_reference.hand_written(size.steps, checkpoint=True))
        fn = jax.jit(jax.vmap(fn, (None, 0)) if tasks else fn)
        found = fn(_reference.cast(hparams, jnp.float64), _reference.cast(data, jnp.float64))
        return {name: np.asarray(value) for name, value in found.items()}


def arrays(size: Size, data: Data, hparams: HParams) -> dict[str, np.ndarray]:
    """What a peer gets."""
    named = {"support_x": data.support[0], "support_y": data.support[1]}
    named |= {"query_x": data.query[0], "query_y": data.query[1], **hparams}
    for i, (weight, bias) in enumerate(data.init):
        named |= {f"w{i}": weight, f"b{i}": bias}
    return {**_peers.single(named), "steps": np.array(size.steps)}


def set_bytes(tree: PyTree) -> int:
    """Bytes of a task's parameters in f32, or of all tasks' parameters."""
    return sum(4 * leaf.size for leaf in jax.tree.leaves(tree.init))
