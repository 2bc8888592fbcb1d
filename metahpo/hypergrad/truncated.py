"""The truncated hypergradient: reverse mode through the last steps of a training alone."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import Estimate, Estimator, HParams, Key, Problem, PyTree, State, Task
from metahpo.diagnostics import no_memory
from metahpo.hypergrad.reverse import reverse
from metahpo.hypergrad.unrolled import estimate_unrolled
from metahpo.inner import advance, keys, scalar_loss
from metahpo.recomputation import Checkpoint


class Unfinished(NamedTuple):
    """A training that the next estimate goes on with.

    Attributes:
        key: the key of the training.
        state: the training state.
        start: ``i32[]``, updates made so far.
    """

    key: Key
    state: State
    start: chex.Array


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
    on from where the last ended, judged at its own end, and a new training begins after ``steps``
    updates: as cheap as the window, for ``meta_train`` over long trainings.

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
        An Estimator, with an ``Unfinished`` training as its memory if there is no burn-in.
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
        >>> estimate, _ = estimator.estimate(jax.random.key(1), {"lr": jnp.array(0.1)}, task, ())
        >>> bool(estimate.info["finite"])
        True
    """
    window = checks.whole("window", window)
    if not burn_in and steps % window:
        raise ValueError(
            f"without burn-in the window must divide steps, got window={window} and steps={steps}"
        )
    advance(problem, steps)  # refuses wrong steps now rather than inside the trace
    if window >= steps and burn_in:
        return reverse(problem, steps, checkpoint)
    last = advance(problem, window, checkpoint)

    def differentiate(hparams: HParams, task: Task, training: Unfinished) -> Estimate:
        _, step_key, loss_key = keys(training.key)
        return estimate_unrolled(
            hparams,
            lambda h: training.state,
            lambda h, state: last(step_key, h, task, state, training.start),
            lambda h, state: scalar_loss(problem, loss_key, h, task, state),
            window,
        )

    if burn_in:
        before = advance(problem, steps - window)

        def estimate(key: Key, hparams: HParams, task: Task, _: PyTree) -> tuple[Estimate, PyTree]:
            init_key, step_key, _ = keys(key)
            state = before(step_key, hparams, task, problem.init(init_key, hparams, task), 0)
            return differentiate(hparams, task, Unfinished(key, state, steps - window)), ()

        return Estimator(no_memory, estimate)

    def begin(key: Key, hparams: HParams, task: Task) -> Unfinished:
        state = problem.init(keys(key).init, hparams, task)
        return Unfinished(key, state, jnp.zeros((), jnp.int32))

    def go_on(
        key: Key, hparams: HParams, task: Task, training: Unfinished
    ) -> tuple[Estimate, Unfinished]:
        new, over = begin(key, hparams, task), training.start >= steps
        training = jax.tree.map(lambda a, b: jnp.where(over, a, b), new, training)
        result = differentiate(hparams, task, training)
        return result, training._replace(state=result.info["state"], start=training.start + window)

    return Estimator(begin, go_on)
