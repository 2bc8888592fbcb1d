"""Quasi-random search."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from metahpo import quasirandom
from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts


class SobolState(NamedTuple):
    """The sequence and the number of its next point."""

    sequence: quasirandom.Sobol
    next: chex.Array  # u32[]


def sobol(space: Space, population: int, scramble: bool = True) -> Strategy:
    """The points of Sobol's sequence, which leave fewer gaps than random ones (Sobol 1967).

    Scrambled anew by every key, each point is uniform, as in random search, and all together are as
    even as without (Matousek 1998).  They are most even when their number is a power of two.

    Args:
        space: the search space, of at most 1,024 dimensions.
        population: points a round, ``P``.
        scramble: ``False`` gives the published sequence, whose first point is the cube's corner 0.

    Returns:
        A Strategy; after ``2^30`` points it begins again.

    Raises:
        ValueError: if ``population`` is not a whole number of at least 1, or the space has too many
            dimensions.

    Example:
        >>> import jax, metahpo as mh
        >>> strategy = sobol({"x": mh.Float(0.0, 1.0)}, population=4, scramble=False)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.unit[:, 0].tolist()
        [0.0, 0.5, 0.75, 0.25]
    """
    population = parts.check_population("sobol", population)
    published = quasirandom.directions(spaces.size(space))

    def init(key: Key) -> SobolState:
        sequence = quasirandom.scrambled(key, published) if scramble else published
        return SobolState(sequence, jnp.zeros((), jnp.uint32))

    def ask(key: Key, state: SobolState) -> tuple[Proposal, SobolState]:
        del key
        numbers = quasirandom.points(state.sequence, state.next, population)
        later = state._replace(next=state.next + jnp.uint32(population))
        return parts.proposal(quasirandom.as_fractions(numbers)), later

    def tell(key: Key, state: SobolState, proposal: Proposal, evaluation: Evaluation) -> SobolState:
        del key, proposal, evaluation
        return state

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), space=space)
