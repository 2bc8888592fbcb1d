"""From a descriptor to configurations: what all such mappings share."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo import space as spaces
from metahpo.base import HParams, Key, PyTree
from metahpo.transfer.distribution import Distribution
from metahpo.transfer.experience import Experience, descriptor_of, points
from metahpo.transfer.past import Past, past_of, unlikeness


class Recommender(NamedTuple):
    """A way to learn from past tasks which configurations suit a new one; pure functions.

    Attributes:
        name: of the way.
        learn: ``(key, past) -> memory``, a pytree that holds all that the others need.
        choose: ``(memory, descriptor f[F], k) -> i32[k]``, the numbers of configurations to try,
            the most promising first; the first of more are those of fewer.
        outcomes: ``(memory, descriptor f[F]) -> Distribution`` of all ``C`` configurations.
    """

    name: str
    learn: Callable[[Key, Past], PyTree]
    choose: Callable[[PyTree, chex.Array, int], chex.Array]
    outcomes: Callable[[PyTree, chex.Array], Distribution]

    def fit(self, experience: Experience, *, key: Key | None = None) -> "Fitted":
        """Learns from all tasks of an experience.

        Args:
            experience: as ``mh.transfer.experience`` makes it.
            key: of what is drawn; ``jax.random.key(0)`` by default.

        Raises:
            ValueError: for one task only, or if all scores are equal in every task.
        """
        checks.record("experience", experience, Experience, "mh.transfer.experience")
        if len(set(experience.groups)) < 2:
            raise ValueError(
                "there must be at least two tasks that are no near-duplicates, "
                f"got {list(experience.tasks)}"
            )
        past = past_of(experience)
        key = jax.random.key(0) if key is None else key
        return Fitted(self, experience, past, _learn(self, key, past))


class Fitted(NamedTuple):
    """A recommender that has learned from an experience.

    Attributes:
        recommender: what learned.
        experience: what it learned from.
        past: the same as arrays.
        memory: what it made of it.
    """

    recommender: Recommender
    experience: Experience
    past: Past
    memory: PyTree

    def suggest(self, descriptor: Any, k: int = 1) -> list[HParams]:
        """``k`` configurations to try on a task, the most promising first, as Python values.

        Args:
            descriptor: a mapping from the experience's names to numbers, or ``f[F]`` in its order;
                NaN where unknown.
            k: how many, at most as many as the experience has.

        Raises:
            ValueError: for a descriptor of another length or with names that do not match.
        """
        return self.experience.hparams(self.numbers(descriptor, k))

    def numbers(self, descriptor: Any, k: int = 1) -> np.ndarray:
        """``i32[k]``: the numbers of the suggested configurations in the experience."""
        k = checks.whole("k", k)
        if k > len(self.experience.unit):
            raise ValueError(
                f"k must be at most the {len(self.experience.unit)} configurations of the "
                f"experience, got {k}"
            )
        return np.asarray(_choose(self.recommender, self.memory, self._read(descriptor), k))

    def points(self, descriptor: Any, k: int = 1) -> np.ndarray:
        """``f[k, D]``: the suggested configurations as points of the unit cube."""
        return self.experience.unit[self.numbers(descriptor, k)]

    def distribution(
        self, descriptor: Any, configurations: Sequence[HParams] | chex.Array | None = None
    ) -> Distribution:
        """How well configurations may do on a task, as a distribution of their regret.

        Args:
            descriptor: as for ``suggest``.
            configurations: hyperparameters in a list or points ``f[M, D]`` of the unit cube, each
                taken for the nearest one of the experience; by default all of these.

        Raises:
            ValueError: for a descriptor or configurations that do not fit.
        """
        found = _outcomes(self.recommender, self.memory, self._read(descriptor))
        if configurations is None:
            return found
        unit = points(self.experience.space, configurations)
        return found._replace(values=found.values[self._nearest(unit)])

    def expected(self, descriptor: Any) -> Callable[[chex.Array], chex.Array]:
        """What regrets are expected on a task, as a function of points of the unit cube.

        It is the prior mean for ``mh.strategies.gaussian_process(expected=...)``: smooth, a mean
        of the expected regrets of the experience's configurations that are near.

        Args:
            descriptor: as for ``suggest``.

        Returns:
            ``(points f[M, D]) -> f[M]``; differentiable.
        """
        mean = self.distribution(descriptor).mean
        dims = list(spaces.dimensions(self.experience.space).values())
        own = jnp.asarray(self._seen(dims, self.experience.unit), float)
        apart = jnp.sqrt(((own[:, None] - own) ** 2).sum(-1))
        apart = jnp.where(jnp.eye(len(own), dtype=bool), jnp.inf, apart)
        width = jnp.median(apart.min(1))

        def of(points: chex.Array) -> chex.Array:
            far = ((points[:, None] - own) ** 2).sum(-1) / (2 * width**2)
            return jax.nn.softmax(-far, axis=1) @ mean

        return of

    def distance(self, descriptor: Any) -> float:
        """How unlike all past tasks a task is; 1 is what half of these are to one another."""
        return float(_unlikeness(self.past, self._read(descriptor)))

    def _read(self, descriptor: Any) -> chex.Array:
        return jnp.asarray(descriptor_of(self.experience.names, descriptor), float)

    def _nearest(self, unit: np.ndarray) -> np.ndarray:
        """``i64[M]``, with choices that differ 1 apart."""
        dims = list(spaces.dimensions(self.experience.space).values())
        new, own = (self._seen(dims, rows) for rows in (unit, self.experience.unit))
        choice = np.array([isinstance(d, spaces.Choice) and not d.ordered for d in dims])
        apart = ((new[:, None, ~choice] - own[None, :, ~choice]) ** 2).sum(-1)
        return (apart + (new[:, None, choice] != own[None, :, choice]).sum(-1)).argmin(1)

    def _seen(self, dims: Sequence[Any], unit: np.ndarray) -> np.ndarray:
        """Points with one place for every value of a choice or a whole number."""
        unit = np.asarray(spaces.canonical(self.experience.space, jnp.asarray(unit)), float)
        columns = [
            col if isinstance(d, spaces.Float) else np.asarray(d.encode(d.decode(col)))
            for d, col in zip(dims, unit.T, strict=True)
        ]
        return np.stack(columns, axis=1)


# One program for each recommender and number of suggestions.
@partial(jax.jit, static_argnums=0)
def _learn(recommender: Recommender, key: Key, past: Past) -> PyTree:
    return recommender.learn(key, past)


@partial(jax.jit, static_argnums=(0, 3))
def _choose(recommender: Recommender, memory: PyTree, descriptor: chex.Array, k: int) -> chex.Array:
    return recommender.choose(memory, descriptor, k)


@partial(jax.jit, static_argnums=0)
def _outcomes(recommender: Recommender, memory: PyTree, descriptor: chex.Array) -> Distribution:
    return recommender.outcomes(memory, descriptor)


_unlikeness = jax.jit(unlikeness)
