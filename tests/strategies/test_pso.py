"""Particle swarms: their movement by hand, their stability, and an independent implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo import StopReason, draws
from metahpo.strategies import pso
from metahpo.strategies.swarm import motion
from metahpo.strategies.swarm.motion import Coefficients

KEY = jax.random.key(0)
P, D = 6, 3
SPACE = {"x": mh.Float(0.0, 1.0, shape=(D,))}
LOSSES = np.array([[3.0, 1.0, 2.0, np.inf, 5.0, 4.0], [2.0, 6.0, 1.5, np.inf, 9.0, np.nan]])


def told(strategy, losses=LOSSES):
    """The states before and after each round, with the given losses."""
    init_key, *keys = jax.random.split(KEY, len(losses) + 1)
    states = [jax.jit(strategy.init)(init_key)]
    for key, loss in zip(keys, losses, strict=True):
        proposal, state = strategy.ask(key, states[-1])
        evaluation = mh.Evaluation(jnp.asarray(loss, float), None, ())
        states.append(jax.jit(strategy.tell)(key, state, proposal, evaluation))
    return keys, states


def personal_bests(states, losses=LOSSES):
    """What every particle remembers after the rounds, by loops."""
    unit, loss = np.array(states[0].unit), np.full(P, np.inf)
    for state, row in zip(states, losses, strict=False):
        for i, value in enumerate(row):
            if value < loss[i]:
                unit[i], loss[i] = state.unit[i], value
    return unit, loss


def neighbours(topology):
    if topology == "global":
        return [range(P)] * P
    return [((i - 1) % P, i, (i + 1) % P) for i in range(P)]


@pytest.mark.parametrize("topology", ["global", "ring"])
@pytest.mark.parametrize("variant", ["constriction", "inertia"])
def test_two_rounds_are_those_of_a_loop_over_particles(variant, topology):
    w, c1, c2 = {"constriction": (0.729844, 1.496180, 1.496180), "inertia": (0.6, 1.7, 1.7)}[
        variant
    ]
    keys, states = told(pso(SPACE, P, variant=variant, topology=topology))
    for t in range(2):
        before, after = states[t], states[t + 1]
        best_unit, best_loss = personal_bests(states[: t + 1])
        np.testing.assert_array_equal(after.best_loss, best_loss)
        np.testing.assert_array_equal(after.best_unit, best_unit)
        move_key = jax.random.split(keys[t], 4)[0]
        r1, r2 = (np.asarray(r) for r in draws.weights(move_key, (P, D)))
        for i in range(P):
            leader = min(neighbours(topology)[i], key=lambda j: (best_loss[j], j != i))
            x, v, g = np.asarray(before.unit[i]), np.asarray(before.velocity[i]), best_unit[leader]
            own = best_unit[i] if np.isfinite(best_loss[i]) else g
            v = w * v + c1 * r1[i] * (own - x) + c2 * r2[i] * (g - x)
            outside = (x + v < 0) | (x + v > 1)
            np.testing.assert_allclose(after.unit[i], np.clip(x + v, 0, 1), atol=1e-5)
            np.testing.assert_allclose(after.velocity[i], np.where(outside, -v / 2, v), atol=1e-5)


def test_every_coordinate_of_every_particle_has_weights_of_its_own():
    n = 20_000
    x = jnp.zeros((n, 2))
    move = jax.jit(lambda own, theirs: motion.accelerate(KEY, (0.7, 1.2, 0.8), x, x, own, theirs))
    r1 = np.asarray(move(x + 1, x)) / 1.2
    r2 = np.asarray(move(x, x + 1)) / 0.8
    table = np.concatenate([r1, r2], axis=1)
    np.testing.assert_allclose(table.mean(axis=0), 0.5, atol=5 / (12 * n) ** 0.5)
    np.testing.assert_allclose(table.var(axis=0), 1 / 12, rtol=0.05)
    assert np.abs(np.corrcoef(table.T) - np.eye(4)).max() < 5 / n**0.5


def test_spso2011_draws_uniform_radii_and_directions_around_the_centre_of_gravity():
    n, w, c = 40_000, 0.7, 1.1
    x, v, own, theirs = (jnp.tile(jnp.array(row), (n, 1)) for row in np.eye(4, 3) + 0.1)
    alone = jnp.arange(n) % 2 == 0
    move = jax.jit(lambda: motion.sphere_velocity(KEY, (w, c, c), x, v, own, theirs, alone))
    target = np.asarray(x + move() - w * v)
    centre = np.where(
        np.asarray(alone)[:, None],
        x + c * (own - x) / 2,
        (x + (x + c * (own - x)) + (x + c * (theirs - x))) / 3,
    )
    offset = target - centre
    largest = np.linalg.norm(centre - np.asarray(x), axis=1)
    share = np.linalg.norm(offset, axis=1) / largest
    assert share.max() <= 1.0 + 1e-5
    levels = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(share, levels), levels, atol=5 * 0.5 / n**0.5)
    # Uniform on the sphere: mean 0, covariance 1/3, and in 3-D each coordinate is uniform.
    direction = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    np.testing.assert_allclose(direction.mean(axis=0), 0, atol=5 / (3 * n) ** 0.5)
    np.testing.assert_allclose(np.cov(direction.T), np.eye(3) / 3, atol=5 * 0.3 / n**0.5)
    np.testing.assert_allclose(
        np.quantile(direction[:, 0], levels), 2 * levels - 1, atol=5 / n**0.5
    )
    assert abs(np.corrcoef(share, direction[:, 0])[0, 1]) < 5 / n**0.5


def test_random_topology_informs_three_and_is_redrawn_unless_the_best_improved():
    losses = np.array([[3.0, 1, 2, 9, 5, 4], [3, 1, 2, 9, 5, 4], [3, 0.5, 2, 9, 5, 4]])
    _, states = told(pso(SPACE, P, variant="spso2011"), losses)
    links = [np.asarray(state.links) for state in states]
    assert links[0].shape == (3, P)
    np.testing.assert_array_equal(links[1], links[0])  # the first round improves on nothing
    assert not np.array_equal(links[2], links[1])
    np.testing.assert_array_equal(links[3], links[2])
    loss, table = jnp.asarray(losses[0]), links[2]
    leader = motion.informant("random", loss, jnp.asarray(table))
    for i in range(P):
        informs = [j for j in range(P) if i == j or i in table[:, j]]
        assert leader[i] == min(informs, key=lambda j: losses[0][j])


def moments(w, c1, c2, own, theirs, steps):
    """Mean and variance of many stagnant particles, unbounded, by the library's movement."""
    shape = (20_000, 1)

    def step(carry, key):
        x, v = carry
        v = motion.accelerate(key, (w, c1, c2), x, v, own, theirs)
        return (x + v, v), ((x + v).mean(), (x + v).var())

    start = jnp.zeros(shape), jnp.full(shape, 0.3)
    keys = jax.random.split(KEY, steps)
    return jax.tree.map(np.asarray, jax.jit(lambda: jax.lax.scan(step, start, keys)[1])())


