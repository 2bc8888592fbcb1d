"""Reinforcement learning: steps per second of environments and agents, beside other libraries'.

    python benchmarks/peers/install.py    # once: the peers' environment; without it, our rows only
    python -m benchmarks.reinforcement --json FILE

Environments: random actions are played by ``rl.rollout``, episode after episode, in many lanes of
one program, with one XLA device a core.  Resets, random numbers and the trajectory are paid for.
The baseline is DACBench's environment of the same name, where it has one.

Agents: PPO and DQN in LeadingOnes of 50 bits, one and many of them vmapped on one device; steps of
the environment, learning included.  The baseline is one agent of Stable-Baselines3 with the same
sizes in the same environment, through ``metahpo.integrations.gymnasium``, and in rows of their own
as many of rejax, in its old JAX and with the same environment written for gymnax.

Tuning: a step is a segment of 10 steps of AdamW of a network of 32 units, before which a policy
moves rate and decay.  1,024 policies play in one program, and PPO learns from 16 environments.

One max draws from the exact distribution of a generation; drawing its 340 bits and flips made an
eighth of the steps.

Ceiling, measured in CPU seconds of one core, with other work beside it:

* An update of DQN (32 samples, 64 x 64) takes 106 microseconds in one agent and 65 in each of 64,
  28 and 23 of which are the matrix products of the networks.  So vmapped agents gain the calls of
  single operations, 1.6 times as many steps, and could gain at most 4.7 times if all but products
  were free.

Metrics:

* ``steps_per_second``: of all lanes or agents together.
* ``compile_seconds``: of the program.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

import metahpo as mh
from benchmarks import _peers, common
from benchmarks.common import Row
from metahpo.base import Key, PyTree


class Case(NamedTuple):
    """Something to measure.

    Attributes:
        name: of the row.
        program: ``(steps) -> (keys) -> result``: so many steps of the environment for each key.
        lanes: keys.
        steps: for each of them.
        peer: its counterpart in ``benchmarks/peers/reinforcement.py``, or of ``rejax:`` in
            ``old_agents.py``, where there are as many agents as ours.
    """

    name: str
    program: Callable[[int], Callable[[Key], PyTree]]
    lanes: int
    steps: int = 100
    peer: str | None = None


class Sizes(NamedTuple):
    """How much is measured."""

    cases: tuple[Case, ...]
    repeats: int


def player(environment: mh.rl.Environment, steps: int) -> Callable[[Key], PyTree]:
    """Rollouts of many keys with random actions, shared out among the devices."""

    def policy(key: Key, observation: PyTree) -> PyTree:
        return mh.space.sample(key, environment.action_space)

    def lane(key: Key) -> PyTree:
        return mh.rl.rollout(key, environment, policy, steps)

    mesh = Mesh(np.array(jax.devices()), ("lanes",))
    spec = PartitionSpec("lanes")
    return jax.shard_map(jax.vmap(lane), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)


def played(name: str, exact: mh.rl.Exact, peer: str | None = None) -> Case:
    """Random actions in an environment."""
    return Case(name, functools.partial(player, exact.environment), lanes=4096, peer=peer)


def ppo(steps: int) -> Callable[[Key], PyTree]:
    """PPO with four environments an agent, 128 steps of which serve 4 epochs of 4 minibatches."""
    environment, lanes, stretch = mh.rl.leading_ones(50).environment, 4, 128
    policy = mh.rl.softmax_policy(environment, (64, 64))
    policy = mh.rl.with_value(policy, environment, (64, 64))
    agent = mh.rl.ppo(environment, policy, stretch, epochs=4, minibatches=4)
    return trainer(environment, policy, agent, steps * 16 // (lanes * stretch), lanes)


def dqn(steps: int) -> Callable[[Key], PyTree]:
    """DQN agents that learn from 32 steps after every fourth one."""
    environment, stretch = mh.rl.leading_ones(50).environment, 4
    policy = mh.rl.value_policy(environment, (64, 64))
    explore = mh.rl.epsilon_greedy(0.1)
    agent = mh.rl.dqn(environment, policy, explore, steps=stretch, capacity=10_000, n=1)
    return trainer(environment, policy, agent, steps // stretch, 1)


class Network(nnx.Module):
    """Two layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.last = nnx.Linear(20, 32, rngs=rngs), nnx.Linear(32, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.first(x)))


