"""What the estimators that differentiate an unrolled training share."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import Estimate, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import gradient_info, scaled_norm
from metahpo.inner import Training, advance, begin, judge
from metahpo.recomputation import Checkpoint

EXPLODING = 1e3
"""A gradient that grew more than this many times through a training is called exploding."""


def begun(
    problem: Problem,
    key: Key,
    leaves: floats.Floats,
    merge: Callable[[floats.Floats], HParams],
    task: Task,
) -> tuple[Training, Callable[[floats.Floats], floats.Floats]]:
    """A new training, and the pull-back of its state's floats to those of the hyperparameters."""

    def start(leaves: floats.Floats) -> tuple[floats.Floats, Training]:
        training = begin(problem, key, merge(leaves), task)
        return floats.parts(training.state)[0], training

    _, pull, training = jax.vjp(start, leaves, has_aux=True)
    return training, lambda cotangents: pull(cotangents)[0]


def estimate_unrolled(
    problem: Problem,
    hparams: HParams,
    start: Callable[[HParams], Training],
    steps: int,
    checkpoint: Checkpoint,
) -> tuple[Estimate, Training]:
    """The gradient of the loss ``steps`` updates after ``start(h)``, and how it grew on the way.

    Zeros that are added to the state before and after training have the state's gradient there,
    which reverse mode computes anyway.

    Returns:
        The estimate, and the training that it ends with.
    """
    train = advance(problem, steps, checkpoint)
    leaves, merge = floats.split(hparams)
    shapes = jax.eval_shape(lambda hparams: floats.parts(start(hparams).state)[0], hparams)
    zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes]

    def run(
        leaves: floats.Floats, before: floats.Floats, after: floats.Floats
    ) -> tuple[chex.Array, Training]:
        hparams = merge(leaves)
        training = _shifted(train(hparams, _shifted(start(hparams), before)), after)
        return judge(problem, hparams, training), training

    everything = jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True)
    (value, training), (grads, first, last) = everything(leaves, zeros, zeros)
    grad = floats.gradient_tree(hparams, grads)
    info = {"state": training.state, **gradient_info(value, grad)}
    first = _comparable(first, last, steps)
    before, after = log_norm(last), log_norm(first)
    growth = jnp.where(before == after, 0.0, after - before)  # 0 for 0 / 0
    info |= explosion_info(growth, steps, info["finite"])
    return Estimate(value, grad, info), training


def _comparable(first: floats.Floats, last: floats.Floats, steps: int) -> floats.Floats:
    """Without parts of the state that the loss does not read: Adam's moments have other units.

    A loss that is summed up on the way reads nothing but the sum, whose derivative never changes:
    then all parts are left.  (After one step alone a plain parameter's need not have changed.)
    """
    read = [jnp.any(leaf != 0) for leaf in last]
    changed = [jnp.any(a != b) for a, b in zip(first, last, strict=True)]
    sums_alone = ~jnp.any(jnp.array([a & b for a, b in zip(read, changed, strict=True)]))
    sums_alone &= steps > 1
    return [jnp.where(one | sums_alone, leaf, 0) for one, leaf in zip(read, first, strict=True)]


def explosion_info(growth: chex.Array, steps: int, finite: chex.Array) -> dict[str, PyTree]:
    """``explosion_exponent`` f[] and ``exploding`` bool[] from the logarithm f[] of the growth.

    The exponent is the growth per step: a Lyapunov exponent of the training at finite time (Metz
    et al. 2021, section 3); infinite if the hypergradient is not finite.
    """
    growth = jnp.where(finite, growth, jnp.inf)
    return jax.lax.stop_gradient(
        {
            "explosion_exponent": growth / max(steps, 1),
            "exploding": growth > jnp.log(EXPLODING),
        }
    )


def log_norm(leaves: floats.Floats) -> chex.Array:
    """Logarithm f[] of the norm of what is a number.

    Where the hypergradient is finite and this is not, the state has a part without a derivative
    that nothing depends on, such as the root of a second moment that stays zero.
    """
    scale, norm = scaled_norm([jnp.where(jnp.isnan(leaf), 0, leaf) for leaf in leaves])
    return jnp.log(norm) + jnp.log(scale)


def _shifted(training: Training, shifts: floats.Floats) -> Training:
    leaves, merge = floats.parts(training.state)
    state = merge([leaf + shift for leaf, shift in zip(leaves, shifts, strict=True)])
    return training._replace(state=state)
