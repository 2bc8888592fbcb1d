"""Linear solvers: right where they apply, and honest by their residual where they do not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metahpo.hypergrad import linear_solvers
from metahpo.hypergrad.linear_solvers import make

KEY = jax.random.key(5)
N = 7
FULL = {"nystrom": {"rank": N, "rho": 1e-13}}  # exact in so small a space
EVERY = pytest.mark.parametrize("name", linear_solvers.SOLVERS)
ITERATIVE = ("cg", "neumann", "gmres", "bicgstab", "normal_cg")


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def symmetric():
    """Positive definite with a condition of about 20."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(N, N)))[0]
    return q @ np.diag(np.linspace(0.1, 2.0, N)) @ q.T


def contraction():
    """``I - J`` with a J that is not symmetric, as the fixed point of a step has it."""
    return np.eye(N) - 0.25 * np.random.default_rng(1).normal(size=(N, N))


def rotation():
    """A quarter turn in every plane, and one fixed axis."""
    matrix = np.zeros((N, N))
    matrix[:-1, :-1] = np.kron(np.eye(N // 2), [[0.0, 1.0], [-1.0, 0.0]])
    matrix[-1, -1] = 1
    return matrix


def rhs():
    return np.random.default_rng(2).normal(size=N)


def solve(name, matrix, b, **options):
    return compiled(name, **(FULL.get(name, {}) | options))(matrix, b)


@functools.cache
def compiled(name, **options):
    solver = make(name, **options)
    return jax.jit(lambda matrix, b: solver(KEY, lambda x: matrix @ x, b))


def true_residual(matrix, solution, b):
    return np.linalg.norm(matrix @ solution.x - b) / np.linalg.norm(b)


@EVERY
def test_solves_a_symmetric_system_at_any_scale_in_the_same_iterations(name):
    matrix, b = symmetric(), rhs()
    solver = make(name, **FULL.get(name, {}))
    scaled = jax.vmap(lambda c, s: solver(KEY, lambda x: c * (matrix @ x), s * b))
    # Powers of two (1e-8, 1e8; 1e-150, 1e150), so that rounding scales along.
    of_matrix, of_b = np.ldexp(1.0, [0, -27, 27]), np.ldexp(1.0, [0, -500, 500])
    result = jax.jit(scaled)(of_matrix, of_b)
    for x, c, s in zip(result.x, of_matrix, of_b, strict=True):
        np.testing.assert_allclose(x * c / s, np.linalg.solve(matrix, b), rtol=1e-9)
    assert np.all(result.residual < 1e-11)
    assert np.ptp(result.iterations) == 0


@pytest.mark.parametrize("name", ["gmres", "bicgstab", "normal_cg", "dense", "neumann"])
def test_solves_a_system_that_is_not_symmetric(name):
    matrix, b = contraction(), rhs()
    solution = solve(name, matrix, b, **({"scale": 1.0} if name == "neumann" else {}))
    np.testing.assert_allclose(solution.x, np.linalg.solve(matrix, b), rtol=1e-10)


@EVERY
@pytest.mark.parametrize("c", [1e-8, 3.0, 1e8])
def test_a_multiple_of_the_identity_takes_one_iteration_and_not_none(name, c):
    b = rhs()
    solution = solve(name, c * jnp.eye(N), b)
    np.testing.assert_allclose(solution.x, b / c, rtol=1e-12)
    assert solution.iterations == (N if name in ("dense", "nystrom") else 1)


@pytest.mark.parametrize(
    ("name", "matrix", "options"),
    [
        ("cg", contraction(), {}),
        ("nystrom", contraction(), {}),
        ("nystrom", symmetric(), {"rank": 3}),
        ("neumann", symmetric(), {"terms": 5}),
        ("neumann", symmetric(), {"scale": 1.5}),
        ("neumann", -symmetric(), {}),
        ("gmres", symmetric(), {"restart": 2, "iterations": 4}),
    ],
    ids=["cg", "nystrom", "rank", "few", "diverging", "negative", "short"],
)
def test_an_unfit_solver_shows_in_the_true_residual(name, matrix, options):
    b = rhs()
    solution = solve(name, matrix, b, **options)
    np.testing.assert_allclose(solution.residual, true_residual(matrix, solution, b), rtol=1e-6)
    assert solution.residual > 1e-3


def test_a_recurrence_that_breaks_down_says_that_nothing_was_solved():
    stuck = solve("bicgstab", rotation(), np.eye(N)[0])  # b' A b = 0 and (A b)' A A b = 0
    assert np.all(np.asarray(stuck.x) == 0) and stuck.residual == 1


def test_the_series_is_the_sum_of_its_terms_and_grows_where_it_diverges():
    assert solve("neumann", symmetric(), rhs(), scale=1.5).residual > 1e6
    few = solve("neumann", symmetric(), rhs(), scale=0.4, terms=9)
    expected = sum(
        0.4 * np.linalg.matrix_power(np.eye(N) - 0.4 * symmetric(), k) @ rhs() for k in range(9)
    )
    np.testing.assert_allclose(few.x, expected, rtol=1e-12)
    assert few.iterations == 9


@pytest.mark.parametrize("name", ["cg", "gmres", "bicgstab", "normal_cg", "neumann"])
def test_tolerance_and_iterations_bound_the_work(name):
    loose = solve(name, symmetric(), rhs(), tolerance=0.5)
    tight = solve(name, symmetric(), rhs())
    assert loose.residual <= 0.5 and tight.residual < 1e-11
    assert 0 < loose.iterations < tight.iterations
    bound = "terms" if name == "neumann" else "iterations"
    assert solve(name, symmetric(), rhs(), **{bound: 2}).iterations == 2


@EVERY
def test_nothing_on_the_right_gives_exactly_nothing(name):
    solution = solve(name, symmetric(), np.zeros(N))
    assert np.all(np.asarray(solution.x) == 0) and solution.residual == 0
    assert solution.iterations == 0 or name in ("dense", "nystrom")


@EVERY
def test_what_is_not_finite_stays_visible(name):
    solution = solve(name, symmetric(), np.where(np.arange(N) == 2, np.nan, rhs()))
    assert not np.isfinite(solution.residual)


@EVERY
def test_damping_is_added_and_counts_as_residual(name):
    matrix, b = symmetric(), rhs()
    solution = solve(name, matrix, b, damping=0.3)
    np.testing.assert_allclose(solution.x, np.linalg.solve(matrix + 0.3 * np.eye(N), b), rtol=1e-9)
    np.testing.assert_allclose(solution.residual, true_residual(matrix, solution, b), rtol=1e-9)
    assert solution.residual > 0.1


@EVERY
def test_single_precision_stays_single(name):
    options = {"rho": 1e-6} if name == "nystrom" else {}
    solution = solve(name, jnp.float32(symmetric()), jnp.float32(rhs()), **options)
    assert solution.x.dtype == solution.residual.dtype == jnp.float32
    assert solution.residual < 1e-4


def test_gmres_needs_no_definiteness_and_restarts():
    b = rhs()
    turned = solve("gmres", rotation(), b)  # three different eigenvalues, hence three products
    np.testing.assert_allclose(turned.x, rotation().T @ b, rtol=1e-12)
    assert turned.iterations == 3
    whole, restarted = solve("gmres", contraction(), b), solve("gmres", contraction(), b, restart=4)
    assert whole.iterations == N < restarted.iterations
    np.testing.assert_allclose(restarted.x, whole.x, rtol=1e-10)


def test_nystrom_inverts_a_low_rank_with_its_regulariser_relative_to_the_scale():
    factor = np.random.default_rng(3).normal(size=(40, 4))
    matrix = factor @ factor.T
    b, rho = np.random.default_rng(4).normal(size=40), 0.05
    for scale in (1.0, 1e-6):
        solution = solve("nystrom", scale * matrix, b, rank=6, rho=rho)
        regulariser = rho * np.linalg.norm(matrix, 2)
        expected = np.linalg.solve(matrix + regulariser * np.eye(40), b) / scale
        np.testing.assert_allclose(solution.x, expected, rtol=1e-8)
        assert solution.iterations == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (functools.partial(make, "lu"), r"solver must be one of \('cg', .*got 'lu'"),
        (functools.partial(make, "cg", restart=3), "solver 'cg' has the options .* got restart"),
        (functools.partial(make, "cg", iterations=0), "iterations must be a whole .* got 0"),
        (functools.partial(make, "gmres", restart=1.5), "restart must be a whole .* got 1.5"),
        (functools.partial(make, "neumann", terms=-1), "terms must be a whole .* got -1"),
        (functools.partial(make, "neumann", scale=-1.0), "scale must be positive, got -1.0"),
        (functools.partial(make, "nystrom", rho=None), "rho must be a number, got None"),
        (functools.partial(make, "dense", tolerance=0.0), "tolerance must be positive, got 0.0"),
        (functools.partial(make, "cg", damping=-0.1), "damping must be at least 0, got -0.1"),
        (functools.partial(make, "cg", damping=float("nan")), "damping must be at least 0"),
    ],
)
def test_refuses_bad_options_with_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
