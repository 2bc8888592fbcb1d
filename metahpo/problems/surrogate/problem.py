"""A surrogate network as a Problem."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from metahpo import checks
from metahpo.base import HParams, Key, Problem
from metahpo.problems.surrogate.graph import evaluate
from metahpo.problems.surrogate.yahpo import Surrogate
from metahpo.space import Int

STEPS = 10  # of a training whose time is a share of the data


def surrogate(read: Surrogate, metric: str, steps: int | None = None) -> Problem:
    """A network that was fitted to recorded trainings, as a Problem: a step is more training time.

    After ``t`` of ``steps`` updates the training time is ``t / steps`` of the highest one, and the
    lowest one at least.  The loss is the metric, negated where it is maximised, and has a gradient
    with respect to the floats.  Surrogates are smooth where trainings are not: what transfers from
    task to task looks better than it is.

    Args:
        read: as ``read_surrogate`` makes it.
        metric: one of ``read.best``.
        steps: updates of a whole training; by default the number of epochs where the training
            time is counted in these, else 10.

    Returns:
        A Problem with hyperparameters from ``read.space`` and tasks ``i32[]``, places in
        ``read.instances``; ``sample`` draws one of them.  ``normalised_regret(loss,
        read.best[metric][task], read.worst[metric][task])`` is ``(max - incumbent) / (max - min)``
        of a metric that is maximised; a surrogate may be better than the best on record.

    Raises:
        ValueError: if ``read`` is no ``Surrogate``, the metric is unknown, or ``steps`` is not a
            whole number of at least 1.

    Example:
        >>> import metahpo as mh
        >>> found = mh.problems.read_surrogate("data/yahpo/lcbench")  # doctest: +SKIP
        >>> problem = mh.problems.surrogate(found, "val_accuracy")  # doctest: +SKIP
    """
    checks.record("read", read, Surrogate, "mh.problems.read_surrogate")
    checks.one_of("metric", metric, tuple(read.best))
    low, high = read.fidelity.low, read.fidelity.high
    whole = isinstance(read.fidelity, Int)
    steps = checks.whole("steps", (high if whole else STEPS) if steps is None else steps)
    place = list(read.scenario.minimised).index(metric)
    sign = 1 if read.scenario.minimised[metric] else -1
    predict = predictions(read)

    def sample(key: Key) -> chex.Array:
        return jax.random.randint(key, (), 0, len(read.instances))

    def init(key: Key, hparams: HParams, task: chex.Array) -> chex.Array:
        del key, hparams, task
        return jnp.zeros((), jnp.int32)

    def step(key: Key, hparams: HParams, task: chex.Array, state: chex.Array) -> chex.Array:
        del key, hparams, task
        return state + 1

    def loss(key: Key, hparams: HParams, task: chex.Array, state: chex.Array) -> chex.Array:
        del key
        time = jnp.clip(high * state / steps, low, high)
        return sign * predict(hparams, task, jnp.round(time) if whole else time)[place]

    return Problem(sample, init, step, loss)


def predictions(read: Surrogate) -> Callable[[HParams, chex.Array, chex.Numeric], chex.Array]:
    """``(hparams, task i32[], training time) -> f[M]``, the metrics in the network's order."""
    scenario = read.scenario

    def predict(hparams: HParams, task: chex.Array, time: chex.Numeric) -> chex.Array:
        given = {**hparams, **scenario.fixed, scenario.fidelity: time}
        numbers = [jnp.asarray(given[name], float) for name in scenario.continuous]
        given[scenario.instance] = task
        codes = [jnp.asarray(read.codes[name])[given[name]] for name in scenario.categorical]
        categories, continuous = read.graph.inputs
        inputs = {categories: jnp.stack(codes)[None], continuous: jnp.stack(numbers)[None]}
        return evaluate(read.graph, inputs)[0]

    return predict
