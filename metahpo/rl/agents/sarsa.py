"""SARSA: values of what the agent really does next."""

import chex

from metahpo.base import Estimator
from metahpo.rl.agents.tabular import temporal_differences
from metahpo.rl.environment import Environment
from metahpo.rl.exploration import Explore, Rate


def sarsa(
    environment: Environment,
    explore: Explore,
    *,
    discount: chex.Numeric = 0.99,
    rate: Rate = 1.0,
    steps: int = 1,
) -> Estimator:
    """The next action is what is expected of the next state (Rummery & Niranjan 1994).

    The gradient is minus the error of the value of each action taken, times ``rate``: with
    ``optax.sgd(0.1)`` and ``steps=1`` that is the textbook's update with a step size of 0.1, and
    with ``optax.sgd(1.0)`` and ``rate=lambda visits: 1 / visits`` it takes means.

    Args:
        environment: the process, with finite observations and actions.
        explore: how the agent acts, of ``epsilon_greedy``, ``softmax``, ``upper_confidence``.
        discount: in [0, 1].
        rate: factor of the errors; a schedule is one of how often the action was chosen in this
            state, this time included.
        steps: made before an update; their gradients are added up.

    Returns:
        An Estimator whose hyperparameters are a table ``f[S, A]``, as of ``table_policy``, and
        whose memory is a ``TabularMemory``.  Its loss is minus the return of the last episode that
        ended.  A reward that is not finite spoils the update, which ``meta_train`` skips.

    Raises:
        ValueError: for spaces that are not finite, zero steps, a discount outside [0, 1], or a
            table of another shape.

    Example:
        >>> import jax, optax, metahpo as mh
        >>> lake = mh.rl.frozen_lake(slippery=False)
        >>> policy = mh.rl.table_policy(lake.environment, initial=1.0)  # tries everything
        >>> problem = mh.problems.function(lambda table: 0.0)
        >>> agent = sarsa(lake.environment, mh.rl.epsilon_greedy(0.1))
        >>> learned = mh.meta_train(
        ...     jax.random.key(0), problem, agent, policy.init(jax.random.key(1)),
        ...     optax.sgd(0.5), rounds=5_000, tasks=1,
        ... )
        >>> lake.value(learned.hparams.argmax(axis=1)) == lake.optimal()
        True
    """
    return temporal_differences(
        environment,
        lambda values, chances, action: values[action],
        explore,
        discount,
        rate,
        steps,
        ahead=True,
    )
