"""CMA-ES: one generation against the published equations, run lengths, bounds, bad luck."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.base import StopReason
from metahpo.strategies.cma import update
from metahpo.strategies.cma.cma_es import cma_es

SIZE, POPULATION, SEEDS = 10, 10, 51
SPACE = {"x": mh.Float(-5.0, 5.0, shape=(SIZE,))}


def published_weights(population, size, c_1, c_mu):
    """The recombination weights of the tutorial's table 1, by loops."""
    raw = [np.log((population + 1) / 2) - np.log(i) for i in range(1, population + 1)]
    mu = population // 2
    mu_eff = sum(raw[:mu]) ** 2 / sum(w**2 for w in raw[:mu])
    bad = sum(raw[mu:]) ** 2 / sum(w**2 for w in raw[mu:])
    limit = min(1 + c_1 / c_mu, 1 + 2 * bad / (mu_eff + 2), (1 - c_1 - c_mu) / (size * c_mu))
    good = [w / sum(raw[:mu]) for w in raw[:mu]]
    return np.array(good + [limit * w / -sum(raw[mu:]) for w in raw[mu:]]), mu_eff


def published_generation(state, z, loss):
    """One generation by the tutorial's equations, one sample at a time, with C^(-1/2) itself."""
    mean, sigma, c, path_sigma, path_c, generation = state
    population, n = z.shape
    mu_eff = published_weights(population, n, 0.1, 0.1)[1]
    c_sigma = (mu_eff + 2) / (n + mu_eff + 3)  # pycma's
    damping = 1 + 2 * max(0, np.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma
    c_c = 0.7 * (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
    c_1 = 1.3 * 2 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (mu_eff + 1 / mu_eff - 1.75) / ((n + 2) ** 2 + mu_eff))
    weights, mu_eff = published_weights(population, n, c_1, c_mu)
    values, vectors = np.linalg.eigh(c)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    y = [root @ row for row in z]
    order = np.argsort(loss)
    step = sum(max(w, 0) * y[i] for w, i in zip(weights, order, strict=True))
    expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    path_sigma = (1 - c_sigma) * path_sigma
    path_sigma += np.sqrt(c_sigma * (2 - c_sigma) * mu_eff) * np.linalg.inv(root) @ step
    length = np.linalg.norm(path_sigma)
    seen = np.sqrt(1 - (1 - c_sigma) ** (2 * (generation + 1)))
    short = float(length / seen < (1.4 + 2 / (n + 1)) * expected)
    path_c = (1 - c_c) * path_c + short * np.sqrt(c_c * (2 - c_c) * mu_eff) * step
    new = (1 + c_1 * (1 - short) * c_c * (2 - c_c) - c_1 - c_mu * weights.sum()) * c
    new += c_1 * np.outer(path_c, path_c)
    for w, i in zip(weights, order, strict=True):
        scale = 1.0 if w >= 0 else n / np.linalg.norm(np.linalg.inv(root) @ y[i]) ** 2
        new += c_mu * w * scale * np.outer(y[i], y[i])
    grown = sigma * np.exp(min(1.0, c_sigma / damping * (length / expected - 1)))
    return mean + sigma * step, grown, new, path_sigma, path_c, short


@pytest.mark.parametrize("long_path", [False, True])
@pytest.mark.parametrize("population", [6, 7, 40])
def test_a_generation_equals_the_published_equations(population, long_path):
    rng = np.random.default_rng(population)
    n = 4
    root = np.linalg.qr(rng.normal(size=(n, n)))[0]
    c = root @ np.diag([4.0, 1.0, 0.3, 0.05]) @ root.T
    paths = (30.0 if long_path else 0.3) * rng.normal(size=n), rng.normal(size=n)
    mean, sigma, z, loss = (
        rng.normal(size=n),
        0.7,
        rng.normal(size=(population, n)),
        rng.random(population),
    )
    expected = published_generation((mean, sigma, c, *paths, 3), z, loss)
    assert expected[-1] == (not long_path)  # both values of h_sigma occur
    with jax.enable_x64(True):
        shape = update.FORMS["eigen"]
        normal = update.Normal(
            *map(jnp.asarray, (mean, sigma, c)), shape.factorise(jnp.asarray(c)), *paths, 3
        )
        normal = normal._replace(generation=jnp.int32(3))
        constants = update.constants(population, n)
        weights = jnp.asarray(constants.weights)[update.ranks(jnp.asarray(loss))]
        new = update.updated(shape, constants, normal, jnp.asarray(z), weights)
    found = new.mean, new.sigma, new.covariance, new.path_sigma, new.path_c
    for got, want in zip(found, expected, strict=False):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)
    assert int(new.generation) == 4


def test_the_rank_one_update_is_a_matrix_and_positive_definite():
    with jax.enable_x64(True):
        constants = update.constants(8, 5)
        shape = update.FORMS["cholesky"]
        normal = update.start(shape, jnp.zeros(5), 1.0)
        path = jnp.array([3.0, 0.0, -1.0, 0.0, 0.0])
        still = jnp.zeros((8, 5))
        moved = update.updated(
            shape, constants, normal._replace(path_c=path), still, jnp.asarray(constants.weights)
        )
        kept = (1 - float(constants.c_c)) ** 2 * float(constants.c_1)
        off = np.asarray(moved.covariance) - np.diag(np.diagonal(moved.covariance))
        np.testing.assert_allclose(off[0, 2], -3.0 * kept, rtol=1e-12)
        assert np.count_nonzero(off) == 2


