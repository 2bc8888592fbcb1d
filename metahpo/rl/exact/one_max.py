"""OneMax with a choice of the size of a genetic algorithm's population."""

import functools
import math
from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np

from metahpo import checks, draws
from metahpo.base import Key, Task
from metahpo.rl.environment import Environment, Transition
from metahpo.rl.exact.finite import table
from metahpo.rl.exact.record import Exact
from metahpo.space import Choice

_MOST = 1000  # more, and numbers of ways do not fit into doubles
_TINY = 1e-18  # a chance that changes no sum


def one_max(bits: int = 20, portfolio: Sequence[int] = (1, 2, 4, 8)) -> Exact:
    """The (1 + (lambda, lambda)) genetic algorithm for the string of ones, from random bits.

    An action chooses lambda.  So many mutants flip the same number of bits, from
    Binomial(bits, lambda / bits); so many children take each bit from the best mutant with
    probability 1 / lambda, else from the parent; the best child replaces the parent unless it is
    worse.  A step costs its 2 lambda evaluations, so a value is minus the expected number of them
    (Doerr, Doerr & Ebel 2015; Doerr & Doerr 2018, with the best lambda near ``sqrt(n / (n - f))``
    at ``f`` ones).

    All bits are alike, so the state is the number of ones, and a step draws from its exact
    distribution after a generation.

    Args:
        bits: length of the string; tables of about ``bits ** 2`` numbers are made once.
        portfolio: values of lambda, all different.

    Returns:
        An ``Exact`` by dynamic programming over the number of ones; observations and the tables of
        ``value`` go over it, 0 to ``bits`` and 0 to ``bits - 1``.

    Raises:
        ValueError: unless all are whole numbers, from 1 to ``bits``, and that at most 1000.

    Example:
        >>> benchmark = one_max(bits=10, portfolio=(1, 2, 4))
        >>> benchmark.optimal() > benchmark.static() > benchmark.random()
        True
    """
    bits = checks.whole("bits", bits)
    sizes = [checks.whole("every number in portfolio", number) for number in portfolio]
    if bits > _MOST:
        raise ValueError(f"bits must be at most {_MOST}, got {bits}")
    if not sizes or max(sizes) > bits:
        raise ValueError(f"portfolio must hold numbers from 1 to {bits}, got {portfolio}")

    def reset(key: Key, task: Task) -> chex.Array:
        del task
        at_most = np.cumsum(_binomial(bits, 0.5))[:-1]
        return (draws.uniform(key, ()) >= at_most).sum(dtype=jnp.int32)

    def step(key: Key, ones: chex.Array, action: chex.Array) -> tuple[chex.Array, Transition]:
        gain = (draws.uniform(key, ()) >= jnp.asarray(at_most())[ones, action]).sum(dtype=jnp.int32)
        reward = jnp.where(ones < bits, -2.0 * jnp.asarray(sizes)[action], 0.0)
        return ones + gain, Transition(reward, ones + gain == bits, jnp.array(False))

    @functools.cache
    def at_most() -> np.ndarray:
        """``f[bits + 1, A, bits]``: the chance of at most so many more ones, none at the end."""
        found = np.cumsum(gains(), axis=-1)[..., :-1]
        left = bits - np.arange(bits)[:, None, None]
        found = np.where(np.arange(bits) < left, found, 1.0)
        return np.concatenate([found, np.ones((1, len(sizes), bits))])

    @functools.cache
    def gains() -> np.ndarray:
        """``f[bits, A, bits + 1]``: the chance of so many more ones."""
        return np.array([[_gain(bits, ones, size) for size in sizes] for ones in range(bits)])

    def values(policy: np.ndarray | None) -> float:
        """Of the best policy if there is none."""
        worth = np.zeros(bits + 1)
        for ones in reversed(range(bits)):
            more = gains()[ones]
            onward = more[:, 1 : bits - ones + 1] @ worth[ones + 1 :] - 2.0 * np.array(sizes)
            better = more[:, 1:].sum(axis=1)
            if policy is None:
                worth[ones] = (onward / better).max()
            else:
                worth[ones] = policy[ones] @ onward / (policy[ones] @ better)
        start = np.array([math.comb(bits, ones) for ones in range(bits + 1)]) / 2.0**bits
        return float(start @ worth)

    def value(policy: np.ndarray) -> float:
        return values(table(policy, bits, len(sizes)))

    return Exact(
        Environment(reset, step, lambda ones: ones, Choice(tuple(sizes)), Choice(range(bits + 1))),
        optimal=lambda: values(None),
        static=lambda: max(value(np.full(bits, a)) for a in range(len(sizes))),
        random=lambda: value(np.full((bits, len(sizes)), 1 / len(sizes))),
        value=value,
    )


def _gain(bits: int, ones: int, size: int) -> np.ndarray:
    """``f[bits + 1]``: the chance of so many more ones after a step with this lambda."""
    zeros, gain = bits - ones, np.zeros(bits + 1)
    for flipped, chance in enumerate(_binomial(bits, size / bits)):
        if chance < _TINY:
            continue
        ways = math.comb(bits, flipped)
        good = [
            math.comb(zeros, g) * math.comb(ones, flipped - g) / ways for g in range(flipped + 1)
        ]
        for g, picked in enumerate(_largest(np.array(good), size)):
            if picked > 0:
                gain[: g + 1] += chance * picked * _crossed(g, flipped - g, size)
    return gain


@functools.cache
def _crossed(good: int, bad: int, size: int) -> np.ndarray:
    """``f[good + 1]``: the ones that the best child gains from a mutant with so many flips."""
    takes, leaves = _binomial(good, 1 / size), _binomial(bad, 1 / size)[::-1]
    best = _largest(np.convolve(takes, leaves), size)  # of the differences -bad ... good
    return np.append(best[: bad + 1].sum(), best[bad + 1 :])


def _largest(chance: np.ndarray, count: int) -> np.ndarray:
    """The distribution of the largest of so many draws."""
    return np.diff(np.cumsum(chance) ** count, prepend=0.0)


def _binomial(count: int, chance: float) -> np.ndarray:
    k = np.arange(count + 1)
    ways = np.array([math.comb(count, i) for i in k], float)
    return ways * chance**k * (1 - chance) ** (count - k)
