"""LeadingOnes with a choice of how many bits to flip."""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.finite import table
from metahpo.rl.exact.flips import flips
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice


def leading_ones(bits: int = 50, portfolio: Sequence[int] = (1, 2, 4, 8, 16)) -> Exact:
    """Randomised local search for the string of ones, from random bits.

    An action chooses from the portfolio how many different bits are flipped; the new string is
    kept unless it has fewer leading ones.  Each step costs 1, so a value is minus an expected
    number of steps: with the chance ``q(i)`` of an improvement at ``i`` leading ones it is
    ``-sum(1 / q(i)) / 2`` for *any* policy, because each level is visited with probability 1/2
    (Biedenkapp et al. 2022, GECCO, arXiv 2202.03259).

    Args:
        bits: length of the string.
        portfolio: numbers of bits that may be flipped, all different.

    Returns:
        An ``Exact``; observations and the tables of ``value`` go over the leading ones, 0 to
        ``bits`` and 0 to ``bits - 1``.  A policy that gets stuck is worth minus infinity.

    Raises:
        ValueError: unless all are whole numbers, from 1 to ``bits``.

    Example:
        >>> benchmark = leading_ones(50, (1, 2, 4, 8, 16))
        >>> round(benchmark.optimal(), 3), benchmark.static()
        (-974.885, -1250.0)
    """
    bits = checks.whole("bits", bits)
    sizes = [checks.whole("every number in portfolio", number) for number in portfolio]
    if not sizes or max(sizes) > bits:
        raise ValueError(f"portfolio must hold numbers from 1 to {bits}, got {portfolio}")

    def leading(string: chex.Array) -> chex.Array:
        return jnp.where(string, bits, jnp.arange(bits, dtype=jnp.int32)).min()

    def reset(key: Key, task: Task) -> tuple[chex.Array, chex.Array]:
        del task
        string = jax.random.bernoulli(key, 0.5, (bits,))
        return string, leading(string)

    def step(
        key: Key, state: tuple[chex.Array, chex.Array], action: chex.Array
    ) -> tuple[tuple[chex.Array, chex.Array], Transition]:
        string, before = state
        new = string ^ flips(key, bits, jnp.asarray(sizes)[action])
        after = leading(new)
        ones = jnp.maximum(before, after)
        reward = -(before < bits).astype(float)
        string = jnp.where(after >= before, new, string)
        return (string, ones), Transition(reward, ones == bits, jnp.array(False))

    chances = np.array([[_improves(bits, k, i) for k in sizes] for i in range(bits)])

    def value(policy: np.ndarray) -> float:
        q = (table(policy, bits, len(sizes)) * chances).sum(axis=1)
        return -0.5 * float((1 / q).sum()) if q.all() else -math.inf

    environment = Environment(
        reset, step, lambda state: state[1], Choice(tuple(sizes)), Choice(range(bits + 1))
    )
    return Exact(
        environment,
        optimal=lambda: value(chances.argmax(axis=1)),
        static=lambda: max(value(np.full(bits, a)) for a in range(len(sizes))),
        random=lambda: value(np.full(chances.shape, 1 / len(sizes))),
        value=value,
    )


def _improves(bits: int, flipped: int, ones: int) -> float:
    """The chance that the first zero is among the flipped bits, and none of the ones before."""
    return math.comb(bits - ones - 1, flipped - 1) / math.comb(bits, flipped)
