"""A problem whose outer loss is noisy, made less so by doing it several times."""

from collections.abc import Callable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Params, Problem, State, Task
from metahpo.inner import check_problem


def averaged(
    problem: Problem,
    repeats: int,
    *,
    over: Literal["trainings", "losses"] = "trainings",
    statistic: Literal["mean", "median"] = "mean",
) -> Problem:
    """The same hyperparameters on the same task, with ``repeats`` independent keys.

    A strategy that ranks by noisy losses keeps members that were merely lucky.  The standard
    deviation of a mean falls with the square root of ``repeats``, and the cost of a training grows
    with ``repeats``; ``over="losses"`` repeats only the outer loss, for problems in which that is
    what is noisy (a random batch, an episode).

    A repeat that diverged is not left out, or hyperparameters would be liked for failing often:
    one of them makes the mean infinite, and the run counts it as not finite.  To the median it is
    the worst value, so a failing minority does no harm.

    Args:
        problem: the training process.
        repeats: at least 1.
        over: ``"trainings"``: whole trainings, each with an initialisation, steps and outer loss of
            its own; the state is that of all of them, with a leading axis ``[repeats]``.
            ``"losses"``: one training, whose final state is judged with several keys.
        statistic: of the repeats' losses.

    Returns:
        A Problem that works with every strategy and every estimator that the given one works with.
        It has no ``predict`` where its state is that of several trainings.

    Raises:
        ValueError: if ``repeats < 1``, or ``over`` or ``statistic`` is unknown.

    Example:
        >>> import jax, metahpo as mh
        >>> noisy = mh.problems.function(lambda h: h["x"] ** 2)._replace(
        ...     loss=lambda key, h, task, state: h["x"] ** 2 + jax.random.normal(key)
        ... )
        >>> calm = averaged(noisy, repeats=400, over="losses")
        >>> bool(abs(calm.loss(jax.random.key(0), {"x": jnp.array(2.0)}, None, ()) - 4) < 0.2)
        True
    """
    check_problem(problem)
    repeats = checks.whole("repeats", repeats)
    if over not in ("trainings", "losses"):
        raise ValueError(f"over must be 'trainings' or 'losses', got {over!r}")
    checks.one_of("statistic", statistic, _STATISTICS)
    central, state_axis = _STATISTICS[statistic], 0 if over == "trainings" else None

    def init_all(key: Key, hparams: HParams, task: Task) -> State:
        keys = jax.random.split(key, repeats)
        return jax.vmap(problem.init, (0, None, None))(keys, hparams, task)

    def step_all(key: Key, hparams: HParams, task: Task, state: State) -> State:
        keys = jax.random.split(key, repeats)
        return jax.vmap(problem.step, (0, None, None, 0))(keys, hparams, task, state)

    def loss(key: Key, hparams: HParams, task: Task, state: State) -> chex.Array:
        keys = jax.random.split(key, repeats)
        one = jax.vmap(problem.loss, (0, None, None, state_axis))
        return central(one(keys, hparams, task, state))

    def mean_lift(inner_loss: Callable[..., chex.Array]) -> Callable[..., chex.Array]:
        one = problem.lift(inner_loss)

        def mean(hparams: HParams, task: Task, params: Params, *rest: Any) -> chex.Array:
            return jax.vmap(lambda params: one(hparams, task, params, *rest))(params).mean()

        return mean

    if over == "losses":
        init, step, predict, lift = problem.init, problem.step, problem.predict, problem.lift
    else:  # the states of several trainings make no one prediction
        init, step, predict, lift = init_all, step_all, None, mean_lift
    return Problem(
        problem.sample, init, step, loss, problem.describe, predict, problem.initial, lift
    )


def _median(losses: chex.Array) -> chex.Array:
    # A NaN would make the median one, however many others there are; an infinite loss has a rank.
    return jnp.median(jnp.where(jnp.isfinite(losses), losses, jnp.inf))


_STATISTICS: dict[str, Callable[[chex.Array], chex.Array]] = {"mean": jnp.mean, "median": _median}
