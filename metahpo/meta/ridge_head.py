"""R2D2: ridge regression on a learned embedding, solved in closed form."""

from typing import NamedTuple, TypedDict

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Key, Params, Problem, TaskFamily
from metahpo.meta import amortised
from metahpo.problems.few_shot import Examples

FORMS = ("auto", "primal", "dual")


class RidgeParams(TypedDict):
    """What is learned: the encoder, the logarithm of l2, and what adjusts the outputs, f[]."""

    network: Params
    log_l2: chex.Array
    scale: chex.Array
    bias: chex.Array


class HeadState(NamedTuple):
    """A linear classifier or regressor: ``outputs = [embedding, 1] @ kernel + bias``.

    Attributes:
        network: the encoder's parameters.
        kernel: ``f[e + 1, d]``; the last row belongs to the constant 1.
        bias: ``f[]``, of all outputs.
    """

    network: Params
    kernel: chex.Array
    bias: chex.Array


def ridge_head(
    family: TaskFamily,
    *,
    ways: int | None = None,
    initial_l2: chex.Numeric = 1.0,
    initial_scale: chex.Numeric = 1.0,
    form: str = "auto",
) -> Problem:
    """Ridge regression of the targets on embeddings (Bertinetto et al. 2019, "R2-D2").

    ``kernel = (X'X + l2 I)^-1 X'Y`` with the support's embeddings and a column of ones for X; the
    outputs are ``scale * X kernel + bias``.  As in the authors' code the constant is penalised
    too.  Encoder, ``l2``, ``scale`` and ``bias`` are meta-learned.

    Args:
        family: its network is the encoder, ``f[n, ...] -> f[n, e]``; its criterion judges the
            outputs, which for classification are logits.
        ways: number of classes, whose one-hot labels are the targets; without it the targets are
            values ``f[n, d]``.
        initial_l2: in the Problem's ``initial``; positive.
        initial_scale: in the Problem's ``initial``.
        form: ``"primal"`` solves ``e + 1`` equations, ``"dual"`` (the Woodbury identity) as many
            as there are support examples, ``"auto"`` the fewer.

    Returns:
        A Problem of zero steps with hyperparameters ``RidgeParams``.  The encoder does not know
        ``ways``: the same hyperparameters serve any number of classes.

    Raises:
        ValueError: if ``ways`` is below 2, ``initial_l2`` not positive, ``form`` unknown or the
            family has no network or criterion; when called, for labels or values that do not fit
            and embeddings that are not ``[n, e]``.

    Example:
        >>> import jax, metahpo as mh
        >>> data = mh.problems.sinusoid(shots=5)
        >>> network = mh.networks.MLP(hidden=(16,), bias=(0.0,) * 8, scale=1.0)
        >>> family = mh.problems.few_shot(data.sample, network, mh.problems.squared_error)
        >>> problem = ridge_head(family)
        >>> adapt, predict = mh.meta.learner(problem)
        >>> def answer(key):
        ...     episode = problem.sample(key)
        ...     adapted = adapt(problem.initial(key), episode.support, key)
        ...     return predict(adapted, episode.query.x)
        >>> jax.jit(answer)(jax.random.key(0)).shape
        (100, 1)
    """
    network = amortised.encoder_of(family)
    ways = None if ways is None else amortised.check_ways(ways)
    checks.positive(initial_l2=initial_l2)
    checks.one_of("form", form, FORMS)

    def initial(key: Key, support: Examples) -> RidgeParams:
        params = network.init(key, support.x)
        x = amortised.embed(network, params, support.x)
        amortised.targets(support.y, ways, x.dtype)  # refuses those that do not fit
        log_l2 = jnp.log(jnp.asarray(initial_l2, x.dtype))
        scale = jnp.asarray(initial_scale, x.dtype)
        return {"network": params, "log_l2": log_l2, "scale": scale, "bias": jnp.zeros_like(scale)}

    def represent(hparams: RidgeParams, support: Examples) -> HeadState:
        x = with_ones(amortised.embed(network, hparams["network"], support.x))
        y = amortised.targets(support.y, ways, x.dtype)
        with jax.default_matmul_precision("highest"):
            l2 = jnp.exp(hparams["log_l2"])
            kernel = ridge_regression(x, y, l2, form, support.weight)
        return HeadState(hparams["network"], hparams["scale"] * kernel, hparams["bias"])

    def predict(state: HeadState, x: chex.Array) -> chex.Array:
        embedding = amortised.embed(network, state.network, x)
        return with_ones(embedding) @ state.kernel + state.bias

    return amortised.zero_steps(family, initial, represent, predict)


def ridge_regression(
    x: chex.Array, y: chex.Array, l2: chex.Array, form: str, weight: chex.Array | None = None
) -> chex.Array:
    """``argmin sum weight |x w - y|^2 + l2 |w|^2``, f[e, d] from f[n, e] and f[n, d]."""
    n, e = x.shape
    left, y = amortised.weighted(x, weight), amortised.weighted(y, weight)
    if form == "dual" or (form == "auto" and n < e):
        # Not by roots of the weights, which have no slope at 0; with them it is not symmetric.
        return x.T @ _solve(left @ x.T, y, l2, "pos" if weight is None else "gen")
    return _solve(left.T @ x, x.T @ y, l2, "pos")


def _solve(gram: chex.Array, right: chex.Array, l2: chex.Array, kind: str) -> chex.Array:
    ridge = l2 * jnp.eye(len(gram), dtype=gram.dtype)
    return jax.scipy.linalg.solve(gram + ridge, right, assume_a=kind)


def with_ones(x: chex.Array) -> chex.Array:
    """Appends a column of ones."""
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
