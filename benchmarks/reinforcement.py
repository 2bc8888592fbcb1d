"""Reinforcement learning: steps per second of the exact environments, beside DACBench's.

    python -m benchmarks.reinforcement --json FILE

Random actions are played by ``rl.rollout``, episode after episode, in many lanes of one program,
with one XLA device a core.  Resets, random numbers and the trajectory are paid for.

Metrics:

* ``steps_per_second``: of all lanes together.  The baseline is DACBench's environment of the same
  name in the peers' environment (``benchmarks/peers/install.py``), where it has one.
* ``compile_seconds``: of that program.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

import metahpo as mh
from benchmarks import _peers, common
from benchmarks.common import Row
from metahpo.base import Key, PyTree


class Case(NamedTuple):
    """An environment, how many lanes of it, and what DACBench calls it."""

    name: str
    make: Callable[[], mh.rl.Environment]
    lanes: int = 4096
    peer: str | None = None

    def peers(self) -> list[tuple[str, str, str]]:
        """What the peers' processes play, if there is a counterpart."""
        own = self.peer
        return [] if own is None else [(f"DACBench's {own}", "reinforcement", f"dacbench:{own}")]


class Sizes(NamedTuple):
    """How much is measured."""

    cases: tuple[Case, ...]
    steps: int
    repeats: int
    lanes: int | None = None  # of all cases, in place of their own


PEER_STEPS = 2000  # of one run of benchmarks/peers/reinforcement.py
CASES = (
    Case("sigmoid, 1 dimension", lambda: mh.rl.sigmoid(1, 3).environment, peer="sigmoid"),
    Case("sigmoid, 5 dimensions", lambda: mh.rl.sigmoid(5, 3).environment),
    Case("luby", lambda: mh.rl.luby(16, "fixed").environment, peer="luby"),
    Case("leading ones, 50 bits", lambda: mh.rl.leading_ones(50).environment, peer="theory"),
    Case("one max, 20 bits", lambda: mh.rl.one_max(20, (1, 2, 4, 8)).environment),
    Case("chebyshev, 20 rates", lambda: mh.rl.chebyshev(100.0, 20).environment),
    Case("frozen lake", lambda: mh.rl.frozen_lake().environment),
    Case("testbed", lambda: mh.rl.testbed(10, 1000).environment),
)
FULL = Sizes(CASES, steps=100, repeats=9)
QUICK = Sizes(CASES[2:3], steps=3, repeats=1, lanes=4)


def player(environment: mh.rl.Environment, steps: int) -> Callable[[Key], PyTree]:
    """Rollouts of many keys with random actions, shared out among the devices."""

    def policy(key: Key, observation: PyTree) -> PyTree:
        return mh.space.sample(key, environment.action_space)

    def lane(key: Key) -> PyTree:
        return mh.rl.rollout(key, environment, policy, steps)

    mesh = Mesh(np.array(jax.devices()), ("lanes",))
    spec = PartitionSpec("lanes")
    return jax.shard_map(jax.vmap(lane), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    sizes = QUICK if quick else FULL
    for case in sizes.cases:
        yield from _measured(case, sizes)


def _measured(case: Case, sizes: Sizes) -> Iterator[Row]:
    lanes = sizes.lanes or case.lanes
    keys = jax.random.split(jax.random.key(0), lanes)
    play = jax.jit(player(case.make(), sizes.steps))
    name = f"reinforcement/{case.name}, {lanes} lanes"
    compiled: Any = None

    def build() -> None:
        nonlocal compiled
        compiled = play.lower(keys).compile()

    yield common.row(name, "compile_seconds", "s", [common.seconds(build)])
    count = lanes * sizes.steps
    jax.block_until_ready(compiled(keys))
    rates: list[float] = []
    theirs: list[float] = []
    with _peers.started(case.peers(), {}) as peers:
        for _ in range(sizes.repeats):  # in turns
            rates.append(count / common.seconds(functools.partial(compiled, keys)))
            theirs += [PEER_STEPS / peer.seconds() for peer in peers]
    yield common.row(name, "steps_per_second", "1/s", rates, theirs)


if __name__ == "__main__":
    common.main(measure, __doc__)
