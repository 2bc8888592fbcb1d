"""Programs for the same gradient, measured in turns and against the same gradient in f64."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import _flops, common
from benchmarks._peers import Peer
from benchmarks.common import Row
from metahpo.base import PyTree


class Variant(NamedTuple):
    """A JAX program ``fn(*arguments) -> {name: gradient}``; ``rival`` if not metahpo's."""

    name: str
    fn: Callable[..., PyTree]
    arguments: tuple[PyTree, ...]
    rival: bool = False


class Case(NamedTuple):
    """What is measured together.

    Attributes:
        name: for the rows.
        training: without a gradient, ``fn(*arguments)``: the baseline of seconds and operations.
        variants: JAX programs; the first one's compile seconds are the baseline of the others'.
        ours: the name of the variant that rivals are compared with.
        truth: gradients in f64.
        set_bytes: of one parameter set, the baseline of memory.
        count: whether to count operations; impossible where a loop runs until it has converged.
    """

    name: str
    training: Variant
    variants: Sequence[Variant]
    ours: str
    truth: dict[str, np.ndarray]
    set_bytes: int
    count: bool = True


class Effort(NamedTuple):
    """How often things are measured; no new turn begins after ``limit`` seconds."""

    repeats: int
    compilations: int
    limit: float


def measure(case: Case, peers: Sequence[Peer], effort: Effort) -> Iterator[Row]:
    """All rows of a case."""
    programs = [case.training, *case.variants]
    compiled, compile_seconds = compile_in_turns(programs, effort)
    calls = [jax_seconds(c, v.arguments) for c, v in zip(compiled, programs, strict=True)]
    alive = turns([*calls, *(peer.seconds for peer in peers)], effort)
    seconds = dict(zip([v.name for v in (*programs, *peers)], alive, strict=True))
    training = seconds[case.training.name]
    operations = count(case.training, compiled[0]) if case.count else None

    def shared(name: str, rival: bool, gradient: dict[str, Any], memory: float) -> Iterator[Row]:
        title = f"{case.name}, {name}"
        yield common.row(title, "run_seconds", "s", seconds[name], training)
        if rival:
            yield common.row(title, "seconds_by_ours", "s", seconds[name], seconds[case.ours])
        yield common.row(title, "peak_bytes", "B", [memory], [case.set_bytes])
        yield common.row(title, "relative_error", "1", [error(gradient, case.truth)])

    title = f"{case.name}, {case.training.name}"
    yield common.row(title, "run_seconds", "s", training)
    yield common.row(title, "compile_seconds", "s", compile_seconds[0])
    for i, variant in enumerate(case.variants, 1):
        gradient = compiled[i](*variant.arguments)
        memory = compiled[i].memory_analysis().temp_size_in_bytes
        yield from shared(variant.name, variant.rival, gradient, memory)
        title = f"{case.name}, {variant.name}"
        yield common.row(title, "compile_seconds", "s", compile_seconds[i], compile_seconds[1])
        if operations is not None:
            own = count(variant, compiled[i])
            yield common.row(title, "operations", "flop", [own], [operations])
    for peer in peers:
        if not peer.failed:
            yield from shared(peer.name, True, *peer.result())
            yield common.row(
                f"{case.name}, {peer.name}", "first_seconds", "s", [peer.first_seconds]
            )


def compile_in_turns(
    variants: Sequence[Variant], effort: Effort
) -> tuple[list[Any], list[list[float]]]:
    """Programs, and the seconds that tracing and compiling them took, ``[variants][turns]``."""
    compiled: list[Any] = [None] * len(variants)

    def build(i: int) -> float:
        jax.clear_caches()
        start = time.perf_counter()
        compiled[i] = jax.jit(variants[i].fn).lower(*variants[i].arguments).compile()
        return time.perf_counter() - start

    # What the first trace of all imports and builds is nobody's.
    jax.jit(lambda x: jax.numpy.tanh(x)).lower(1.0).compile()
    calls = [lambda i=i: build(i) for i in range(len(variants))]
    return compiled, turns(calls, effort._replace(repeats=effort.compilations), warm_up=False)


def jax_seconds(compiled: Any, arguments: tuple[PyTree, ...]) -> Callable[[], float]:
    """Times one run."""
    return lambda: common.seconds(lambda: compiled(*arguments))


def turns(
    calls: Sequence[Callable[[], float]], effort: Effort, warm_up: bool = True
) -> list[list[float]]:
    """What every call says, ``[calls][turns]``, in turns A B A B as ``common.interleaved``.

    A call that takes more than a fifth of the limit is made once, and its warm-up counts.
    """
    found: list[list[float]] = [[] for _ in calls]
    slow = set()

    def made(i: int, call: Callable[[], float], keep: bool = True) -> None:
        begin = time.perf_counter()
        value = rested(call)
        if time.perf_counter() - begin > effort.limit / 5:
            slow.add(i)
        if keep or i in slow:
            found[i].append(value)

    if warm_up:
        for i, call in enumerate(calls):
            made(i, call, keep=False)
    start = time.perf_counter()
    for turn in range(effort.repeats):
        if turn and time.perf_counter() - start > effort.limit:
            break
        for i, call in enumerate(calls):
            if not (i in slow and found[i]):
                made(i, call)
    return found


def rested(call: Callable[[], float]) -> float:
    """Calls once the threads of what ran before, which spin for a while, have gone to sleep."""
    time.sleep(0.01)
    return call()


def count(variant: Variant, compiled: Any) -> float:
    """Operations of a program, those of the CPU's where it is another device's."""
    if jax.default_backend() == "cpu":
        return _flops.flops(compiled)
    return _flops.of(variant.fn, *variant.arguments)


def error(gradient: dict[str, Any], truth: dict[str, np.ndarray]) -> float:
    """The largest relative error of a hyperparameter's gradient; of those that are there."""

    def relative(name: str) -> float:
        difference = np.asarray(gradient[name], np.float64) - truth[name]
        return float(np.linalg.norm(difference) / np.linalg.norm(truth[name]))

    return max(relative(name) for name in gradient if name in truth)
