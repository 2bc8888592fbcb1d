"""Generations per second of strategies and of other libraries' algorithms, on a sphere.

All run ask, evaluate, tell on the sphere in ``[-5, 5]^size`` in f32; metahpo and evosax in one
scan, the others in their own loops in Python.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

import metahpo as mh
from benchmarks import _peers, common
from benchmarks._variants import Effort, turns
from benchmarks.common import Row
from metahpo.base import Evaluation, Key, PyTree, Strategy
from metahpo.space import Space


class Algorithm(NamedTuple):
    """An algorithm of metahpo's, and what the peers' script calls its counterpart.

    Attributes:
        name: for the rows.
        make: ``(space, population) -> Strategy``.
        peer: name in ``benchmarks/peers/evolution.py``.
        libraries: those that have it besides evosax.
    """

    name: str
    make: Callable[[Space, int], Strategy]
    peer: str
    libraries: tuple[str, ...]


def cma_es(space: Space, population: int) -> Strategy:
    """As the peers' are set up: step size 2 in a box of width 10."""
    return mh.strategies.cma_es(space, population, sigma=0.2)


def rand_1_bin(space: Space, population: int) -> Strategy:
    """The variant that evosax and pymoo have as their default."""
    return mh.strategies.differential_evolution(space, population, variant="rand/1/bin")


CMA_ES = Algorithm("CMA-ES", cma_es, "cma_es", ("pycma", "cmaes"))
DE = Algorithm("DE", rand_1_bin, "de", ("pymoo",))
DE_DEFAULT = Algorithm("DE (defaults)", mh.strategies.differential_evolution, "de", ())
PSO = Algorithm("PSO", mh.strategies.pso, "pso", ("pymoo",))
GA = Algorithm("GA", mh.strategies.genetic, "ga", ("pymoo",))


class Case(NamedTuple):
    """An algorithm on so many dimensions; ``generations`` of ours and evosax's, ``few`` of others.

    Several ``runs`` are one vmapped program, which only evosax has as well.
    """

    algorithm: Algorithm
    size: int
    population: int
    generations: int
    few: int
    runs: int = 1

    @property
    def name(self) -> str:
        """For the rows."""
        runs = f", {self.runs} runs" if self.runs > 1 else ""
        return f"evolution/{self.algorithm.name} D={self.size} P={self.population}{runs}"

    def peers(self) -> list[tuple[str, str, str]]:
        """``(name, script, case)`` of every library that has it."""
        rest = self.algorithm.libraries if self.runs == 1 else ()
        return [(name, "evolution", self._peer(name)) for name in ("evosax", *rest)]

    def done(self, library: str) -> int:
        """How many generations one call of a library does."""
        return self.runs * (self.generations if library in ("metahpo", "evosax") else self.few)

    def _peer(self, library: str) -> str:
        count = self.done(library) // self.runs
        return f"{library}:{self.algorithm.peer}:{self.size}:{self.population}:{count}:{self.runs}"


def box(size: int) -> Space:
    """``[-5, 5]^size``."""
    return {"x": mh.Float(-5.0, 5.0, shape=(size,))}


def sphere(hparams: PyTree) -> chex.Array:
    """``f[]``, the sum of squares."""
    return jnp.sum(hparams["x"] ** 2)


def asked_and_told(strategy: Strategy, space: Space, generations: int) -> Callable[[Key], Any]:
    """``(key) -> f[]``, the best value; nothing but the strategy and the sphere."""

    def generation(carry: tuple[PyTree, chex.Array], key: Key) -> tuple[Any, None]:
        state, best = carry
        ask_key, tell_key = jax.random.split(key)
        proposal, state = strategy.ask(ask_key, state)
        loss = jax.vmap(lambda unit: sphere(mh.space.decode(space, unit)))(proposal.unit)
        state = strategy.tell(tell_key, state, proposal, Evaluation(loss, None, ()))
        return (state, jnp.minimum(best, loss.min())), None

    def run(key: Key) -> chex.Array:
        init_key, key = jax.random.split(key)
        start = strategy.init(init_key), jnp.array(jnp.inf)
        return jax.lax.scan(generation, start, jax.random.split(key, generations))[0][1]

    return run


def searched(strategy: Strategy, space: Space, generations: int) -> Callable[[Key], Any]:
    """``(key) -> f[]``: the same by ``search``, which also keeps the history."""
    problem = mh.problems.function(sphere)

    def run(key: Key) -> chex.Array:
        return mh.search(key, problem, space, strategy, rounds=generations, steps=1)

    return run


def measure(case: Case, effort: Effort) -> Iterator[Row]:
    """Rates of metahpo and of each library beside it, and seconds of the first call."""
    space = box(case.size)
    strategy = case.algorithm.make(space, case.population)
    ours, first = [], []
    for build in (asked_and_told, searched):
        run = build(strategy, space, case.generations)
        program = jax.jit(jax.vmap(run) if case.runs > 1 else run)
        key = jax.random.key(0)
        keys = jax.random.split(key, case.runs) if case.runs > 1 else key
        first.append(common.seconds(lambda program=program, keys=keys: program(keys)))
        ours.append(lambda program=program, keys=keys: common.seconds(lambda: program(keys)))
    with _peers.started(case.peers(), {}) as peers:
        columns = turns([*ours, *(peer.seconds for peer in peers)], effort)
        names = ["metahpo", "metahpo", *(peer.name for peer in peers)]
        rates = [
            [case.done(name) / second for second in column]
            for name, column in zip(names, columns, strict=True)
        ]
        yield common.row(f"{case.name}, search", "generations_per_second", "1/s", rates[1])
        if not peers:
            yield common.row(case.name, "generations_per_second", "1/s", rates[0])
        for name, rate in zip(names[2:], rates[2:], strict=True):
            vs = f"{case.name}, beside {name}"
            yield common.row(vs, "generations_per_second", "1/s", rates[0], rate)
        firsts = [[peer.first_seconds] for peer in peers[:1]]  # evosax alone compiles
        yield common.row(case.name, "first_seconds", "s", [first[0]], *firsts)
        yield common.row(f"{case.name}, search", "first_seconds", "s", [first[1]])
