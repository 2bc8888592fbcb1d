"""Reparametrised gradients and evolution strategies, mixed by their inverse variances."""

import jax
import jax.numpy as jnp

from metahpo import floats
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import no_memory, standard_error
from metahpo.hypergrad import antithetic
from metahpo.hypergrad.antithetic import over_members
from metahpo.inner import outer_loss
from metahpo.recomputation import Checkpoint


def mixture(
    problem: Problem, steps: int, pairs: int, sigma: float, *, checkpoint: Checkpoint = "step"
) -> Estimator:
    """Two estimates of one smoothed gradient, weighted by inverse variance (Metz et al. 2019).

    Both the gradient at perturbed hyperparameters (the reparametrisation trick) and the slope of
    the losses (``es``) are, on average, the gradient of ``E loss(h + sigma e)``.  The first is
    precise while trainings are stable, and explodes where they are chaotic; the variance of the
    second does not depend on derivatives.  Every coordinate takes
    ``w g_rp + (1 - w) g_es`` with ``w = v_es / (v_rp + v_es)``, from the variances ``v`` of the two
    over the pairs (Metz et al. 2019, section 3, after Fleiss 1993).

    Where the reparametrised gradient or its variance is not finite its weight is 0, and the
    result is that of ``es``.  The losses must be finite nevertheless.

    *Bias.*  The weights come from the samples that they weight, so that where the two are skewed
    the mean of the mixture is off by order ``1 / pairs`` of one pair's standard deviation, below
    the error of order ``1 / sqrt(pairs)``: for ``x^3`` at ``x = sigma = 1``, whose gradient is 6,
    by -0.29 with 8 pairs and by -0.02 with 128.  ``standard_error`` takes the weights as given,
    but accounts for the correlation between the two, which share their noise.

    Args:
        problem: the training process, differentiable.
        steps: number of inner updates, at least 0.
        pairs: number of antithetic pairs, at least 2; the cost is ``2 pairs`` trainings with
            their gradients.
        sigma: standard deviation of the perturbation, positive, in the units of the
            hyperparameters.
        checkpoint: of the reverse mode, see ``inner.advance``.

    Returns:
        An Estimator without a memory, whose loss is the mean over all members.  ``info``, each a
        pytree like the hyperparameters: ``standard_error``, ``reparametrised_weight`` and
        ``es_weight`` (they add up to 1), ``reparametrised_variance`` and ``es_variance`` (squared
        standard errors of the two estimates); and ``grad_norm``, ``finite``, ``zero_grad``.

    Raises:
        ValueError: if ``steps`` is negative, ``pairs < 2``, ``sigma <= 0`` or ``checkpoint``
            unknown; when called, if no hyperparameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: 2.0 * h["x"])
        >>> estimator = mh.hypergrad.mixture(problem, steps=0, pairs=8, sigma=0.1)
        >>> h = {"x": jnp.array(3.0)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(0), h, None, ())
        >>> float(estimate.grad["x"]), float(estimate.info["reparametrised_weight"]["x"])
        (2.0, 1.0)
    """
    pairs = antithetic.check(pairs, sigma, least=2)
    loss = outer_loss(problem, steps, checkpoint)

    def estimate(key: Key, hparams: HParams, task: Task, memory: PyTree) -> tuple[Estimate, PyTree]:
        flat, merge, tree = floats.ravel(hparams)
        noise_key, train_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (pairs, flat.size), flat.dtype)

        def member(train_key: Key, point: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.value_and_grad(lambda x: loss(train_key, merge(x), task)[0])(point)

        points = antithetic.members(flat, noise, sigma)
        losses, grads = over_members(member, shared=1)(jax.random.split(train_key, pairs), points)
        by_grads, by_losses = grads.mean(axis=1), antithetic.slopes(noise, losses, sigma)
        variances = [standard_error(x) ** 2 for x in (by_grads, by_losses)]
        weight = _weight(*variances)
        # Where the weight is 0 the gradient may be anything, and 0 times NaN is NaN.
        mixed = jnp.where(weight > 0, weight * by_grads, 0) + (1 - weight) * by_losses
        result = antithetic.summary(losses, mixed, tree)
        names = "reparametrised_weight", "es_weight", "reparametrised_variance", "es_variance"
        values = weight, 1 - weight, *variances
        result.info.update(zip(names, map(tree, values), strict=True))
        return result, memory

    return Estimator(no_memory, estimate)


def _weight(by_grads: jax.Array, by_losses: jax.Array) -> jax.Array:
    """Of the gradients, from both variances: the inverse variances' share."""
    total = by_grads + by_losses
    share = jnp.where(total > 0, by_losses / jnp.where(total > 0, total, 1), 1)
    return jnp.where(jnp.isfinite(by_grads), share, 0)
