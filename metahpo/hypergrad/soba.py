"""SOBA: stochastic bilevel optimisation in a single loop."""

from collections.abc import Callable

from metahpo.base import Estimate, Estimator, HParams, Key, Params, Problem, State, Task
from metahpo.hypergrad.single_loop import BatchLoss, Memory, Rates, draw, single_loop


def soba(
    problem: Problem,
    inner_loss: BatchLoss,
    batches: int,
    inner_rate: float,
    solver_rate: float | None = None,
    *,
    params: Callable[[State], Params] | None = None,
) -> Estimator:
    """One SGD step on everything at once (Dagreou et al. 2022, section 2.1).

    An estimate draws a batch of the inner loss, returns the direction ``D_x`` for the
    hyperparameters, and moves the inner parameters z and the solution v of the linear system by a
    step each.  No training, no solve: it costs one gradient, one Hessian product and one outer
    gradient, and the ``steps`` of other estimators are replaced by as many estimates.  It is
    unbiased for the direction at the present (z, v), which is the hypergradient once these have
    caught up; until then, and if the hyperparameters move faster than these, it is biased.

    The hyperparameters should move slower than z and v: the outer rate times the outer curvature
    well below ``inner_rate`` times the smallest inner curvature.  With constant rates the
    direction stays in a ball of noise whose size goes with the rates; let them decay, take
    ``saba``, or one batch.  z and v stay with the task that they began with.

    Hyperparameters that do not enter ``inner_loss`` or the outer loss (rates of training, initial
    parameters) get zero, see ``info["zero_grad"]``.

    Args:
        problem: gives the first z (``init``) and the outer loss (``loss``, which sees ``init``'s
            state with z in place); its ``step`` is not used.
        inner_loss: ``(hparams, task, params, index) -> f[]``, the loss of batch ``index`` i32[];
            their mean is minimised, and should be strongly convex in ``params`` near z.  Of
            ``links.unconstrained`` and other problems made of one it is that one's.
        batches: number of batches, at least 1.
        inner_rate: step size of z, positive, below ``2 / L`` for the largest curvature ``L``.
        solver_rate: step size of v, positive; ``inner_rate`` by default.
        params: ``(state) -> params``, which part of the state ``inner_loss`` sees; by default
            ``state.params`` where there is such an attribute, else the state.

    Returns:
        An Estimator whose memory is a ``single_loop.Memory``.  ``info``: ``state`` (with z),
        ``stationarity`` f[] (norm of the batch's inner gradient), ``residual`` f[] (of the linear
        system on that batch, relative to the outer gradient), ``grad_norm``, ``finite``,
        ``zero_grad``.

    Raises:
        ValueError: if ``batches < 1`` or a rate is not positive; when called, if no hyperparameter
            or no parameter is a float.

    Example:
        >>> import jax, jax.numpy as jnp, metahpo as mh
        >>> problem = mh.problems.function(lambda h: 0.0)._replace(  # z = h, loss (z - 1)^2 / 2
        ...     init=lambda key, h, task: jnp.zeros(()),
        ...     loss=lambda key, h, task, z: (z - 1.0) ** 2 / 2,
        ... )
        >>> inner = lambda h, task, z, index: (z - h) ** 2 / 2
        >>> estimator = mh.hypergrad.soba(problem, inner, batches=1, inner_rate=0.5)
        >>> estimate = jax.jit(estimator.estimate)
        >>> key, h = jax.random.key(0), jnp.array(3.0)
        >>> memory = estimator.init(key, h, None)
        >>> for _ in range(60):
        ...     found, memory = estimate(key, h, None, memory)
        >>> round(float(found.grad), 6)  # h - 1
        2.0
    """
    rates = Rates(inner_rate, inner_rate if solver_rate is None else solver_rate)
    loop = single_loop(problem, inner_loss, batches, rates, params)

    def estimate(key: Key, hparams: HParams, task: Task, memory: Memory) -> tuple[Estimate, Memory]:
        del task  # z and v stay with the one that they began with
        terms = loop.terms(hparams, memory, draw(key, batches))
        return loop.move(key, hparams, memory, terms)

    return Estimator(loop.begin, estimate, problem=problem)
