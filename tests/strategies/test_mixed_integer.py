"""Every strategy on functions of integers, choices and floats.  A new one is a row of ``TABLE``."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh
from metahpo import strategies

pytestmark = pytest.mark.slow

DIMENSION, POPULATION, ROUNDS = 10, 20, 150
FUNCTIONS = (1, 2, 3, 8)  # sphere, ellipsoid, Rastrigin, Rosenbrock
INSTANCES = range(1, 11)
EVALUATIONS = POPULATION * ROUNDS
SPACE = mh.problems.mixed_integer_space(DIMENSION)
DISCRETE = np.flatnonzero(~mh.space.is_continuous(SPACE))
MOST_FROZEN = 0.02  # the share of coordinates; by chance alone, a margin freezes about half of it


# (space, population) -> Strategy
TABLE = {
    "bipop_cma_es": functools.partial(strategies.bipop_cma_es, doublings=2),
    "cma_es": strategies.cma_es,
    "cma_es_separable": functools.partial(strategies.cma_es, covariance="separable"),
    "differential_evolution": strategies.differential_evolution,
    "genetic": strategies.genetic,
    "ipop_cma_es": functools.partial(strategies.ipop_cma_es, doublings=2),
    "jade": strategies.jade,
    "l_shade": functools.partial(strategies.l_shade, evaluations=EVALUATIONS),
    "open_es": strategies.open_es,
    "pb2": strategies.pb2,
    "pbt": strategies.pbt,
    "pso": strategies.pso,
    "shade": strategies.shade,
    "snes": strategies.snes,
    "spso2011": functools.partial(strategies.pso, variant="spso2011"),
    "xnes": strategies.xnes,
}
COSTLY = ("pb2",)  # runs for seconds, so it is compiled well, and runs on every other instance
# By row (scope="module"), so that one worker compiles a row's program, once.
EVERY = pytest.mark.parametrize("name", TABLE, scope="module")


class Outcome(NamedTuple):
    """Of all runs: one a function and instance."""

    unit: np.ndarray  # f[runs, ROUNDS, P, D]
    found: np.ndarray  # bool[runs], whether the best point has all the optimum's values
    mutating: np.ndarray  # f[runs, K], share of the last rounds with another value than the best's


def losses(hparams, task):
    """Of the function that the task names."""
    problems = [mh.problems.mixed_integer(f, DIMENSION) for f in FUNCTIONS]
    key = jax.random.key(0)  # of a loss without randomness
    branches = [lambda h, t, p=p: p.loss(key, h, t, ()) for p in problems]
    one = functools.partial(jax.lax.switch, task[0], branches)
    return jax.vmap(one, (0, None))(hparams, task[1])


def tasks():
    each = [
        (np.int32(i), mh.problems.mixed_integer_instance(f, DIMENSION, k))
        for i, f in enumerate(FUNCTIONS)
        for k in INSTANCES
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


def values(hparams):
    """``i32[K]``, what the integers and choices are."""
    return jnp.concatenate([hparams[name] for name in sorted(SPACE) if name != "x"])


def optimum(instance):
    k = DIMENSION // 5
    parts = [instance.bbob.x_opt[i * k : (i + 1) * k, None] for i in range(4)]
    pairs = zip(instance.values, parts, strict=True)
    return jnp.concatenate([jnp.abs(of - x).argmin(axis=1) for of, x in pairs])


@functools.cache
def outcome(name):
    make = TABLE[name] if name in TABLE else getattr(strategies, name)

    strategy = make(SPACE, POPULATION)
    decode = jax.vmap(lambda unit: mh.space.decode(SPACE, unit))

    def run(key, task):
        def step(state, key):
            ask_key, tell_key = jax.random.split(key)
            proposal, state = strategy.ask(ask_key, state)
            hparams = decode(proposal.unit)
            loss = jnp.where(proposal.budget > 0, losses(hparams, task), jnp.inf)
            state = strategy.tell(tell_key, state, proposal, mh.Evaluation(loss, None, ()))
            return state, (proposal.unit, loss, jax.vmap(values)(hparams))

        keys = jax.random.split(key, ROUNDS + 1)
        _, (unit, loss, value) = jax.lax.scan(step, strategy.init(keys[0]), keys[1:])
        best = value.reshape(-1, value.shape[-1])[jnp.argmin(loss)]
        mutating = (value[-(ROUNDS // 4) :] != best).any(axis=1).mean(axis=0)
        return Outcome(unit, (best == optimum(task[1])).all(), mutating)

    all_tasks = tasks()
    keys = jax.random.split(jax.random.key(1), len(all_tasks[0]))
    if name in COSTLY:
        keys, all_tasks = jax.tree.map(lambda leaf: leaf[::2], (keys, all_tasks))
    options = xla.LONG_RUN if name in COSTLY else None
    jitted = jax.jit(jax.vmap(run), compiler_options=options)
    return jax.tree.map(np.asarray, jitted(keys, all_tasks))


@EVERY
def test_proposals_stay_in_the_cube(name):
    unit = outcome(name).unit
    assert ((unit >= 0) & (unit <= 1)).all()


@EVERY
def test_integers_and_choices_keep_mutating_until_the_optimum_is_found(name):
    result = outcome(name)
    frozen = (result.mutating == 0) & ~result.found[:, None]
    assert frozen.mean() <= MOST_FROZEN


@EVERY
def test_finds_the_optimum_more_often_than_random_search(name):
    ours, theirs = outcome(name).found, outcome("random").found
    theirs = theirs[::2] if name in COSTLY else theirs
    wins, losses = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    # One-sided sign test on the runs that differ.
    p = sum(math.comb(wins + losses, k) for k in range(wins, wins + losses + 1))
    assert p / 2 ** (wins + losses) < 1e-3, f"{wins} wins, {losses} losses"
