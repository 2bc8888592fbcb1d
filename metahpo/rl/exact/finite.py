"""Dynamic programming for processes with few states, in double precision on the host.

``probability f[S, A, S]`` is that of the next state, and all zero in a state in which an episode
has ended; ``reward f[S, A]`` is the expected one (Sutton & Barto 2018, chapter 4).
"""

import math

import numpy as np

from metahpo import checks


def table(policy: np.ndarray, states: int, actions: int) -> np.ndarray:
    """Probabilities ``f[S, A]`` of a policy, which may also be actions ``i[S]``.

    Raises:
        ValueError: for another shape, an action that there is not, or rows that do not sum to 1.

    Example:
        >>> table(np.array([1, 0]), 2, 2)
        array([[0., 1.],
               [1., 0.]])
    """
    policy = np.asarray(policy)
    if policy.shape == (states,) and policy.dtype.kind in "iu":
        if not ((policy >= 0) & (policy < actions)).all():
            raise ValueError(f"actions must be in 0 ... {actions - 1}, got {policy}")
        return np.eye(actions)[policy]
    if policy.shape != (states, actions):
        raise ValueError(
            f"a policy must be actions i[{states}] or probabilities f[{states}, {actions}], "
            f"got shape {policy.shape} of {policy.dtype}"
        )
    if (policy < 0).any() or not np.allclose(policy.sum(axis=1), 1, atol=1e-6):
        raise ValueError(f"the probabilities of a state must sum to 1, got {policy.sum(axis=1)}")
    return policy.astype(float)


def evaluate(
    probability: np.ndarray,
    reward: np.ndarray,
    policy: np.ndarray,
    discount: float,
    steps: int | None = None,
) -> np.ndarray:
    """The values ``f[S]`` of a policy, of the first ``steps`` steps or of all."""
    checks.probability("discount", discount)
    policy = table(policy, *reward.shape)
    onward = np.einsum("sa,sat->st", policy, probability) * discount
    gain = (policy * reward).sum(axis=1)
    if steps is None:
        return np.linalg.solve(np.eye(len(gain)) - onward, gain)
    value = np.zeros(len(gain))
    for _ in range(checks.whole("steps", steps)):
        value = gain + onward @ value
    return value


def optimise(
    probability: np.ndarray, reward: np.ndarray, discount: float, steps: int | None = None
) -> np.ndarray:
    """The best values ``f[S]``, of the first ``steps`` steps or, below a discount of 1, of all."""
    checks.probability("discount", discount)
    if steps is None and discount == 1:
        raise ValueError("the best value of endless episodes needs a discount below 1, got 1")
    left = math.inf if steps is None else checks.whole("steps", steps)
    value, change = np.zeros(len(reward)), math.inf
    while left and change > 1e-13:
        new = (reward + discount * probability @ value).max(axis=1)
        value, change, left = new, np.abs(new - value).max(), left - 1
    return value