@pytest.mark.parametrize("name", ["constriction", "inertia"])
def test_variance_of_a_stagnant_particle_converges_to_its_closed_form(name):
    w, c, _ = motion.COEFFICIENTS[name]
    mean, variance = moments(w, c, c, 1.0, 3.0, 900)  # long, because the tails are heavy
    # Poli 2009: c (1 + w) / (4 (12 (1 - w^2) - 7 c + 5 w c)) (g - p)^2.
    expected = c * (1 + w) / (4 * (12 * (1 - w**2) - 7 * c + 5 * w * c)) * 4
    assert mean[100:].mean() == pytest.approx(2.0, abs=0.01)
    assert variance[100:].mean() == pytest.approx(expected, rel=0.05)


def largest_root(w, mean, variance):
    """The spectral radius of the recursion of E x^2, E x y, E y^2 of x' = (1 + w - f) x - w y."""
    a = 1 + w - mean
    return np.abs(
        np.linalg.eigvals([[a * a + variance, -2 * a * w, w * w], [a, -w, 0], [1, 0, 0]])
    ).max()


@pytest.mark.parametrize("w", [0.0, 0.4, 0.7298, 0.95])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_bound_is_where_the_second_moments_stop_being_stable(w, ratio):
    unit = Coefficients(w, 1.0, ratio)
    total = 1 + ratio
    scale = motion.stability_bound(unit) / total
    for factor, stable in ((0.999, True), (1.001, False)):
        c1, c2 = scale * factor, scale * factor * ratio
        radius = largest_root(w, (c1 + c2) / 2, (c1**2 + c2**2) / 12)
        assert (radius < 1) == stable
    if ratio == 1:
        assert scale * 2 == pytest.approx(24 * (1 - w**2) / (7 - 5 * w))
    phi = motion.stability_bound(unit, balls=True) / 3
    for factor, stable in ((0.999, True), (1.001, False)):
        assert (largest_root(w, phi * factor, (phi * factor) ** 2 / 3) < 1) == stable


