"""Linear solvers for implicit differentiation: ``A x = b`` by products with A, and how well.

``make`` gives any of them one form: any scale of ``b``, damping, and the *true* relative residual,
computed again after the solve, so that a solver that does not suit A cannot fail unseen.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key
from metahpo.floats import wide
from metahpo.hypergrad import krylov
from metahpo.hypergrad.krylov import MatVec, Raw, Vector


class Solution(NamedTuple):
    """A solution ``x`` f[n] of ``A x = b``.

    Attributes:
        x: ``f[n]``.
        residual: ``f[]``, ``|A x - b| / |b|`` with A as given, hence without the damping; 0 for
            ``b = 0``.
        iterations: ``i32[]``; products with A by ``dense`` and ``nystrom``, which do not iterate.
    """

    x: Vector
    residual: jax.Array
    iterations: jax.Array


LinearSolver: TypeAlias = Callable[[Key, MatVec, Vector], Solution]


def neumann(
    key: Key,
    matvec: MatVec,
    b: Vector,
    *,
    tolerance: jax.typing.ArrayLike,
    terms: int = 500,
    scale: float | None = None,
) -> Raw:
    """Neumann's series ``a sum_k (I - a A)^k b`` (Lorraine et al. 2020, algorithm 3).

    Its residual is the next term, ``(I - a A)^terms b``: it falls only while every eigenvalue of
    ``a A`` lies within 1 of 1, and otherwise grows without bound.  ``scale=None`` takes
    ``a = 1 / |A|`` from twenty power iterations, which converges for positive definite A.
    """
    step = 1 / _largest(key, matvec, b) if scale is None else jnp.asarray(scale, b.dtype)

    def add(carry: tuple[Vector, Vector, jax.Array]) -> tuple[Vector, Vector, jax.Array]:
        total, term, count = carry
        return total + term, term - step * matvec(term), count + 1

    total, _, count = jax.lax.while_loop(
        lambda c: krylov.unsolved(jnp.linalg.norm(c[1]), tolerance, c[2], terms),
        add,
        (jnp.zeros_like(b), b, jnp.int32(0)),
    )
    return step * total, count


def _largest(key: Key, matvec: MatVec, b: Vector) -> jax.Array:
    def step(_: jax.Array, carry: tuple[Vector, jax.Array]) -> tuple[Vector, jax.Array]:
        v = matvec(carry[0])
        norm = jnp.linalg.norm(v)
        return v / jnp.where(norm > 0, norm, 1), norm

    v = jax.random.normal(key, b.shape, b.dtype)
    return jax.lax.fori_loop(0, 20, step, (v / jnp.linalg.norm(v), jnp.ones((), b.dtype)))[1]


def dense(key: Key, matvec: MatVec, b: Vector, *, tolerance: jax.typing.ArrayLike) -> Raw:
    """Forms A by ``n`` products and factorises it: for small n, and to check the others."""
    del key, tolerance
    matrix = jax.vmap(matvec)(jnp.eye(b.size, dtype=b.dtype)).T
    return jnp.linalg.solve(matrix, b), jnp.int32(b.size)


def nystrom(
    key: Key,
    matvec: MatVec,
    b: Vector,
    *,
    tolerance: jax.typing.ArrayLike,
    rank: int = 20,
    rho: float = 1e-2,
) -> Raw:
    """Nyström's low-rank inverse ``(C W^+ C' + r I)^-1 b`` of a symmetric A (Hataya & Yamada 2023).

    ``C`` are ``rank`` columns of A drawn at random and W the same rows of C; ``r`` is ``rho``
    times the largest eigenvalue, so that the scale of A is no matter.  No iterations, hence no
    instability, and a fixed price of ``rank`` products; exact up to ``rho`` only if A has at most
    that rank beside directions in which b does not point.
    """
    del tolerance
    rank = min(rank, b.size)
    columns = jax.random.choice(key, b.size, (rank,), replace=False)
    # One product after the other: side by side they would need the memory of ``rank`` of them.
    c = jax.lax.map(lambda i: matvec(jnp.zeros_like(b).at[i].set(1)), columns).T
    # Woodbury's identity divides by r^2; the same inverse in the eigenbasis of C W^+ C' does not.
    q, upper = jnp.linalg.qr(c)
    w = c[columns]
    core = upper @ jnp.linalg.pinv((w + w.T) / 2, hermitian=True) @ upper.T
    values, vectors = jnp.linalg.eigh((core + core.T) / 2)
    r = rho * jnp.max(jnp.abs(values))
    inside = q.T @ b
    outside = b - q @ inside
    outside -= q @ (q.T @ outside)  # what rounding left inside would be divided by a small r
    return q @ vectors @ (vectors.T @ inside / (values + r)) + outside / r, jnp.int32(rank)


SOLVERS: dict[str, Callable[..., Raw]] = {
    "cg": krylov.cg,
    "neumann": neumann,
    "gmres": krylov.gmres,
    "bicgstab": krylov.bicgstab,
    "normal_cg": krylov.normal_cg,
    "nystrom": nystrom,
    "dense": dense,
}
WHOLE = ("iterations", "terms", "restart", "rank")
MAY_BE_NONE = ("tolerance", "scale")


def default_tolerance(dtype: jnp.dtype) -> float:
    """``eps^(3/4)``: 1.8e-12 in double and 6.4e-6 in single precision."""
    return float(jnp.finfo(dtype).eps) ** 0.75


def make(
    solver: str, *, tolerance: float | None = None, damping: float = 0.0, **options: float | None
) -> LinearSolver:
    """A linear solver by name.

    Args:
        solver: one of ``SOLVERS``.
        tolerance: the relative residual at which iterations stop; ``default_tolerance`` if None.
        damping: solves ``(A + damping I) x = b`` instead, in the units of A.  A bias, which the
            residual shows: it is always that of A itself.
        options: ``iterations`` (cg, gmres, bicgstab, normal_cg; default 500), ``restart`` (gmres,
            30), ``terms`` and ``scale`` (neumann, 500 and 1 / |A|), ``rank`` and ``rho`` (nystrom,
            20 and 0.01).

    Returns:
        ``(key, matvec, b f[n]) -> Solution``; the key matters to ``nystrom`` and ``neumann`` alone.

    Raises:
        ValueError: for an unknown solver, an option that it does not have, or a wrong value.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> solution = make("cg")(jax.random.key(0), lambda x: 2.0 * x, jnp.array([2.0, 4.0]))
        >>> solution.x.tolist(), int(solution.iterations)
        ([1.0, 2.0], 1)
    """
    checks.one_of("solver", solver, SOLVERS)
    algorithm = SOLVERS[solver]
    _check(solver, algorithm, {"tolerance": tolerance, **options}, damping)
    options = {name: int(x) if name in WHOLE and x else x for name, x in options.items()}

    def solve(key: Key, matvec: MatVec, b: Vector) -> Solution:
        def product(v: Vector) -> Vector:
            return wide(matvec(v.astype(b.dtype)))

        # Factorisations have no half precision, and iterations lose their directions in it.
        limit = default_tolerance(b.dtype) if tolerance is None else tolerance
        size = _norm(wide(b))
        unit = wide(b) / jnp.where(size == 0, 1, size)
        x, iterations = algorithm(
            key, lambda v: product(v) + damping * v, unit, tolerance=limit, **options
        )
        residual = jnp.linalg.norm(product(x) - unit)
        return Solution((size * x).astype(b.dtype), residual.astype(b.dtype), iterations)

    return solve


def _check(
    solver: str, algorithm: Callable[..., Raw], options: dict[str, float | None], damping: float
) -> None:
    known = [
        name
        for name, parameter in inspect.signature(algorithm).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"solver {solver!r} has the options {(*known, 'damping')}, got {name}")
        if value is None and name in MAY_BE_NONE:
            continue
        if name in WHOLE:
            checks.whole(name, value)
        else:
            checks.positive(**{name: value})
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping}")


def _norm(b: Vector) -> jax.Array:
    """``|b|`` without squares that under- or overflow."""
    largest = jnp.max(jnp.abs(b))
    return largest * jnp.linalg.norm(b / jnp.where(largest == 0, 1, largest))
