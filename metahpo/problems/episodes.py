"""Few-shot episodes drawn inside the compiled program from images that stay on the device."""

from collections.abc import Callable, Sequence
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metahpo import checks
from metahpo.base import Key
from metahpo.problems.distinct import distinct
from metahpo.problems.few_shot import Episode, Examples
from metahpo.problems.packed import pack, unpack

TURNS = 4


def episodes(
    images: chex.Array | Sequence[chex.Array],
    ways: int,
    shots: int,
    queries: int,
    *,
    rotations: bool | Literal["once"] = False,
    counts: chex.Array | None = None,
    scale: float | None = None,
    pad: bool = False,
) -> Callable[[Key], Episode]:
    """Episodes of ``ways`` classes from a set of labelled images, as Vinyals et al. 2016 draw them.

    The classes of an episode are different, and so are the ``shots + queries`` images of a class;
    every ordered choice is equally likely.  Labels are the numbers 0 to ``ways - 1`` in the order
    in which the classes were drawn, so a label says nothing of the class.  The rows are sorted by
    label: ``y`` is 0, 0, ..., 1, 1, ....

    Images stay packed on the device, a bit or a byte a pixel, and become floats after they are
    chosen: 0 stays 0.0 and a byte of 255 becomes 1.0.  With rotations the device holds each image
    four times.

    Args:
        images: ``[classes, n, ...]``, uint8, bool or floats, or a sequence of arrays
            ``[n_i, ...]``, one a class.
        ways: classes of an episode, at least 2.
        shots: support images a class, at least 1.
        queries: query images a class, at least 1.
        rotations: ``True`` makes every class four, one for each rotation by 90 degrees of the two
            axes after the images'; an episode may then hold two rotations of the same class.
            ``"once"`` turns each class of an episode by a random angle, so that it may not.
        counts: ``i[classes]``, the number of images of each class where ``images`` is padded.
        scale: what a pixel of 1 becomes; by default 1/255 for uint8 and 1 otherwise.
        pad: whether classes may have fewer than ``shots + queries`` images, at least 2.  Their rows
            are filled up with rows of weight 0; one image is left for the queries.

    Returns:
        ``sample: (key) -> Episode``, for ``few_shot``: ``support.x`` ``f[ways * shots, ...]``,
        ``query.x`` ``f[ways * queries, ...]``, labels ``i32``; with ``pad`` also weights.

    Raises:
        ValueError: if the data has too few classes, a class too few images, images are not finite
            or not square (with rotations), or a size is too small.

    Example:
        >>> import jax, numpy as np, metahpo as mh
        >>> images = np.zeros((10, 20, 8, 8), np.uint8)
        >>> sample = mh.problems.episodes(images, ways=5, shots=1, queries=3)
        >>> episode = jax.jit(sample)(jax.random.key(0))
        >>> episode.support.x.shape, episode.query.y.tolist()
        ((5, 8, 8), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4])
    """
    ways = checks.whole("ways", ways, at_least=2)
    shots, queries = checks.counts(shots=shots, queries=queries)
    needed = shots + queries
    padded, known = _padded(images, counts)
    _check(padded, known, ways, shots, queries, rotations, pad)
    if rotations:
        turned = [np.rot90(padded, turn, axes=(2, 3)) for turn in range(TURNS)]
        padded, known = np.stack(turned, axis=1), np.repeat(known, TURNS)
        padded = padded.reshape(-1, *padded.shape[2:])
    classes, width = padded.shape[:2]
    packed = pack(padded.reshape(classes * width, *padded.shape[2:]), scale)
    count = jnp.asarray(known, jnp.int32) if np.ptp(known) else int(known[0])

    def sample(key: Key) -> Episode:
        # One call for all random words: each call costs more than the words.
        words = jax.random.bits(key, (ways * (needed + 2),), jnp.uint32)
        class_words, turn_words, image_words = jnp.split(words, (ways, 2 * ways))
        if rotations == "once":
            drawn = distinct(class_words, classes // TURNS)
            drawn = TURNS * drawn + (turn_words % TURNS).astype(jnp.int32)
        else:
            drawn = distinct(class_words, classes)
        available = jnp.full(ways, count) if isinstance(count, int) else count[drawn]
        image_words = image_words.reshape(ways, needed)
        if pad:
            chosen, there = _drawn_or_missing(image_words, available, shots)
            chosen = jnp.minimum(chosen, width - 1)
        else:
            chosen, there = distinct(image_words, available), None
        rows = width * drawn[:, None] + chosen

        def examples(part: slice) -> Examples:
            own = rows[:, part]
            labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), own.shape[1])
            x = unpack(packed, own.reshape(-1))
            weight = None if there is None else there[:, part].reshape(-1).astype(x.dtype)
            return Examples(x, labels, weight)

        return Episode(examples(slice(shots)), examples(slice(shots, None)))

    return sample


