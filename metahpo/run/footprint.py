"""How much memory a population will need, before it is run."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from metahpo import checks
from metahpo.run.loop import Loop, scan


class Footprint(NamedTuple):
    """Bytes of memory on a device, linear in the population.

    Attributes:
        fixed: what does not depend on the population: the task, and with ``chunk`` all that the
            members of one chunk need while they train.
        per_member: what one more member adds.
    """

    fixed: float
    per_member: float

    def total(self, population: int) -> int:
        """The bytes that a population needs."""
        return round(self.fixed + self.per_member * population)

    def largest(self, available: float) -> int:
        """The largest population that fits into so many bytes, 0 if none does."""
        return max(0, int((available - self.fixed) // self.per_member))


def footprint(make: Callable[[int], Loop], populations: tuple[int, int] = (32, 64)) -> Footprint:
    """Predicts the memory of a run of any population from two programs that are never run.

    The compiler says what a program needs: its arguments, its results (the history) and what it
    holds at once while it runs.  All of these are proportional to the population, except for a
    strategy that compares every member with every other.  On a GPU the compiler also reserves
    workspace that varies a little with the population.

    Args:
        make: ``(population) -> Loop``, the run as it is meant, for example a ``search_loop``.
        populations: the two sizes that are compiled; larger ones predict better.  With ``chunk``,
            multiples of it, and more than one chunk each.

    Returns:
        A ``Footprint``; on a mesh, of each of its devices.

    Raises:
        ValueError: unless the sizes are different whole numbers of at least 1.
        RuntimeError: if the compiler does not say what memory a program needs.

    Example:
        >>> import metahpo as mh
        >>> space, problem = {"x": mh.Float(-1.0, 1.0)}, mh.problems.function(lambda h: h["x"] ** 2)
        >>> found = footprint(lambda population: mh.run.search_loop(
        ...     problem, space, mh.strategies.random(space, population), rounds=10, steps=1,
        ... ))
        >>> found.per_member >= 10 * (4 + 4 + 4 + 4 + 1)  # the history of ten rounds
        True
    """
    small, large = populations
    small, large = checks.counts(small=small, large=large)
    if small == large:
        raise ValueError(f"populations must be two different sizes, got {populations}")
    less, more = _bytes(make(small)), _bytes(make(large))
    per_member = (more - less) / (large - small)
    return Footprint(less - per_member * small, per_member)


def _bytes(loop: Loop) -> int:
    key = jax.eval_shape(lambda: jax.random.key(0))
    stats = jax.jit(lambda key: scan(loop, key)).lower(key).compile().memory_analysis()
    if stats is None:
        raise RuntimeError(f"the compiler for {jax.default_backend()} does not tell its memory")
    needed = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
    return needed - stats.alias_size_in_bytes
