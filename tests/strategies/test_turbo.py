"""TuRBO: its counting, written again in Python after the published rules, and where it looks."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla

import metahpo as mh

# By its full name: the package has a function of the same one.
Note = importlib.import_module("metahpo.strategies.bayesian.turbo").Note
SIZE = 20
SPACE = {"x": mh.Float(-5.0, 10.0, shape=(SIZE,))}
MIXED = {
    "x": mh.Float(0.0, 1.0, shape=(2,)),
    "n": mh.Int(1, 30),
    "kind": mh.Choice(("a", "b", "c")),
}


class Reference:
    """``_adjust_length`` and ``_restart`` of the code that the paper publishes."""

    def __init__(self, size, batch):
        self.success_tolerance, self.failure_tolerance = 3, np.ceil(max(4, size) / batch)
        self.restart()

    def restart(self):
        self.length, self.successes, self.failures, self.best = 0.8, 0, 0, np.inf

    def first(self, losses):
        self.best = min(self.best, *losses)

    def batch(self, losses):
        if min(losses) < self.best - 1e-3 * abs(self.best):
            self.successes, self.failures = self.successes + 1, 0
        else:
            self.successes, self.failures = 0, self.failures + 1
        self.best = min(self.best, *losses)
        if self.successes == self.success_tolerance:
            self.length, self.successes = min(2 * self.length, 1.6), 0
        elif self.failures == self.failure_tolerance:
            self.length, self.failures = self.length / 2, 0
        if self.length < 0.5**7:
            self.restart()
            return True
        return False


def losses(rng, best, batch, good):
    """Better, hardly better, worse and failed ones in rows that grow, shrink and restart."""
    kind = rng.choice(4, p=[good, 0.1, 0.8 - good, 0.1])
    gain = [rng.uniform(0.002, 0.1), rng.uniform(0.0, 0.0009), -rng.uniform(0, 1), -np.inf][kind]
    found = best + abs(best) * rng.uniform(0.1, 1.0, batch)
    found[rng.integers(batch)] = best - gain * abs(best)
    return found.astype(np.float32)


@pytest.mark.parametrize(("batch", "size"), [(1, 6), (2, 6), (5, 7), (3, 2)])
def test_the_region_follows_the_published_rules(batch, size):
    rng, expected = np.random.default_rng(0), Reference(size, batch)
    space = {"x": mh.Float(0.0, 1.0, shape=(size,))}
    strategy = mh.strategies.turbo(space, batch, capacity=400 * batch, startup=batch)
    tell, state = jax.jit(strategy.tell), strategy.init(jax.random.key(0))
    begun, found, places = True, [], jnp.zeros(batch, jnp.int32)
    for i in range(400):
        # As asked by a strategy whose first round is one of Sobol's points.
        note = Note(places, jnp.full(batch, state.number), jnp.full(batch, not begun))
        proposal = mh.Proposal(
            jnp.full((batch, size), 0.5), jnp.full(batch, -1), jnp.full(batch, 1), note
        )
        loss = losses(
            rng,
            expected.best if np.isfinite(expected.best) else -1.0,
            batch,
            [0.7, 0.02][i % 200 > 50],
        )
        if begun:
            loss = np.full(batch, -1.0, np.float32)
        evaluation = mh.base.Evaluation(jnp.asarray(loss), None, jnp.ones(batch, jnp.int32))
        state = tell(jax.random.key(i), state, proposal, evaluation)
        if begun:
            expected.first(loss)
            begun = False
        else:
            begun = expected.batch(loss)
            found.append((state.region.length, expected.length))
    lengths, wanted = np.array(found).T
    np.testing.assert_array_equal(lengths, np.float32(wanted))
    assert int(state.number) > 0 and {0.4, 0.8, 1.6} <= set(wanted)  # of all kinds


@functools.cache
def harmless():
    return mh.strategies.turbo(MIXED, initial=[{"x": [0.5, 0.5], "n": 3, "kind": "b"}], capacity=40)


@pytest.mark.slow
def test_candidates_stay_in_a_box_around_the_best_point():
    strategy = harmless()
    state = strategy.init(jax.random.key(0))
    points = jax.random.uniform(jax.random.key(1), (10, 4))
    process = state.process._replace(
        unit=state.process.unit.at[:10].set(points),
        loss=state.process.loss.at[:10].set(((points - 0.4) ** 2).sum(1)),
        told=state.process.told.at[:10].set(True),
        asked=jnp.int32(10),
    )
    ask = jax.jit(jax.vmap(strategy.ask, (0, None)), compiler_options=xla.LONG_RUN)
    best = points[jnp.argmin(process.loss[:10])]
    for length in (0.4, 2.0**-6):
        narrow = state.region._replace(length=jnp.float32(length))
        proposal, after = ask(
            jax.random.split(jax.random.key(2), 6), state._replace(process=process, region=narrow)
        )
        # The edges of the two floats and the integer have the product of a cube's.
        free = np.asarray(after.process.free)[:, 1:4]
        lengths = np.clip(np.exp(free) + 0.025, 0.005, 2.0)
        edges = length * lengths / np.exp(np.log(lengths).mean(1, keepdims=True))
        away = np.abs(np.asarray(proposal.unit)[:, 0, 1:] - best[1:])
        reach = np.maximum(edges, [3 / 30, 0, 0]) / 2 + 1e-6
        assert (away <= reach).all() and (away.max(1) > 0.01 * length).all()
        assert len(np.unique(proposal.unit, axis=0)) == 6


@pytest.mark.slow
def test_a_region_that_begins_again_forgets_and_draws_other_points():
    strategy, key = harmless(), jax.random.key(3)
    first, begun = strategy.ask(key, strategy.init(jax.random.key(0)))
    small = begun._replace(
        region=begun.region._replace(
            length=jnp.float32(2.0**-7), best=jnp.float32(0.0), failures=jnp.int32(3)
        )
    )
    note = first.note._replace(chosen=jnp.array([True]))
    known = mh.base.Evaluation(jnp.ones(1), None, jnp.ones(1, jnp.int32))
    after = strategy.tell(key, small, first._replace(note=note), known)
    assert int(after.number) == 1 and not after.process.told.any()
    assert float(after.region.length) == pytest.approx(0.8)
    second, _ = strategy.ask(key, after)
    assert not np.allclose(first.unit, second.unit)
    # What is told of a region that is over changes nothing.
    late = strategy.tell(key, after, first._replace(note=note), known)
    assert jax.tree.all(jax.tree.map(np.array_equal, late.process, after.process))
    assert jax.tree.all(jax.tree.map(np.array_equal, late.region, after.region))


@pytest.mark.slow
def test_no_loss_does_harm():
    bad = jnp.array([jnp.nan, jnp.inf, 1.0, 1e7])

    def run(bad):
        awkward = mh.problems.function(
            lambda h: jnp.where(h["n"] % 3 > 0, bad, 2e-4 * h["n"] * h["x"][0])
        )
        return mh.search(jax.random.key(0), awkward, MIXED, harmless(), rounds=16, steps=1)

    found = jax.jit(jax.vmap(run))(bad)
    assert np.isfinite(found.history.unit).all() and np.isfinite(found.best_loss).all()


@pytest.mark.slow
def test_in_twenty_dimensions_it_is_ahead_of_random_search():
    problem, rounds = mh.problems.function(lambda h: ((h["x"] - 1.0) ** 2).mean()), 30

    def best(strategy):
        def run(key):
            return mh.search(key, problem, SPACE, strategy, rounds=rounds, steps=1).best_loss

        keys = jax.random.split(jax.random.key(0), 3)
        return np.asarray(jax.jit(lambda: jax.lax.map(run, keys))())

    ours = best(mh.strategies.turbo(SPACE, capacity=rounds, startup=10))
    assert np.median(ours) < best(mh.strategies.random(SPACE, 1)).min()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"acquisition": "eg"}, "acquisition must be one of"),
        ({"capacity": 4, "startup": 4}, "capacity .* at least 5, got 4"),
        ({"startup": 0}, "startup .* at least 1, got 0"),
        ({"population": 0}, "turbo needs a population .* at least 1, got 0"),
        ({"capacity": 8.5}, "capacity .* whole number"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        mh.strategies.turbo(SPACE, **arguments)
