"""Bayesian optimisation: milliseconds a suggestion, alone, vmapped and through Optuna's interface.

    python benchmarks/peers/install.py    # once, for Optuna's GP sampler; without it, the others
    python -m benchmarks.bayesian --json FILE

The objective is a sphere of six floats, which costs nothing.

Metrics:

* ``suggestion_seconds``: of ``gaussian_process`` and ``tpe`` within one program, when n losses are
  known; a point is suggested, its loss told, and it takes the place of one of the n before, so n
  stays.  ``..., 64 seeds`` is a vmapped program's, divided by 64; the baseline is one run's.
* ``trial_seconds``: of a trial of an Optuna study that has n, from ``study.ask`` until all
  parameters are suggested, as a median over trials.  The baselines are Optuna's own samplers: TPE
  on all versions, the Gaussian process in the peers' environment, for it needs torch.
* ``first_seconds``: from nothing to the first point that a process suggests, tracing and
  compilation included; ``compile_seconds`` is XLA's part of it.
"""

import functools
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from benchmarks import _peers, common
from benchmarks.common import Row
from metahpo._extras import require
from metahpo.base import Evaluation, Key, Strategy

SIZE = 6
SPACE = {f"x{i}": mh.Float(0.0, 1.0) for i in range(SIZE)}
STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "GP": lambda n: mh.strategies.gaussian_process(SPACE, capacity=n + 1),
    "TPE": lambda n: mh.strategies.tpe(SPACE, 1, capacity=n + 1),
}


class Sizes(NamedTuple):
    """How much is measured."""

    known: tuple[int, ...]
    seeds: int
    most_vmapped: int  # n, beyond which many seeds take long
    suggestions: int  # of one program
    trials: tuple[int, ...]  # of a study, at which trials are measured
    last: int  # trials that a median is over
    repeats: int


FULL = Sizes((16, 63, 100, 255, 500), 64, 255, 8, (16, 64, 100, 250, 480), 8, repeats=5)
QUICK = Sizes((16,), 2, 16, 2, (12,), 2, repeats=1)


def sphere(unit: jax.Array) -> jax.Array:
    """The objective on the unit cube."""
    return ((unit - 0.4) ** 2).sum(-1)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    sizes = QUICK if quick else FULL
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    for name, make in STRATEGIES.items():
        for n in sizes.known:
            yield from within_a_program(name, make(n), n, sizes)
    yield from first_call(STRATEGIES["GP"](sizes.known[-1]), sizes)
    yield from through_optuna(sizes)


def within_a_program(name: str, strategy: Strategy, n: int, sizes: Sizes) -> Iterator[Row]:
    """Seconds a suggestion of one run, and of many at once."""
    run = suggesting(strategy, n, sizes.suggestions)
    keys = jax.random.split(jax.random.key(1), sizes.seeds)
    begun = known(strategy, n)
    one = jax.jit(run).lower(keys[0], begun).compile()
    calls: list[Callable[[], Any]] = [lambda: one(keys[0], begun)]
    if n <= sizes.most_vmapped:
        many = jax.jit(jax.vmap(run, (0, None))).lower(keys, begun).compile()
        calls.append(lambda: many(keys, begun))
    seconds = common.interleaved(sizes.repeats, *calls)
    alone = [s / sizes.suggestions for s in seconds[0]]
    yield common.row(f"bayesian/{name}, n={n}", "suggestion_seconds", "s", alone)
    if len(seconds) > 1:
        each = [s / sizes.suggestions / sizes.seeds for s in seconds[1]]
        case = f"bayesian/{name}, n={n}, {sizes.seeds} seeds"
        yield common.row(case, "suggestion_seconds", "s", each, alone)


def known(strategy: Strategy, n: int) -> Any:
    """A state that was told the losses of ``n`` points of a Sobol sequence."""
    state = strategy.init(jax.random.key(0))
    unit = mh.quasirandom.as_fractions(
        mh.quasirandom.points(mh.quasirandom.directions(SIZE), 1, n)
    ).astype(state.unit.dtype)
    return state._replace(
        unit=state.unit.at[:n].set(unit),
        loss=state.loss.at[:n].set(sphere(unit)),
        told=state.told.at[:n].set(True),
        asked=jnp.int32(n),
    )


