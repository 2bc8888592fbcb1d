"""The truncated hypergradient: reverse mode through the last steps of a training alone."""

import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, Task
from metahpo.diagnostics import no_memory
from metahpo.hypergrad.reverse import reverse
from metahpo.hypergrad.unrolled import estimate_unrolled
from metahpo.inner import Training, advance, begin
from metahpo.recomputation import Checkpoint


def truncated(
    problem: Problem,
    steps: int,
    window: int,
    checkpoint: Checkpoint = "step",
    burn_in: bool = True,
) -> Estimator:
    """Backpropagation through a window of ``steps`` inner updates (Shaban et al. 2019).

    With burn-in the window is the end of a whole training: the steps before are run forward only,
    and the state after them counts as a constant.  Without, every estimate is one window that goes
    on from where the last ended, judged at its own end, and after ``steps`` updates a new training
    begins, on the task that is offered then: as cheap as the window, for ``meta_train`` over long
    trainings.

    Memory and backward time are those of the window.  The estimate is *biased*: it misses what a
    hyperparameter did before the window, and where that is not forgotten within the window it can
    be far off and even point the wrong way (Vicol et al. 2021, section 5.1); the initial state has
    no gradient at all.  Where training contracts, the bias decays exponentially with the window,
    and ``explosion_exponent`` is how fast.

    Args:
        problem: the training process.
        steps: number of inner updates, at least 0.
        window: how many updates to differentiate, at least 1; from ``steps`` on this is
            ``reverse`` when there is a burn-in.
        checkpoint: as in ``inner.unroll``, within the window.
        burn_in: whether the steps before the window are run in every estimate.

    Returns:
        An Estimator, whose memory is an ``inner.Training`` if there is no burn-in.
        ``info``: that of ``reverse``, for the window.

    Raises:
        ValueError: if ``steps`` is negative, ``window < 1``, ``checkpoint`` unknown, or ``window``
            does not divide ``steps`` though there is no burn-in; when called, if no hyperparameter
            is a float.

    Example:
        >>> import jax, jax.numpy as jnp, optax, metahpo as mh
        >>> family = mh.problems.quadratics(kappa=10.0)
        >>> problem = mh.problems.training(family, lambda h: optax.sgd(h["lr"]))
        >>> estimator = mh.hypergrad.truncated(problem, steps=50, window=5)
        >>> task = problem.sample(jax.random.key(0))
        >>> h = {"lr": jnp.array(0.1)}
        >>> estimate, _ = jax.jit(estimator.estimate)(jax.random.key(1), h, task, ())
        >>> bool(estimate.info["finite"])
        True
    """
    window = checks.whole("window", window)
    advance(problem, steps)  # refuses wrong steps now rather than inside the trace
    if not burn_in and steps % window:
        raise ValueError(
            f"without burn-in the window must divide steps, got window={window} and steps={steps}"
        )
    if window >= steps and burn_in:
        return reverse(problem, steps, checkpoint)

    def differentiate(hparams: HParams, training: Training) -> tuple[Estimate, Training]:
        return estimate_unrolled(problem, hparams, lambda h: training, window, checkpoint)

    if burn_in:
        before = advance(problem, steps - window)

        def estimate(key: Key, hparams: HParams, task: Task, _: PyTree) -> tuple[Estimate, PyTree]:
            training = before(hparams, begin(problem, key, hparams, task))
            return differentiate(hparams, training)[0], ()

        return Estimator(no_memory, estimate, problem=problem)

    def start(key: Key, hparams: HParams, task: Task) -> Training:
        return begin(problem, key, hparams, task)

    def go_on(
        key: Key, hparams: HParams, task: Task, training: Training
    ) -> tuple[Estimate, Training]:
        over = training.steps >= steps
        new = start(key, hparams, task)
        training = jax.tree.map(lambda a, b: jnp.where(over, a, b), new, training)
        return differentiate(hparams, training)

    return Estimator(start, go_on, problem=problem)
