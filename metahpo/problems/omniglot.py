"""Few-shot classification of the characters of Omniglot."""

from pathlib import Path
from typing import Literal

from metahpo.base import Network, TaskFamily
from metahpo.networks import conv4
from metahpo.problems.criteria import cross_entropy
from metahpo.problems.episodes import episodes
from metahpo.problems.few_shot import few_shot
from metahpo.problems.omniglot_files import read_omniglot
from metahpo.problems.omniglot_splits import Part, Split, members


def omniglot(
    ways: int,
    shots: int,
    queries: int = 15,
    *,
    split: Split = "vinyals",
    part: Part = "train",
    rotations: bool | Literal["once"] = True,
    path: str | Path | None = None,
    network: Network | None = None,
    verify: bool = True,
) -> TaskFamily:
    """Episodes of handwritten characters that nobody saw in training.

    Images are ``f[n, 28, 28, 1]``, ink 1.0 on paper 0.0 (MAML and prototypical networks invert the
    pictures in this way).  Name the split and the rotations with every figure: the random split
    shares alphabets between training and test and is the easier one (MAML, Reptile, MAML++); MAML
    (``"once"``) and prototypical networks (``True``) rotate in training and test, Reptile and
    MAML++ in training only.

    For scale, the nearest neighbour of raw pixels is right in 45.5 / 68.8 % of 5-way 1- / 5-shot
    queries and in 26.2 / 47.9 % of 20-way ones by their cosine, in 37.3 / 54.3 % and 17.8 / 32.4 %
    by Euclidean distance (Vinyals test, rotations, within 0.2).

    Args:
        ways: classes of an episode.
        shots: support images a class.
        queries: query images a class; a character has 20 drawings in all.
        split: ``"vinyals"``, 1,028 / 172 / 423 characters by alphabet, or ``"random"``, 1,200 / 423
            characters in a fixed random order.
        part: ``"train"``, ``"validation"`` (Vinyals only) or ``"test"``.
        rotations: see ``episodes``: ``True``, each rotation by 90 degrees is a class of its own.
        path: where the data is, see ``read_omniglot``; by default ``METAHPO_DATA``.
        network: of the images, with one output a class (for metric learners an encoder); by
            default ``mh.networks.conv4(ways)``.
        verify: refuse data that is not the published data set.

    Returns:
        A TaskFamily with ``Episode`` tasks and the cross-entropy, without a descriptor.

    Raises:
        FileNotFoundError: if the data is not there; the message says what to do.
        ValueError: for sizes or names that do not fit the data.

    Example:
        >>> import metahpo as mh
        >>> family = mh.problems.omniglot(5, 1, part="test")  # doctest: +SKIP
    """
    data = read_omniglot(path, verify=verify)
    images = data.images[members(data.names, split, part)][..., None]
    sample = episodes(images, ways, shots, queries, rotations=rotations)
    network = conv4(ways) if network is None else network
    return few_shot(sample, network, cross_entropy, ways=ways)