@functools.cache
def tuning() -> mh.rl.Environment:
    """Ten segments of a training on 200 examples."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 20)).astype("f4")
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype("i4")
    data = mh.problems.split(x, y, train=200, validation=200)
    problem = mh.problems.nnx(
        Network,
        lambda model, batch: mh.problems.cross_entropy(model(batch.x), batch.y),
        data,
        lambda h: optax.adamw(h["rate"], weight_decay=h["decay"]),
        batch_size=32,
    )
    space = {"rate": mh.Float(1e-4, 0.1, log=True), "decay": mh.Float(1e-3, 10.0, log=True)}
    return mh.rl.tuning_environment(problem, space, segment_steps=10, segments=10)


def tuners(steps: int) -> Callable[[Key], PyTree]:
    """Policies with weights of their own, each in a training of its own."""
    policy = mh.rl.softmax_policy(tuning(), (16,))

    def play(key: Key) -> PyTree:
        init_key, play_key = jax.random.split(key)
        weights = policy.init(init_key)
        return mh.rl.rollout(
            play_key, tuning(), lambda key, seen: policy.sample(key, weights, seen), steps
        )

    return jax.vmap(play)


def tuning_ppo(steps: int) -> Callable[[Key], PyTree]:
    """PPO from whole trainings in 16 environments."""
    environment, lanes, stretch = tuning(), 16, 10
    policy = mh.rl.softmax_policy(environment, (16,))
    policy = mh.rl.with_value(policy, environment, (16,))
    agent = mh.rl.ppo(environment, policy, stretch, epochs=4, minibatches=2)
    return trainer(environment, policy, agent, steps // (lanes * stretch), lanes)


def trainer(
    environment: mh.rl.Environment,
    policy: mh.rl.Policy,
    agent: mh.Estimator,
    rounds: int,
    environments: int,
) -> Callable[[Key], PyTree]:
    """Whole trainings of many keys in one program; gives the steps made, and what was learned."""
    process = mh.rl.problem(environment, policy)

    def train(key: Key) -> PyTree:
        init_key, train_key = jax.random.split(key)
        result = mh.meta_train(
            train_key,
            process,
            agent,
            policy.init(init_key),
            optax.adam(3e-4),
            rounds=rounds,
            tasks=environments,
        )
        # Without the weights and the losses the compiler would leave the learning out.
        return result.state.memory.score.steps.sum(), result.hparams, result.history.loss

    return jax.vmap(train)


PEER_STEPS = 2048  # of one run of an agent, or environment, of a peer
LUBY = played("luby", mh.rl.luby(16, "fixed"), "dacbench:luby")
CASES = (
    played("sigmoid, 1 dimension", mh.rl.sigmoid(1, 3), "dacbench:sigmoid"),
    played("sigmoid, 5 dimensions", mh.rl.sigmoid(5, 3)),
    LUBY,
    played("leading ones, 50 bits", mh.rl.leading_ones(50), "dacbench:theory"),
    played("one max, 20 bits", mh.rl.one_max(20, (1, 2, 4, 8))),
    played("chebyshev, 20 rates", mh.rl.chebyshev(100.0, 20)),
    played("frozen lake", mh.rl.frozen_lake()),
    played("testbed", mh.rl.testbed(10, 1000)),
    Case("PPO", ppo, lanes=1, steps=2048, peer="sb3:PPO"),
    Case("PPO", ppo, lanes=64, steps=2048, peer="sb3:PPO"),
    Case("DQN", dqn, lanes=1, steps=2048, peer="sb3:DQN"),
    Case("DQN", dqn, lanes=64, steps=2048, peer="sb3:DQN"),
    Case("PPO beside rejax", ppo, lanes=1, steps=2048, peer="rejax:PPO"),
    Case("PPO beside rejax", ppo, lanes=64, steps=2048, peer="rejax:PPO"),
    Case("DQN beside rejax", dqn, lanes=1, steps=2048, peer="rejax:DQN"),
    Case("DQN beside rejax", dqn, lanes=64, steps=2048, peer="rejax:DQN"),
    Case("tuning, policies", tuners, lanes=1024, steps=10),
    Case("tuning, PPO", tuning_ppo, lanes=1, steps=1600),
)
FULL = Sizes(CASES, repeats=9)
QUICK = Sizes((LUBY._replace(lanes=4, steps=3),), repeats=1)


def measure(quick: bool = False) -> Iterator[Row]:
    """All rows."""
    if hint := _peers.hint():
        print(hint, file=sys.stderr)
    sizes = QUICK if quick else FULL
    for case in sizes.cases:
        yield from _measured(case, sizes.repeats)


def _measured(case: Case, repeats: int) -> Iterator[Row]:
    keys = jax.random.split(jax.random.key(0), case.lanes)
    program = jax.jit(case.program(case.steps))
    name = f"reinforcement/{case.name}, {case.lanes} at once"
    compiled: Any = None

    def build() -> None:
        nonlocal compiled
        compiled = program.lower(keys).compile()

    yield common.row(name, "compile_seconds", "s", [common.seconds(build)])
    count = case.lanes * case.steps
    jax.block_until_ready(compiled(keys))
    rates: list[float] = []
    theirs: list[float] = []
    own = case.peer
    old = own is not None and own.startswith("rejax")
    cases = [] if own is None else [(own, "old_agents" if old else "reinforcement", own)]
    steps = PEER_STEPS * (case.lanes if old else 1)
    with _peers.started(cases, {"lanes": np.array(case.lanes)}) as peers:
        for _ in range(repeats):  # in turns
            rates.append(count / common.seconds(functools.partial(compiled, keys)))
            theirs += [steps / peer.seconds() for peer in peers]
    yield common.row(name, "steps_per_second", "1/s", rates, theirs)


if __name__ == "__main__":
    common.main(measure, __doc__)
