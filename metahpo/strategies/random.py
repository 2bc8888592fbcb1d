"""Random search."""

from metahpo import space as spaces
from metahpo.base import Evaluation, Key, Proposal, Strategy
from metahpo.space import Space
from metahpo.strategies import parts


def random(space: Space, population: int) -> Strategy:
    """Independent uniform points of the unit cube (Bergstra & Bengio 2012).

    Args:
        space: the search space.
        population: points a round, ``P``.

    Returns:
        A Strategy without a memory.

    Raises:
        ValueError: if ``population`` is not a whole number of at least 1.

    Example:
        >>> import jax, metahpo as mh
        >>> strategy = random({"x": mh.Float(0.0, 1.0)}, population=3)
        >>> proposal, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(1)))
        >>> proposal.unit.shape
        (3, 1)
    """
    population = parts.check_population("random", population)
    spaces.size(space)  # refuses what is not a space

    def init(key: Key) -> tuple[()]:
        del key
        return ()

    def ask(key: Key, state: tuple[()]) -> tuple[Proposal, tuple[()]]:
        return parts.proposal(parts.uniform(key, space, population)), state

    def tell(key: Key, state: tuple[()], proposal: Proposal, evaluation: Evaluation) -> tuple[()]:
        del key, proposal, evaluation
        return state

    return Strategy(init, ask, tell, parts.SCRATCH._replace(order=False), space=space)
