"""Linear models: ridge regression, and logistic regression by Newton's method.

A population differs in the penalty alone, so the products with the data are shared: the Hessians
of all members are one matrix product with the outer products of the rows.
"""

import chex
import jax
import jax.numpy as jnp

import metahpo.space as spaces
from metahpo.automl.models.family import Data, Family, Task
from metahpo.base import HParams, Key, PyTree

STEPS = 12
"""Of Newton's method."""
CG_STEPS = 20
"""Of conjugate gradients within each, where there are more than two classes."""
_ROWS = 1024  # whose outer products are held at once
_JITTER = 1e-5  # of the mean eigenvalue: collinear columns have no single solution


def space(kind: str) -> PyTree:
    """The penalty, a row: that of scikit-learn is ``1 / (C * rows)``."""
    del kind
    return {"penalty": spaces.Float(1e-5, 10.0, log=True)}


def portfolio(kind: str) -> list[HParams]:
    """A weak penalty."""
    del kind
    return [{"penalty": 1e-2}]


def fit(key: Key, hparams: HParams, data: Data, task: Task) -> PyTree:
    """``weights f32[M, F, D + 1, outputs]``, the last row the constant's, which has no penalty."""
    del key
    method = {"binary": _binary, "multiclass": _multiclass, "regression": _ridge}[task.kind]

    def one(x: chex.Array, weight: chex.Array) -> chex.Array:
        return method(x, data.y, weight, hparams["penalty"] * weight.sum(), data.classes)

    return {"weights": jnp.swapaxes(jax.vmap(one)(data.x, data.weight), 0, 1)}


def predict(fitted: PyTree, x: chex.Array, data: Data, task: Task) -> chex.Array:
    """Logits, or numbers."""
    del task
    weights = fitted["weights"]
    out = jnp.einsum("fnd,mfdo->mfno", x, weights[:, :, :-1]) + weights[:, :, None, -1]
    return jnp.where(data.classes, out, -1e9) if out.shape[-1] > 1 else out


def operations(rows: int, columns: int, task: Task) -> float:
    """Of one member's Hessians, or products with a Hessian."""
    d = columns + 1.0
    if task.kind == "regression":
        return task.folds * (rows * d + d**2)
    if task.kind == "binary":
        return task.folds * STEPS * (2 * rows * d**2 + d**3)
    return task.folds * STEPS * CG_STEPS * 4 * rows * d * task.outputs


def _ridge(
    x: chex.Array, y: chex.Array, weight: chex.Array, penalty: chex.Array, _: chex.Array
) -> chex.Array:
    """All penalties by one decomposition."""
    total = weight.sum()
    middle, mean = weight @ x / total, weight @ y / total
    centred = x - middle
    values, vectors = jnp.linalg.eigh((centred.T * weight) @ centred)
    right = vectors.T @ (centred.T @ (weight * (y - mean)))
    shrunk = right / (jnp.maximum(values, 0.0) + penalty[:, None] + 1e-7 * values[-1])
    slopes = shrunk @ vectors.T
    return jnp.concatenate([slopes, (mean - slopes @ middle)[:, None]], axis=1)[..., None]


def _binary(
    x: chex.Array, y: chex.Array, weight: chex.Array, penalty: chex.Array, _: chex.Array
) -> chex.Array:
    """Damped Newton steps: a step that made the loss greater is taken back and tried at a quarter.

    The loss of a step is that which the next Hessian needs anyway.
    """
    x = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
    d, target = x.shape[1], y.astype(x.dtype)
    shrink = penalty[:, None] * jnp.ones(d).at[-1].set(0.0)  # f[M, D + 1]

    def loss(at: chex.Array, logits: chex.Array) -> chex.Array:
        rows = jax.nn.softplus(logits) - target * logits
        return rows @ weight + (shrink * at**2).sum(1) / 2

    def step(carry: tuple) -> tuple:
        t, _, best, lowest, move, trial = carry
        logits = trial @ x.T
        value = loss(trial, logits)
        good = (value <= lowest + 1e-6 * jnp.abs(lowest))[:, None]
        p = jax.nn.sigmoid(logits)
        gradient = ((p - target) * weight) @ x + shrink * trial
        hessian = _outer(x, p * (1 - p) * weight) + jax.vmap(jnp.diag)(shrink)
        trace = jnp.trace(hessian, axis1=1, axis2=2)[:, None, None]
        hessian += (_JITTER * trace / d + 1e-9) * jnp.eye(d)
        newton = jax.scipy.linalg.cho_solve(
            (jnp.linalg.cholesky(hessian), True), gradient[..., None]
        )[..., 0]
        best = jnp.where(good, trial, best)
        move = jnp.where(good & jnp.isfinite(newton), newton, move / 4)
        # Where a step promises less than rounding hides, all that there is has been gained.
        gain = (newton * gradient).sum(1)
        going = (~good[:, 0] | (gain > jnp.finfo(x.dtype).eps * jnp.abs(value))).any()
        return t + 1, going, best, jnp.where(good[:, 0], value, lowest), move, best - move

    zeros = jnp.zeros((len(penalty), d), x.dtype)
    start = (0, True, zeros, jnp.full(len(penalty), jnp.inf, x.dtype), zeros, zeros)
    *_, best, lowest, _, trial = jax.lax.while_loop(lambda c: (c[0] < STEPS) & c[1], step, start)
    last = (loss(trial, trial @ x.T) <= lowest)[:, None]
    return jnp.where(last, trial, best)[..., None]


