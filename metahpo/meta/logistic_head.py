"""LR-D2: logistic regression on a learned embedding, solved by a few Newton steps."""

from typing import TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Params, Problem, TaskFamily
from metahpo.meta import amortised
from metahpo.meta.ridge_head import HeadState, with_ones
from metahpo.problems.few_shot import Examples


class LogisticParams(TypedDict):
    """What is learned: the encoder and the logarithm of l2, f[]."""

    network: Params
    log_l2: chex.Array


def logistic_head(
    family: TaskFamily, *, ways: int, initial_l2: chex.Numeric = 1.0, iterations: int = 5
) -> Problem:
    """One-against-all logistic regression on embeddings (Bertinetto et al. 2019, "LR-D2").

    Each class has the binary problem ``min sum log(1 + exp(-s x w)) + l2 |w|^2 / 2`` with signs s
    of the labels and a column of ones in x, which is penalised too.  Newton's method starts from
    zero, which is iteratively reweighted least squares, and its ``iterations`` steps are
    differentiated as they are: the gradient is that of the prediction made, converged or not.
    Steps are not damped: with more examples than dimensions and ``l2`` a million times below the
    embeddings' squared norms they may go astray.

    Args:
        family: its network is the encoder, ``f[n, ...] -> f[n, e]``; its criterion judges the
            ``ways`` scores as logits.
        ways: number of classes.
        initial_l2: in the Problem's ``initial``; positive.
        iterations: Newton steps, at least 1.

    Returns:
        A Problem of zero steps with hyperparameters ``LogisticParams``, which serve any number of
        classes.

    Raises:
        ValueError: if ``ways`` is below 2, ``iterations`` below 1, ``initial_l2`` not positive or
            the family has no network or criterion; when called, for labels that do not fit and
            embeddings that are not ``[n, e]``.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> def sample(key):
        ...     y = jnp.arange(6) % 3
        ...     x = jax.nn.one_hot(y, 3) + 0.1 * jax.random.normal(key, (6, 3))
        ...     return mh.problems.Episode(*[mh.problems.Examples(x, y)] * 2)
        >>> network = mh.networks.MLP(hidden=(), bias=(0.0,) * 4, scale=1.0)
        >>> family = mh.problems.few_shot(sample, network, mh.problems.cross_entropy)
        >>> problem = logistic_head(family, ways=3)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> support, query = jax.jit(sample)(jax.random.key(0))
        >>> hparams = jax.jit(problem.initial)(jax.random.key(1))
        >>> adapted = jax.jit(adapt)(hparams, support, jax.random.key(2))
        >>> jax.jit(predict)(adapted, query.x).argmax(axis=1).tolist()
        [0, 1, 2, 0, 1, 2]
    """
    network = amortised.encoder_of(family)
    ways = amortised.check_ways(ways)
    checks.positive(initial_l2=initial_l2)
    iterations = checks.whole("iterations", iterations)

    def initial(key: Key, support: Examples) -> LogisticParams:
        params = network.init(key, support.x)
        x = amortised.embed(network, params, support.x)
        amortised.check_labels(support.y, ways)
        return {"network": params, "log_l2": jnp.log(jnp.asarray(initial_l2, x.dtype))}

    def represent(hparams: LogisticParams, support: Examples) -> HeadState:
        x = with_ones(amortised.embed(network, hparams["network"], support.x))
        y = amortised.one_hot(support.y, ways, x.dtype)
        with jax.default_matmul_precision("highest"):
            l2 = jnp.exp(hparams["log_l2"])
            kernel = logistic_regression(x, y, l2, iterations, support.weight)
        return HeadState(hparams["network"], kernel, jnp.zeros((), x.dtype))

    def predict(state: HeadState, x: chex.Array) -> chex.Array:
        return with_ones(amortised.embed(network, state.network, x)) @ state.kernel

    return amortised.zero_steps(family, initial, represent, predict)


def logistic_regression(
    x: chex.Array,
    y: chex.Array,
    l2: chex.Array,
    iterations: int,
    weight: chex.Array | None = None,
) -> chex.Array:
    """Newton's iterates f[e, k] from f[n, e] for the binary targets in the columns of f[n, k]."""
    n, e = x.shape
    forward, back = (x @ x.T, jnp.eye(n, dtype=x.dtype)) if n < e else (x, x.T)
    if weight is not None:
        back = back * jnp.asarray(weight).astype(x.dtype)
    solution = _newton(forward, back, y, l2, iterations)
    return x.T @ solution if n < e else solution


def _newton(
    forward: chex.Array, back: chex.Array, y: chex.Array, l2: chex.Array, iterations: int
) -> chex.Array:
    """Solves ``back @ (sigmoid(forward @ v) - y) + l2 v = 0``, f[p, k], from zero.

    ``forward, back = x, x'`` gives the weights.  ``forward, back = x x', I`` gives the
    coefficients a of weights ``x' a`` (the Woodbury form): no division by the curvatures s, which
    vanish for examples that are far on the right side.
    """
    p = forward.shape[1]

    def one(v: chex.Array, y: chex.Array) -> chex.Array:
        mean = jax.nn.sigmoid(forward @ v)
        s = mean * (1 - mean)
        hessian = back @ (s[:, None] * forward)
        gradient = back @ (mean - y) + l2 * v
        return v - jnp.linalg.solve(hessian + l2 * jnp.eye(p, dtype=v.dtype), gradient)

    def step(v: chex.Array, nothing: None) -> tuple[chex.Array, None]:
        return jax.vmap(one, in_axes=1, out_axes=1)(v, y), nothing

    start = jnp.zeros((p, y.shape[1]), forward.dtype)
    return jax.lax.scan(step, start, None, length=iterations)[0]
