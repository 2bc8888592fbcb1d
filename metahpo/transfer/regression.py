"""Learning the map from tasks to hyperparameters by regression on the best ones found."""

import chex
import jax
import jax.numpy as jnp
import optax

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import Key, PyTree
from metahpo.space import Choice
from metahpo.transfer.network import Mapping, ensemble_init


def fit(
    key: Key,
    network: Mapping,
    descriptors: chex.Array,
    units: chex.Array,
    members: int = 8,
    steps: int = 500,
    learning_rate: float = 0.01,
    weight_decay: float = 1.0,
) -> PyTree:
    """Fits an ensemble to the best points found for ``N`` tasks.

    Every member sees its own bootstrap resample of the tasks (bagging, Breiman 1996) and keeps the
    weights that were best on the tasks left out of it, about N / e, so that few and noisy
    examples are not learned by heart.  Float and Int dimensions are fitted by squared error in the
    unit cube, a Choice by the cross-entropy of its values, so that it learns how often each value
    was best.

    Args:
        key: the source of the weights and of the resamples.
        network: the network.
        descriptors: ``f[N, F]``.
        units: ``f[N, D]``, the best points of the unit cube.
        members: networks in the ensemble.
        steps: AdamW updates on the full batch.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on the kernels of what learns.

    Returns:
        The ensemble's weights, leading axis ``[members]``, for ``predict``.

    Raises:
        ValueError: if the shapes do not match, for no tasks, no members or no steps.

    Example:
        >>> import metahpo as mh
        >>> space = {"lr": mh.Float(1e-4, 1.0, log=True)}
        >>> descriptors = jnp.linspace(-1.0, 1.0, 30)[:, None]
        >>> network = mh.transfer.network(space, {"lr": 0.01}, jnp.zeros(1), jnp.ones(1))
        >>> learn = jax.jit(lambda key, units: fit(key, network, descriptors, units))
        >>> weights = learn(jax.random.key(0), 0.5 + 0.3 * descriptors)
        >>> predict = jax.jit(lambda x: mh.transfer.predict(network, weights, x))
        >>> mean, std = predict(jnp.array([0.5]))
        >>> round(float(mean[0]), 1)  # 0.65
        0.7
    """
    descriptors, units = jnp.asarray(descriptors), jnp.asarray(units)
    _check(descriptors, units, len(network.learned), steps)
    init_key, bag_key = jax.random.split(key)
    weights = ensemble_init(init_key, network, members)
    optimizer = optax.adamw(learning_rate, weight_decay=weight_decay, mask=_decayed)

    def errors(weights: PyTree) -> chex.Array:
        return jax.vmap(lambda d, u: _error(network, weights, d, u))(descriptors, units)

    def train(key: Key, weights: PyTree) -> PyTree:
        counts, left_out = _bootstrap(key, descriptors)

        def step(carry: PyTree, _: None) -> tuple[PyTree, None]:
            weights, state, best, best_error = carry
            each, pull = jax.vjp(errors, weights)
            error = (each * left_out).sum() / left_out.sum()
            better = error < best_error
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), weights, best)
            updates, state = optimizer.update(pull(counts / counts.sum())[0], state, weights)
            weights = optax.apply_updates(weights, updates)
            return (weights, state, best, jnp.where(better, error, best_error)), None

        worst = jnp.asarray(jnp.inf, jax.eval_shape(errors, weights).dtype)
        start = (weights, optimizer.init(weights), weights, worst)
        return jax.lax.scan(step, start, length=steps)[0][2]

    return jax.vmap(train)(jax.random.split(bag_key, members), weights)


def _decayed(weights: PyTree) -> PyTree:
    """Which weights decay: not the biases, which hold the default, and not the prior."""
    kernels = jax.tree.map(lambda w: w.ndim > 1, weights)
    return {**kernels, "prior": jax.tree.map(lambda w: False, weights["prior"])}


def _bootstrap(key: Key, descriptors: chex.Array) -> tuple[chex.Array, chex.Array]:
    """How often each task is drawn, f[N], and which are not; all count where none is left out."""
    number = len(descriptors)
    drawn = jax.random.randint(key, (number,), 0, number)
    counts = jnp.zeros(number, descriptors.dtype).at[drawn].add(1.0)
    left_out = (counts == 0.0).astype(counts.dtype)
    return counts, jnp.where(left_out.any(), left_out, jnp.ones_like(left_out))


def _error(
    network: Mapping, weights: PyTree, descriptor: chex.Array, unit: chex.Array
) -> chex.Array:
    """The error of one member on one task, summed over the learned dimensions."""
    dims = spaces.dimensions(network.space).values()
    terms = []
    for scores, target, dim, learned in zip(
        network.scores(weights, descriptor), unit, dims, network.learned, strict=True
    ):
        if not learned:
            continue
        if isinstance(dim, Choice):
            entropy = optax.softmax_cross_entropy_with_integer_labels(scores, dim.decode(target))
            # As a squared error in units of the cube: the scale of the other terms.
            terms.append(entropy / 12.0)
        else:
            terms.append(jnp.square(jax.nn.sigmoid(scores) - target))
    return sum(terms[1:], start=terms[0])


def _check(descriptors: chex.Array, units: chex.Array, size: int, steps: int) -> None:
    if descriptors.ndim != 2 or units.shape != (len(descriptors), size) or not len(descriptors):
        raise ValueError(
            f"descriptors must be [N, F] and units [N, {size}] with N > 0, "
            f"got shapes {descriptors.shape} and {units.shape}"
        )
    steps = checks.whole("steps", steps)
