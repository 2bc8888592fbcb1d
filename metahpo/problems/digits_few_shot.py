"""Few-shot classification of scikit-learn's handwritten digits: real data without a download."""

from collections.abc import Sequence
from typing import Literal

import chex
import numpy as np
from flax import linen

from metahpo import checks
from metahpo._extras import require
from metahpo.base import Network, TaskFamily
from metahpo.problems.criteria import cross_entropy
from metahpo.problems.episodes import episodes
from metahpo.problems.few_shot import few_shot

SIDE, INK = 8, 16
CLASSES = {"train": (0, 1, 2, 3, 4), "test": (5, 6, 7, 8, 9)}
HIDDEN = (64, 64)


def digits_few_shot(
    ways: int,
    shots: int,
    queries: int = 15,
    *,
    part: Literal["train", "test"] = "train",
    classes: Sequence[int] | None = None,
    rotations: bool | Literal["once"] = False,
    network: Network | None = None,
) -> TaskFamily:
    """Episodes of digits: 0 to 4 are there for training, 5 to 9 are held out for test.

    1,797 images of 8 x 8 pixels (Alpaydin & Kaynak 1998), 174 to 183 of each digit, as
    ``f[n, 8, 8, 1]``, ink 1.0 on paper 0.0.

    Args:
        ways: classes of an episode, at most 5, or 20 with ``rotations=True``.
        shots: support images a class.
        queries: query images a class.
        part: ``"train"`` or ``"test"``.
        classes: the digits themselves instead of a part's, for other ways to hold some out.
        rotations: see ``episodes``; more classes for training, though a turned 0 is a 0 again.
        network: with one output a class; by default a dense one, 64-64-64-ways, ReLU.

    Returns:
        A TaskFamily with ``Episode`` tasks and the cross-entropy, without a descriptor.

    Raises:
        ImportError: without scikit-learn (extra ``data``).
        ValueError: for sizes or names that do not fit the data.

    Example:
        >>> import jax, metahpo as mh
        >>> family = mh.problems.digits_few_shot(ways=3, shots=1, part="test")
        >>> jax.jit(family.sample)(jax.random.key(0)).query.x.shape
        (45, 8, 8, 1)
    """
    checks.one_of("part", part, CLASSES)
    chosen = CLASSES[part] if classes is None else tuple(classes)
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(10)):
        raise ValueError(f"classes must be different digits from 0 to 9, got {chosen}")
    data = require("sklearn.datasets", "data").load_digits()
    images = data.images.astype(np.uint8)[..., None]
    of_class = [images[data.target == label] for label in chosen]
    sample = episodes(of_class, ways, shots, queries, rotations=rotations, scale=1 / INK)
    if network is None:
        model = DenseClassifier(ways)
        network = Network(model.init, model.apply)
    return few_shot(sample, network, cross_entropy, ways=ways)


class DenseClassifier(linen.Module):
    """Dense layers with ReLU between them; the last one is named ``head``."""

    outputs: int
    hidden: tuple[int, ...] = HIDDEN

    @linen.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Maps ``f[n, ...]`` to ``f[n, outputs]``."""
        x = images.reshape(len(images), -1)
        for width in self.hidden:
            x = linen.relu(linen.Dense(width, param_dtype=x.dtype)(x))
        return linen.Dense(self.outputs, param_dtype=x.dtype, name="head")(x)
