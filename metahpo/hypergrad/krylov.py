"""Krylov methods for ``A x = b`` that see ``A`` only through products, with ``|b| = 1``.

Each is ``(key, matvec, b, *, tolerance, ...) -> (x f[n], iterations i32[])`` and stops once the
residual of its own recurrence is at most ``tolerance``, or when it is no longer finite.  All
stopping rules are relative and quotients of products with ``A`` are used alone, so a multiple of
``A`` takes the same iterations.  ``linear_solvers.make`` normalises ``b`` and measures the true
residual.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from metahpo.base import Key

Vector: TypeAlias = jax.Array
MatVec: TypeAlias = Callable[[Vector], Vector]
Raw: TypeAlias = tuple[Vector, jax.Array]


def cg(
    key: Key, matvec: MatVec, b: Vector, *, tolerance: jax.typing.ArrayLike, iterations: int = 500
) -> Raw:
    """Conjugate gradients for a symmetric positive definite A (Hestenes & Stiefel 1952)."""
    del key

    def step(carry: Any) -> Any:
        x, r, p, rr, count = carry
        ap = matvec(p)
        alpha = _quotient(rr, p @ ap)
        x, r = x + alpha * p, r - alpha * ap
        new = r @ r
        return x, r, r + _quotient(new, rr) * p, new, count + 1

    start = (jnp.zeros_like(b), b, b, b @ b, jnp.int32(0))
    x, _, _, _, count = jax.lax.while_loop(
        lambda c: unsolved(jnp.sqrt(c[3]), tolerance, c[4], iterations), step, start
    )
    return x, count


def normal_cg(
    key: Key, matvec: MatVec, b: Vector, *, tolerance: jax.typing.ArrayLike, iterations: int = 500
) -> Raw:
    """Conjugate gradients on ``A'A x = A'b`` for any regular A, as CGLS (Björck 1996, 7.4.1).

    Every iteration takes a product with A and one with its transpose, which comes from
    ``jax.linear_transpose``; the condition number counts squared.
    """
    del key
    transposed = jax.linear_transpose(matvec, b)
    slope = transposed(b)[0]
    # In units of |A'b| no square under- or overflows, whatever the scale of A.
    unit = jnp.linalg.norm(slope)
    unit = jnp.where(unit > 0, unit, 1)

    def step(carry: Any) -> Any:
        x, r, p, gamma, count = carry
        q = matvec(p) / unit
        alpha = _quotient(gamma, q @ q)
        x, r = x + alpha * p, r - alpha * q
        s = transposed(r)[0] / unit
        new = s @ s
        return x, r, s + _quotient(new, gamma) * p, new, count + 1

    p = slope / unit
    start = (jnp.zeros_like(b), b, p, p @ p, jnp.int32(0))
    x, _, _, _, count = jax.lax.while_loop(
        lambda c: unsolved(jnp.linalg.norm(c[1]), tolerance, c[4], iterations), step, start
    )
    return x / unit, count


def bicgstab(
    key: Key, matvec: MatVec, b: Vector, *, tolerance: jax.typing.ArrayLike, iterations: int = 500
) -> Raw:
    """BiCGSTAB for any A, two products an iteration and no memory (van der Vorst 1992).

    Where the residual has become orthogonal to its shadow, the recurrence starts again from there.
    """
    del key
    tiny = jnp.finfo(b.dtype).eps

    def step(carry: Any) -> Any:
        x, r, shadow, p, rho, count = carry
        v = matvec(p)
        alpha = _quotient(rho, shadow @ v)
        s = r - alpha * v
        t = matvec(s)
        omega = _quotient(t @ s, t @ t)
        x, r = x + alpha * p + omega * s, s - omega * t
        new = shadow @ r
        lost = jnp.abs(new) <= tiny * jnp.linalg.norm(r) * jnp.linalg.norm(shadow)
        shadow = jnp.where(lost, r, shadow)
        beta = _quotient(new, rho) * _quotient(alpha, omega)
        p = jnp.where(lost, r, r + beta * (p - omega * v))
        return x, r, shadow, p, jnp.where(lost, r @ r, new), count + 1

    start = (jnp.zeros_like(b), b, b, b, b @ b, jnp.int32(0))
    x, _, _, _, _, count = jax.lax.while_loop(
        lambda c: unsolved(jnp.linalg.norm(c[1]), tolerance, c[5], iterations), step, start
    )
    return x, count


def gmres(
    key: Key,
    matvec: MatVec,
    b: Vector,
    *,
    tolerance: jax.typing.ArrayLike,
    iterations: int = 500,
    restart: int = 30,
) -> Raw:
    """Restarted GMRES for any A (Saad & Schultz 1986).

    Keeps a basis of ``restart + 1`` vectors, in about twice that memory.  Without a restart
    (``restart >= n``) it ends within ``n`` products.
    """
    del key
    size = min(restart, b.size)

    def cycle(carry: Any) -> Any:
        x, r, norm, count = carry
        basis, hessenberg, used = _arnoldi(
            matvec, r / norm, size, tolerance / norm, iterations - count
        )
        target = jnp.zeros(size + 1, b.dtype).at[0].set(norm)
        # The columns beyond ``used`` are zero and get the coefficient zero.
        coefficients = jnp.linalg.lstsq(hessenberg, target)[0]
        x = x + coefficients @ basis[:size]
        r = b - matvec(x)
        return x, r, jnp.linalg.norm(r), count + used

    start = (jnp.zeros_like(b), b, jnp.linalg.norm(b), jnp.int32(0))
    x, _, _, count = jax.lax.while_loop(
        lambda c: unsolved(c[2], tolerance, c[3], iterations), cycle, start
    )
    return x, count


def _arnoldi(
    matvec: MatVec,
    first: Vector,
    size: int,
    tolerance: jax.typing.ArrayLike,
    budget: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Orthonormal basis ``f[size + 1, n]`` and Hessenberg matrix ``f[size + 1, size]``.

    Stops when the least-squares residual is at most ``tolerance``.  The residual lies along the
    one vector c with ``c' H = 0``; with ``c_0 = 1`` its norm is ``1 / |c|``, and c grows by one
    entry a column.
    """
    tiny = jnp.finfo(first.dtype).eps

    def step(carry: Any) -> Any:
        basis, hessenberg, null, _, j = carry
        w = matvec(basis[j])
        before = jnp.linalg.norm(w)
        column = jnp.zeros(size + 1, w.dtype)
        for _ in range(2):  # classical Gram-Schmidt, twice for orthogonality to rounding
            part = basis @ w
            w, column = w - part @ basis, column + part
        length = jnp.linalg.norm(w)
        ended = length <= tiny * before  # the space is invariant, nothing is left to add
        basis = basis.at[j + 1].set(jnp.where(ended, 0, w / jnp.where(ended, 1, length)))
        entry = -(null @ column) / jnp.where(ended, 1, length)
        null = null.at[j + 1].set(entry)
        residual = jnp.where(ended, 0, 1 / jnp.linalg.norm(null))
        column = column.at[j + 1].set(jnp.where(ended, 0, length))
        return basis, hessenberg.at[:, j].set(column), null, residual, j + 1

    basis = jnp.zeros((size + 1, first.size), first.dtype).at[0].set(first)
    hessenberg = jnp.zeros((size + 1, size), first.dtype)
    null = jnp.zeros(size + 1, first.dtype).at[0].set(1)
    start = (basis, hessenberg, null, jnp.ones((), first.dtype), jnp.int32(0))
    limit = jnp.minimum(size, budget)
    basis, hessenberg, _, _, used = jax.lax.while_loop(
        lambda c: unsolved(c[3], tolerance, c[4], limit), step, start
    )
    return basis, hessenberg, used


def unsolved(
    norm: jax.Array,
    tolerance: jax.typing.ArrayLike,
    count: jax.Array,
    iterations: jax.typing.ArrayLike,
) -> jax.Array:
    """Whether to go on: not there yet, allowed to, and nothing has overflowed."""
    return (norm > tolerance) & (count < iterations) & jnp.isfinite(norm)


def _quotient(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a / b``, and 0 where ``b = 0``: a direction that A does not see is not followed."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))