def test_unstable_coefficients_explode_and_are_refused():
    _, variance = moments(0.75, 3.0, 3.0, 0.0, 0.0, 60)
    assert variance[-1] > 1e3 * variance[0]
    # Another library's defaults: most paths come to rest, but the variance grows.
    assert largest_root(0.75, 1.75, (1.5**2 + 2.0**2) / 12) > 1.0
    with pytest.raises(ValueError, match=r"cognitive \+ social < 3.196 .* got 1.5 \+ 2.0 = 3.5"):
        pso(SPACE, P, inertia=0.75, cognitive=1.5, social=2.0)
    with pytest.raises(ValueError, match="order-2 stability"):
        pso(SPACE, P, variant="spso2011", cognitive=2.0, social=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "spso2007"}, "variant must be one of .* got 'spso2007'"),
        ({"topology": "star"}, "topology must be one of .* got 'star'"),
        ({"inertia": 1.0}, "0 <= inertia < 1 .* got inertia 1.0"),
        ({"social": -0.1}, "pulls that are not negative .* social -0.1"),
        ({"cognitive": 0.0, "social": 0.0}, "nor both 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pso(SPACE, P, **options)


def test_coefficients_may_be_traced():
    @jax.jit
    def first_move(w):
        strategy = pso(SPACE, P, inertia=w)
        state = strategy.init(KEY)
        evaluation = mh.Evaluation(jnp.arange(6.0), None, ())
        return strategy.tell(KEY, state, strategy.ask(KEY, state)[0], evaluation).unit

    assert not np.array_equal(first_move(0.1), first_move(0.7))


def searched(strategy, space, fn, rounds, seeds):
    problem = mh.problems.function(fn)
    run = jax.vmap(lambda k: mh.search(k, problem, space, strategy, rounds=rounds, steps=1))
    return jax.jit(run)(jax.random.split(KEY, seeds))


# minionpy 1.9.1, SPSO2011: population 40, maxevals 20,000, box [-5, 5]^10, optimum at 1, inertia
# 1 / (2 ln 2), all four coefficients 1/2 + ln 2, x_tol 0, seeds 0 to 50: the median evaluations to
# 1e-8 on the sphere, and the median of log10 of the best loss on Rosenbrock's function.
MINIONPY = {"sphere": 6642.0, "rosenbrock": 0.616}


@pytest.mark.slow
def test_spso2011_needs_what_minionpy_needs():
    space = {"x": mh.Float(-5.0, 5.0, shape=(10,))}
    functions = {
        "sphere": lambda x: ((x - 1) ** 2).sum(),
        "rosenbrock": lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(),
    }
    with jax.enable_x64(True):
        strategy = pso(space, 40, variant="spso2011")
        best = {}
        for name, fn in functions.items():
            rounds = 250 if name == "sphere" else 500
            result = searched(strategy, space, lambda h, fn=fn: fn(h["x"]), rounds, 17)
            losses = np.asarray(result.history.loss).reshape(17, -1)
            best[name] = np.median(np.log10(losses.min(axis=1)))
            if name == "sphere":
                assert (losses <= 1e-8).any(axis=1).all()
                evaluations = np.median((losses <= 1e-8).argmax(axis=1) + 1)
    assert evaluations == pytest.approx(MINIONPY["sphere"], rel=0.1)
    assert best["rosenbrock"] < MINIONPY["rosenbrock"] + 0.1


@pytest.mark.parametrize("variant", ["constriction", "spso2011"])
@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_optimum_in_a_corner_is_reached_exactly(variant, corner):
    strategy = pso(SPACE, 16, variant=variant)
    result = searched(strategy, SPACE, lambda h: jnp.abs(h["x"] - corner).sum(), 60, 4)
    assert float(result.best_loss.max()) == 0.0


@pytest.mark.parametrize("variant", ["constriction", "spso2011"])
def test_swarm_that_knows_nothing_is_drawn_anew_and_nothing_breaks_on_a_plateau(variant):
    strategy = pso({"x": mh.Float(0.0, 1.0, shape=(30,))}, 20, variant=variant)

    def run(value):
        def step(state, key):
            proposal, state = strategy.ask(key, state)
            evaluation = mh.Evaluation(jnp.full(20, value), None, ())
            return strategy.tell(key, state, proposal, evaluation), proposal.unit

        keys = jax.random.split(jax.random.key(4), 60)
        return np.asarray(jax.jit(lambda: jax.lax.scan(step, strategy.init(KEY), keys))()[1])

    lost = run(jnp.inf)
    assert len(np.unique(lost)) > 0.99 * lost.size  # always new points
    assert abs(lost[-1].mean() - 0.5) < 5 * (1 / 12 / 600) ** 0.5
    plateau = run(1.0)
    assert np.isfinite(plateau).all()
    assert abs(plateau[-1].mean() - 0.5) < 5 * (1 / 12 / 600) ** 0.5  # everyone keeps its own best


def test_swarm_says_when_it_has_collapsed():
    strategy = pso(SPACE, P, jnp.full((P, D), 0.3))
    _, states = told(strategy, np.ones((1, P)))
    rest = states[-1]._replace(velocity=jnp.zeros((P, D)))
    stop = jax.jit(strategy.stop)
    assert stop(states[-1]) == StopReason.RUNNING
    assert stop(rest) == StopReason.COLLAPSE
    assert pso({"n": mh.Int(0, 3)}, P).stop is None  # integers go on moving


@pytest.mark.parametrize("variant", ["constriction", "spso2011"])
def test_integers_and_choices_go_on_moving_in_a_swarm_at_rest(variant):
    space = {"c": mh.Choice(tuple("abcd")), "n": mh.Int(0, 9), "x": mh.Float(0.0, 1.0)}
    start = mh.space.encode(space, {"c": 1, "n": 4, "x": 0.5})
    strategy = pso(space, 10, jnp.tile(start, (10, 1)), variant=variant)

    def at_rest(key):
        state = strategy.init(key)
        return state._replace(velocity=jnp.zeros_like(state.velocity))

    strategy_at_rest = strategy._replace(init=at_rest)
    result = searched(strategy_at_rest, space, lambda h: jnp.zeros(()), 50, 4)
    decoded = jax.vmap(lambda u: mh.space.decode(space, u))(result.history.unit.reshape(-1, 3))
    assert set(np.asarray(decoded["c"])) == {0, 1, 2, 3}
    assert len(set(np.asarray(decoded["n"]))) >= 3