def test_constants_of_a_traced_population_are_the_static_ones():
    with jax.enable_x64(True):
        traced = jax.jit(lambda p: update.constants(p, 5, slots=64, xp=jnp))
        for population in (2, 3, 8, 33, 64):
            static, found = update.constants(population, 5), traced(population)
            np.testing.assert_allclose(found.weights[:population], static.weights, rtol=1e-12)
            assert not np.any(found.weights[population:])
            np.testing.assert_allclose(found[1:], static[1:], rtol=1e-12)


def test_separable_is_the_diagonal_of_full():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        z, paths = jnp.asarray(rng.normal(size=(8, 3))), jnp.asarray(rng.normal(size=(2, 3)))
        variances = jnp.array([4.0, 1.0, 0.1])
        constants = update.constants(8, 3)
        results = []
        for name in ("cholesky", "separable"):
            shape = update.FORMS[name]
            c = variances if name == "separable" else jnp.diag(variances)
            normal = update.Normal(
                jnp.zeros(3), jnp.ones(()), c, shape.factorise(c), *paths, jnp.int32(5)
            )
            new = update.updated(shape, constants, normal, z, jnp.asarray(constants.weights))
            results.append((new.mean, new.sigma, shape.variances(new.covariance), *new[4:6]))
        for full, separable in zip(*results, strict=True):
            np.testing.assert_allclose(full, separable, rtol=1e-12)


@pytest.mark.parametrize("slots", [9, 200])
def test_ranks_keep_ties_and_infinite_losses_in_order(slots):
    loss = np.random.default_rng(0).integers(0, 4, slots).astype(float)
    loss[loss == 3] = np.inf
    order = np.argsort(loss, kind="stable")
    ranks = np.asarray(update.ranks(jnp.asarray(loss)))
    np.testing.assert_array_equal(ranks[order], np.arange(slots))


def test_a_covariance_without_a_factor_keeps_the_old_one_and_says_so():
    for name in ("cholesky", "eigen", "separable"):
        shape = update.FORMS[name]
        bad = jnp.array([1.0, -1.0]) if name == "separable" else jnp.diag(jnp.array([1.0, -1.0]))
        old = shape.identity(2, jnp.float32)
        factor, covariance, failed = update.refactored(shape, old, bad)
        np.testing.assert_array_equal(factor, old)
        np.testing.assert_array_equal(covariance, old)
        assert bool(failed)
    strategy = cma_es({"x": mh.Float(0.0, 1.0, shape=(2,))}, 4)
    state = strategy.init(jax.random.key(0))
    assert int(strategy.stop(state)) == StopReason.RUNNING
    state = state._replace(progress=state.progress._replace(failed=jnp.array(True)))
    assert int(strategy.stop(state)) == StopReason.CONDITION


def sphere(x):
    return (x**2).sum(-1)


def ellipsoid(x):
    return (10 ** (6 * jnp.arange(SIZE) / (SIZE - 1)) * x**2).sum(-1)


def rosenbrock(x):
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def losses(fn, rounds, seeds, population=POPULATION, initial=None, **options):
    """``f[seeds, rounds, P]``, of ``fn`` in the box."""

    def run(key):
        start_key, init_key, run_key = jax.random.split(key, 3)
        first = jax.random.uniform(start_key, (1, SIZE), minval=0.1, maxval=0.9)
        strategy = cma_es(SPACE, population, first if initial is None else initial, **options)

        def step(state, key):
            proposal, state = strategy.ask(key, state)
            loss = fn(10 * proposal.unit - 5)
            state = strategy.tell(key, state, proposal, mh.Evaluation(loss, None, ()))
            return state, (loss, strategy.stop(state))

        state, (loss, stop) = jax.lax.scan(
            step, strategy.init(init_key), jax.random.split(run_key, rounds)
        )
        return loss, stop, state

    return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), seeds))


def run_lengths(loss, target):
    hit = np.asarray(loss).reshape(len(loss), -1) <= target
    return np.where(hit.any(1), hit.argmax(1) + 1, np.inf)