def _outer(x: chex.Array, weight: chex.Array) -> chex.Array:
    """``f[M, D, D]``, sums of outer products of rows by the weights ``f[M, N]``."""
    n, d = x.shape
    size = min(n, _ROWS)

    def chunk(total: chex.Array, part: tuple) -> tuple[chex.Array, None]:
        rows, own = part
        products = (rows[:, :, None] * rows[:, None]).reshape(size, d * d)
        return total + own.T @ products, None

    parts = (x.reshape(-1, size, d), weight.T.reshape(-1, size, len(weight)))
    total, _ = jax.lax.scan(chunk, jnp.zeros((len(weight), d * d), x.dtype), parts)
    return total.reshape(-1, d, d)


def _multiclass(
    x: chex.Array, y: chex.Array, weight: chex.Array, penalty: chex.Array, classes: chex.Array
) -> chex.Array:
    """Newton's method whose steps are solved by preconditioned conjugate gradients."""
    x = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
    d, target = x.shape[1], jax.nn.one_hot(y, len(classes), dtype=x.dtype)
    kept = jnp.ones(d).at[-1].set(0.0)

    def member(penalty: chex.Array) -> chex.Array:
        shrink = (penalty * kept + 1e-7 * weight.sum())[:, None]

        def logits(at: chex.Array) -> chex.Array:
            return jnp.where(classes, x @ at, -1e9)

        def loss(at: chex.Array) -> chex.Array:
            rows = (target * jax.nn.log_softmax(logits(at))).sum(1)
            return -rows @ weight + (shrink * at**2).sum() / 2

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            best, lowest, move, trial = carry
            value = loss(trial)
            good = value <= lowest + 1e-6 * jnp.abs(lowest)
            p = jax.nn.softmax(logits(trial))
            gradient = x.T @ ((p - target) * weight[:, None]) + shrink * trial
            diagonal = (x**2).T @ (p * (1 - p) * weight[:, None]) + shrink

            def product(v: chex.Array) -> chex.Array:
                u = x @ v
                s = p * (u - (p * u).sum(1, keepdims=True))
                return x.T @ (s * weight[:, None]) + shrink * v

            newton = _conjugate(product, gradient, diagonal)
            best = jnp.where(good, trial, best)
            move = jnp.where(good, newton, move / 4)
            return (best, jnp.where(good, value, lowest), move, best - move), None

        zeros = jnp.zeros((d, len(classes)), x.dtype)
        start = (zeros, jnp.array(jnp.inf), zeros, zeros)
        (best, lowest, _, trial), _ = jax.lax.scan(step, start, length=STEPS)
        return jnp.where(loss(trial) <= lowest, trial, best)

    return jax.vmap(member)(penalty)


def _conjugate(product: object, right: chex.Array, diagonal: chex.Array) -> chex.Array:
    """Preconditioned conjugate gradients; what has converged stays."""

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        x, r, p, rz = carry
        q = product(p)  # type: ignore[operator]
        curved = (p * q).sum()
        alpha = jnp.where(curved > 0, rz / jnp.where(curved > 0, curved, 1.0), 0.0)
        x, r = x + alpha * p, r - alpha * q
        z = r / diagonal
        after = (r * z).sum()
        beta = jnp.where(rz > 0, after / jnp.where(rz > 0, rz, 1.0), 0.0)
        return (x, r, z + beta * p, after), None

    z = right / diagonal
    start = (jnp.zeros_like(right), right, z, (right * z).sum())
    (x, *_), _ = jax.lax.scan(step, start, length=CG_STEPS)
    return x


linear = Family("linear", space, portfolio, fit, predict, operations, population=8)
"""Ridge and logistic regression."""
