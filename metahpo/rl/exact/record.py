"""An environment, and what policies are worth in it."""

from collections.abc import Callable
from typing import NamedTuple

from metahpo.rl.environment import Environment


class Exact(NamedTuple):
    """A benchmark that is known exactly: no value in it is sampled.

    Values are expected returns of an episode, undiscounted unless its function says otherwise, in
    double precision on the host; they are computed when they are asked for.

    Attributes:
        environment: the process to act in.
        optimal: ``() -> float``, of the best policy; where its function says so, with options.
        static: ``() -> float``, of the best policy that always does the same.
        random: ``() -> float``, of the policy that does everything equally often.
        value: ``(policy, ...) -> float``, of any policy that is a table over the observations:
            ``i[S]`` of actions or ``f[S, A]`` of their probabilities.  ``None`` where what is
            observed has no table.
    """

    environment: Environment
    optimal: Callable[..., float]
    static: Callable[[], float]
    random: Callable[[], float]
    value: Callable[..., float] | None = None