def suggesting(strategy: Strategy, n: int, count: int) -> Callable[[Key, Any], jax.Array]:
    """``(key, state) -> f[count, D]``: suggestions one after the other, of which each learns."""

    def step(state: Any, i: jax.Array) -> tuple[Any, jax.Array]:
        key, state = state
        proposal, after = strategy.ask(jax.random.fold_in(key, i), state)
        told = Evaluation(sphere(proposal.unit), None, jnp.ones(1, jnp.int32))
        after = strategy.tell(key, after, proposal, told)
        place = i % n
        after = after._replace(
            unit=after.unit.at[place].set(after.unit[n]),
            loss=after.loss.at[place].set(after.loss[n]),
            told=after.told.at[n].set(False),
            asked=state.asked,
        )
        return (key, after), proposal.unit[0]

    return lambda key, state: jax.lax.scan(step, (key, state), jnp.arange(count))[1]


def first_call(strategy: Strategy, sizes: Sizes) -> Iterator[Row]:
    """Until the first suggestion of a process, and XLA's part."""
    state = known(strategy, 10)
    jax.block_until_ready(state)
    first, compiling = [], []
    for _ in range(sizes.repeats):
        jax.clear_caches()
        start = time.perf_counter()
        lowered = jax.jit(strategy.ask).lower(jax.random.key(1), state)
        middle = time.perf_counter()
        compiled = lowered.compile()
        compiling.append(time.perf_counter() - middle)
        jax.block_until_ready(compiled(jax.random.key(1), state))
        first.append(time.perf_counter() - start)
    name = f"bayesian/GP, capacity {sizes.known[-1] + 1}"
    yield common.row(name, "first_seconds", "s", first)
    yield common.row(name, "compile_seconds", "s", compiling)


def through_optuna(sizes: Sizes) -> Iterator[Row]:
    """Seconds a trial of Optuna studies with our sampler and with Optuna's."""
    try:
        optuna = require("optuna", "optuna")
    except ImportError as error:
        print(f"no studies: {error}", file=sys.stderr)
        return
    integration = importlib.import_module("metahpo.integrations.optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = sizes.trials[-1]
    samplers = {
        "GP": integration.Sampler(functools.partial(process, trials), seed=1),
        "TPE": optuna.samplers.TPESampler(seed=1),
    }
    studies = {name: optuna.create_study(sampler=sampler) for name, sampler in samplers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in studies}
    for _ in range(trials):
        for name, study in studies.items():
            seconds[name].append(trial_seconds(study))
    # The first that a process suggests, which waits for the compiler.
    yield common.row("bayesian/Optuna", "first_seconds", "s", [max(seconds["GP"][:20])])
    for n in sizes.trials:
        ours, tpe = (seconds[name][n - sizes.last : n] for name in studies)
        case = f"bayesian/Optuna, n={n}, beside"
        yield common.row(f"{case} Optuna's TPE", "trial_seconds", "s", ours, tpe)
        peer = peer_seconds(n, sizes)
        if peer:
            yield common.row(f"{case} Optuna's GP", "trial_seconds", "s", ours, peer)


def process(trials: int, space: dict[str, Any]) -> Strategy:
    """That of a study."""
    return mh.strategies.gaussian_process(space, capacity=trials)


def trial_seconds(study: Any) -> float:
    """Of asking; the trial is told its loss afterwards."""
    start = time.perf_counter()
    trial = study.ask()
    point = [trial.suggest_float(name, 0.0, 1.0) for name in SPACE]
    taken = time.perf_counter() - start
    study.tell(trial, float(sphere(np.array(point))))
    return taken


def peer_seconds(n: int, sizes: Sizes) -> list[float]:
    """Those of Optuna's Gaussian process with ``n`` trials, nothing without the environment."""
    unit = np.random.default_rng(0).uniform(size=(n, SIZE))
    arrays = {"unit": unit, "loss": sphere(unit)}
    with _peers.started([("Optuna's GP", "bayesian_optuna", "gp")], arrays) as peers:
        return [peer.seconds() for peer in peers for _ in range(sizes.last)]


if __name__ == "__main__":
    common.main(measure, __doc__)
