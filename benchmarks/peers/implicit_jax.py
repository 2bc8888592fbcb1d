"""Implicit hypergradients with JAXopt and optimistix.

The problem is that of ``benchmarks/_regression.py``.  Arrays: ``support_x``, ``support_y``,
``query_x``, ``query_y``, ``log_l2``, ``rate``, ``steps`` and ``tolerance``.  The cases
``PEER_gd_KIND`` take ``steps`` of gradient descent at ``rate``, as metahpo does there;
``PEER_own_KIND`` the peer's L-BFGS or BFGS until its own test of convergence.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jaxopt
import lineax as lx
import numpy as np
import optimistix as optx
from serve import serve


def data_loss(kind, w, x, y):
    if kind == "ridge":
        return jnp.mean((x @ w - y) ** 2) / 2
    return jnp.mean(jax.nn.softplus(-y * (x @ w)))


def inner_loss(kind, w, log_l2, x, y):
    return data_loss(kind, w, x, y) + jnp.sum(jnp.exp(log_l2) * w**2) / 2


def jaxopt_solver(method, fun, arrays):
    tolerance = float(arrays["tolerance"])
    solve = partial(jaxopt.linear_solve.solve_cg, tol=tolerance)
    if method == "own":
        return jaxopt.LBFGS(fun, tol=tolerance, maxiter=500, implicit_diff_solve=solve)
    return jaxopt.GradientDescent(
        fun,
        stepsize=float(arrays["rate"]),
        maxiter=int(arrays["steps"]),
        tol=0.0,
        acceleration=False,
        implicit_diff_solve=solve,
    )


def by_jaxopt(method, kind, arrays):
    def fun(w, log_l2, x, y):
        return inner_loss(kind, w, log_l2, x, y)

    def outer(log_l2, x, y, query_x, query_y):
        solver = jaxopt_solver(method, fun, arrays)
        w = solver.run(jnp.zeros(x.shape[1], x.dtype), log_l2, x, y).params
        return data_loss(kind, w, query_x, query_y)

    return outer


def by_optimistix(method, kind, arrays):
    tolerance = float(arrays["tolerance"])
    adjoint = optx.ImplicitAdjoint(linear_solver=lx.CG(rtol=tolerance, atol=tolerance))
    if method == "own":
        solver, steps = optx.BFGS(rtol=tolerance, atol=tolerance), 500
    else:
        solver = optx.GradientDescent(float(arrays["rate"]), rtol=0.0, atol=0.0)
        steps = int(arrays["steps"])

    def fun(w, rest):
        return inner_loss(kind, w, *rest)

    def outer(log_l2, x, y, query_x, query_y):
        found = optx.minimise(
            fun,
            solver,
            jnp.zeros(x.shape[1], x.dtype),
            (log_l2, x, y),
            adjoint=adjoint,
            max_steps=steps,
            tags=frozenset({lx.positive_semidefinite_tag}),
            throw=False,
        )
        return data_loss(kind, found.value, query_x, query_y)

    return outer


def case(make, method, kind):
    def start(arrays):
        gradient = jax.jit(jax.grad(make(method, kind, arrays)))
        names = ("log_l2", "support_x", "support_y", "query_x", "query_y")
        arguments = [jnp.asarray(arrays[name]) for name in names]
        return lambda: {"log_l2": np.asarray(gradient(*arguments))}

    return start


PEERS = {"jaxopt": by_jaxopt, "optimistix": by_optimistix}

if __name__ == "__main__":
    cases = {
        f"{peer}_{method}_{kind}": case(make, method, kind)
        for peer, make in PEERS.items()
        for method in ("gd", "own")
        for kind in ("ridge", "logistic")
    }
    serve(cases, jax.default_backend())
