"""The cases of ``benchmarks.hypergrad`` that differentiate where training ends."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metahpo as mh
from benchmarks import _peers, _regression
from benchmarks._regression import DESCENT, QUASI_NEWTON, Inner
from benchmarks._variants import Case, Effort, Variant, measure
from benchmarks.common import Row
from metahpo.base import HParams

TOLERANCE = 1e-6
PEERS = {
    DESCENT: [
        ("torchopt", "implicit_torch", "torchopt_gd"),
        ("jaxopt", "implicit_jax", "jaxopt_gd"),
        ("optimistix", "implicit_jax", "optimistix_gd"),
    ],
    QUASI_NEWTON: [
        ("jaxopt L-BFGS", "implicit_jax", "jaxopt_own"),
        ("optimistix BFGS", "implicit_jax", "optimistix_own"),
    ],
}


def regression(
    kind: str, inner: Inner, examples: int, features: int, effort: Effort
) -> Iterator[Row]:
    """One of them."""
    arrays = _regression.arrays(kind, examples, features)
    task = {name: jnp.asarray(value) for name, value in _peers.single(arrays).items()}
    arguments = {"log_l2": task.pop("log_l2")}, task
    problem = _regression.problem(kind, inner)
    train = mh.inner.unroll(problem, inner.steps)
    estimator = mh.hypergrad.implicit(
        problem,
        inner.steps,
        "cg",
        inner_loss=_regression.inner_loss(kind),
        params=lambda state: state.params,
        tolerance=TOLERANCE,
    )

    def ours(hparams: HParams, task: Any) -> HParams:
        return estimator.estimate(jax.random.key(0), hparams, task, ())[0].grad

    def with_info(hparams: HParams, task: Any) -> Any:
        estimate, _ = estimator.estimate(jax.random.key(0), hparams, task, ())
        return {**estimate.grad, "info": estimate.info}

    case = Case(
        f"hypergrad/{kind}, {inner.name}",
        Variant("training alone", lambda h, task: train(jax.random.key(0), h, task), arguments),
        [
            Variant("plain JAX", by_hand(kind, inner), arguments, rival=True),
            Variant("metahpo cg", ours, arguments),
            Variant("metahpo cg, with info", with_info, arguments),
        ],
        "metahpo cg",
        {"log_l2": _regression.truth(kind, arrays)},
        4 * features,
        count=False,
    )
    shared = {
        "rate": np.float32(_regression.RATE),
        "steps": np.array(inner.steps),
        "tolerance": np.float32(TOLERANCE),
    }
    cases = [(name, script, f"{case}_{kind}") for name, script, case in PEERS[inner]]
    with _peers.started(cases, {**_peers.single(arrays), **shared}) as peers:
        yield from measure(case, peers, effort)


def by_hand(kind: str, inner: Inner) -> Any:
    """What a JAX user writes without a library: train, solve, one vector-Jacobian product."""
    loss = _regression.inner_loss(kind)
    problem = _regression.problem(kind, inner)

    def grad(hparams: HParams, task: Any) -> HParams:
        state = problem.init(None, hparams, task)
        step = lambda state, _: (problem.step(None, hparams, task, state), None)  # noqa: E731
        w = jax.lax.scan(step, state, length=inner.steps)[0].params
        slope = lambda h, w: jax.grad(loss, argnums=2)(h, task, w)  # noqa: E731
        outer = jax.grad(_regression.data_loss, argnums=1)(
            kind, w, task["query_x"], task["query_y"]
        )
        product = lambda v: jax.jvp(lambda w: slope(hparams, w), (w,), (v,))[1]  # noqa: E731
        u, _ = jax.scipy.sparse.linalg.cg(product, outer, tol=TOLERANCE)
        return jax.tree.map(jnp.negative, jax.vjp(lambda h: slope(h, w), hparams)[1](u)[0])

    return grad