def _drawn_or_missing(
    words: chex.Array, available: chex.Array, shots: int
) -> tuple[chex.Array, chex.Array]:
    """Images ``i[ways, shots + queries]``, and which are there: the first ones of either part."""
    needed = words.shape[1]
    drawn = distinct(words, jnp.maximum(available, needed))
    missing = drawn >= available[:, None]
    drawn = jnp.take_along_axis(drawn, jnp.argsort(missing, axis=1), axis=1)  # those there first
    support = jnp.minimum(shots, available - 1)[:, None]
    slot = jnp.arange(needed)
    place = jnp.where(slot < shots, slot, slot - shots + support)
    there = place < jnp.where(slot < shots, support, available[:, None])
    return jnp.take_along_axis(drawn, jnp.minimum(place, needed - 1), axis=1), there


def _padded(
    images: chex.Array | Sequence[chex.Array], counts: chex.Array | None
) -> tuple[np.ndarray, np.ndarray]:
    """One array ``[classes, n, ...]`` and the number of images of each class."""
    if isinstance(images, np.ndarray | jax.Array):
        array = np.asarray(images)
        if array.ndim < 3:
            raise ValueError(f"images must be [classes, n, ...], got the shape {array.shape}")
        known = np.full(len(array), array.shape[1]) if counts is None else np.asarray(counts)
        if known.shape != (len(array),):
            raise ValueError(f"counts has the shape {known.shape}, but images {len(array)} classes")
        if len(known) and (known.min() < 0 or known.max() > array.shape[1]):
            raise ValueError(
                f"counts lie between {known.min()} and {known.max()}, "
                f"but images holds {array.shape[1]} of each class"
            )
        return array, known
    if counts is not None:
        raise ValueError("counts belongs to one padded array; a sequence of arrays has its own")
    parts = [np.asarray(part) for part in images]
    kinds = sorted({(part.shape[1:], part.dtype.name) for part in parts}, key=str)
    if len(kinds) != 1:
        raise ValueError(f"all classes need images of one shape and type, got {kinds}")
    known = np.array([len(part) for part in parts])
    array = np.zeros((len(parts), known.max(), *parts[0].shape[1:]), parts[0].dtype)
    for i, part in enumerate(parts):
        array[i, : len(part)] = part
    return array, known


def _check(
    images: np.ndarray,
    counts: np.ndarray,
    ways: int,
    shots: int,
    queries: int,
    rotations: bool | str,
    pad: bool,
) -> None:
    if rotations not in (False, True, "once"):
        raise ValueError(f'rotations must be False, True or "once", got {rotations!r}')
    if rotations and (images.ndim < 4 or images.shape[2] != images.shape[3]):
        raise ValueError(f"rotations need square images, got the shape {images.shape[2:]}")
    classes = len(images) * (TURNS if rotations is True else 1)
    if ways > classes:
        turned = f" ({len(images)} in {TURNS} rotations)" if rotations is True else ""
        raise ValueError(f"{ways} ways need as many classes, the data has {classes}{turned}")
    if pad and counts.min() < 2:
        few = int(counts.argmin())
        raise ValueError(
            "a class needs an image to learn from and one to be judged on, but class "
            f"{few} has {counts[few]}"
        )
    short = np.flatnonzero(counts < shots + queries)
    if len(short) and not pad:
        raise ValueError(
            f"{shots} shots and {queries} queries need {shots + queries} images a class, but "
            f"class {short[0]} has {counts[short[0]]} ({len(short)} classes have too few); "
            "pad=True fills them up with rows of weight 0"
        )
    if np.issubdtype(images.dtype, np.floating):
        present = np.arange(images.shape[1]) < counts[:, None]
        values = images.reshape(*images.shape[:2], -1)
        bad = np.argwhere(~np.isfinite(values).all(axis=-1) & present)
        if len(bad):
            raise ValueError(
                f"{len(bad)} images are not finite, the first is image {bad[0][1]} "
                f"of class {bad[0][0]}"
            )