# 5 % above the medians of pycma 4.5 at this population and step size.  Rosenbrock's function has a
# second optimum, where 8 % of the runs end, of pycma's as well (92 of 101 runs succeed).
PUBLISHED = {
    "sphere": (sphere, 200, 1490, 51),
    "ellipsoid": (ellipsoid, 600, 4220, 51),
    "rosenbrock": (rosenbrock, 900, 5430, 44),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.slow
def test_median_run_lengths_are_the_published_ones_in_both_float_types(name):
    fn, rounds, median, successes = PUBLISHED[name]
    with jax.enable_x64(True):
        loss = losses(fn, rounds, SEEDS, sigma=0.2)[0]
    lengths, rough = run_lengths(loss, 1e-8), run_lengths(loss, 1e-6)
    assert np.median(lengths) <= median
    assert np.isfinite(lengths).sum() >= successes
    single = run_lengths(losses(fn, rounds, SEEDS, sigma=0.2)[0], 1e-6)
    assert np.median(single) == pytest.approx(np.median(rough), rel=0.1)
    assert np.isfinite(single).sum() >= successes


@pytest.mark.parametrize("options", [{"covariance": "separable"}, {"factor": "eigen"}])
def test_the_other_covariances_solve_the_ellipsoid(options):
    with jax.enable_x64(True):
        loss = losses(ellipsoid, 480, 15, sigma=0.2, **options)[0]
    median = np.median(run_lengths(loss, 1e-8))
    assert median <= (2200 if "covariance" in options else 4220)


def test_an_optimum_on_the_bound_is_reached_exactly():
    with jax.enable_x64(True):
        corner = losses(lambda x: sphere(x + 5), 60, 15)[0]
        face = losses(lambda x: sphere(x + 5 * (jnp.arange(SIZE) < 3)), 200, 15)[0]
    assert (np.asarray(corner).min(axis=(1, 2)) == 0.0).all()
    assert np.median(run_lengths(face, 1e-8)) <= 1600


@pytest.mark.parametrize("value", [1.0, np.inf])
def test_equal_losses_do_no_harm_and_stop(value):
    loss, stop, state = losses(lambda x: jnp.full(x.shape[0], value), 3000, 4)
    del loss
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.normal))
    assert (np.asarray(stop[:, 60]) == StopReason.TOLERANCE).all()
    assert ((state.normal.mean > -1) & (state.normal.mean < 2)).all()


def test_a_converged_run_says_so():
    with jax.enable_x64(True):
        stop = np.asarray(losses(sphere, 400, 8, sigma=0.2)[1])
    assert (stop[:, 50] == StopReason.RUNNING).all()
    assert np.isin(stop[:, -1], [StopReason.TOLERANCE, StopReason.COLLAPSE]).all()


def test_the_first_generation_contains_the_start_and_goes_on_from_its_mean():
    initial = jnp.array([[0.2] * SIZE, [0.6] * SIZE])
    strategy = cma_es(SPACE, POPULATION, initial, sigma=1e-3)
    state = strategy.init(jax.random.key(0))
    np.testing.assert_allclose(state.normal.mean, 0.4, rtol=1e-6)
    proposal, asked = strategy.ask(jax.random.key(1), state)
    np.testing.assert_array_equal(proposal.unit[:2], initial)
    limit = np.sqrt(SIZE) + 2 * SIZE / (SIZE + 2)  # however far away they lie
    np.testing.assert_allclose(np.linalg.norm(proposal.note.z[:2], axis=1), limit, rtol=1e-5)
    loss = sphere(proposal.unit)
    told = strategy.tell(jax.random.key(2), asked, proposal, mh.Evaluation(loss, None, ()))
    again, _ = strategy.ask(jax.random.key(3), told)
    assert not np.isin(np.asarray(initial), np.asarray(again.unit)).any()


def test_integers_keep_mutating_through_the_margin():
    space = {"n": mh.Int(0, 20, shape=(3,)), "x": mh.Float(-5.0, 5.0, shape=(3,))}

    def fn(hparams):
        # The floats tempt the search to converge before the integers have arrived.
        return 1e3 * (hparams["x"] ** 2).sum() + ((hparams["n"] - 17) ** 2).sum()

    strategy = cma_es(space, 8, initial=jnp.full((1, 6), 0.1), sigma=0.02)
    problem = mh.problems.function(fn)

    def run(key):
        return mh.search(key, problem, space, strategy, rounds=400, steps=1).best_hparams["n"]

    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 20))
    assert ((found == 17).all(axis=1)).mean() >= 0.9


def test_wrong_arguments_are_refused():
    for options, message in (
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"covariance": "diagonal"}, "covariance must be one of .* got 'diagonal'"),
        ({"factor": "svd"}, "factor must be one of .* got 'svd'"),
    ):
        with pytest.raises(ValueError, match=message):
            cma_es(SPACE, 4, **options)


@pytest.mark.parametrize(("size", "population", "least"), [(1, 4, 36), (2, 6, 38), (5, 8, 24)])
def test_losses_in_steps_do_not_end_a_search_at_once(size, population, least):
    space = {"x": mh.Float(0.0, 1.0, shape=(size,))}

    def stepped(h):  # the errors of a model on twenty examples
        return jnp.round(20 * jnp.sqrt(((h["x"] - 0.8) ** 2).sum())) / 20

    def run(key):
        result = mh.search(
            key,
            mh.problems.function(stepped),
            space,
            cma_es(space, population),
            rounds=200,
            steps=1,
            stop=mh.stopping.when(evaluations=1200),
        )
        return result.best_loss, result.rounds

    loss, rounds = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 40))
    assert (loss < 0.01).sum() >= least  # pycma 4.5.0 solves 38 of 40 in two dimensions
    assert rounds.min() > 4 and rounds.max() < 200
