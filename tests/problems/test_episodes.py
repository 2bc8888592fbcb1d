"""Draws without replacement, packed images and the episodes made of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import metahpo as mh
from metahpo.problems.distinct import distinct
from metahpo.problems.packed import pack, unpack

KEY = jax.random.key(0)
MANY = 20_000


def numbered(classes, n, shape=(1, 1)):
    """Float images that hold their own class and number."""
    values = 1000.0 * np.arange(classes)[:, None] + np.arange(n)
    return np.broadcast_to(values[..., None, None], (classes, n, *shape)).astype(np.float32)


def draw(sample, count=MANY):
    """Class and number of each image: support and query, i[count, ways, shots or queries]."""
    keys = jax.random.split(KEY, count)
    episode = jax.jit(jax.vmap(sample))(keys)
    ways = int(episode.support.y.max()) + 1
    parts = [np.asarray(part.x).reshape(count, ways, -1).astype(int) for part in episode]
    return [part // 1000 for part in parts], [part % 1000 for part in parts]


def even(counts):
    """Whether counts could come from equally likely cells (chi-square, 0.1 %)."""
    return stats.chisquare(np.asarray(counts).ravel()).pvalue > 1e-3


@pytest.mark.parametrize(("total", "k"), [(5, 3), (4, 4), (7, 2)])
def test_every_ordered_selection_is_equally_likely(total, k):
    words = jax.random.bits(KEY, (60_000, k), jnp.uint32)
    drawn = np.asarray(jax.jit(distinct)(words, jnp.full(60_000, total)))
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert set(map(tuple, found)) == set(itertools.permutations(range(total), k))
    assert even(counts)


def test_decoding_is_the_removal_of_numbers_from_a_list():
    """Also with more draws than the unrolled part of the loop, and totals that differ by row."""
    words = np.asarray(jax.random.bits(KEY, (3, 50), jnp.uint32))
    totals = [50, 64, 1000]
    for row, total, drawn in zip(words, totals, distinct(words, jnp.array(totals)), strict=True):
        left = list(range(total))
        expected = [left.pop(int(word) % (total - i)) for i, word in enumerate(row)]
        assert drawn.tolist() == expected


def test_classes_and_images_are_different_and_support_apart_from_query():
    classes, images = draw(mh.problems.episodes(numbered(9, 6), ways=4, shots=2, queries=3))
    of_image = np.concatenate(classes, axis=-1)
    assert (of_image == of_image[..., :1]).all()  # rows of one label have one class
    assert all(len(set(row)) == 4 for row in of_image[:, :, 0])
    number = np.sort(np.concatenate(images, axis=-1), axis=-1)
    assert (np.diff(number, axis=-1) > 0).all()
    assert number.min() == 0 and number.max() == 5


def test_labels_tell_nothing_of_the_class_and_images_nothing_of_each_other():
    sample = mh.problems.episodes(numbered(6, 5), ways=3, shots=1, queries=2)
    (classes, _), (support, query) = draw(sample)
    for label in range(3):
        assert even(np.bincount(classes[:, label, 0], minlength=6))
    pairs = [6 * classes[:, 0, 0] + classes[:, 1, 0], 6 * classes[:, 2, 0] + classes[:, 1, 0]]
    for pair in pairs:  # all 30 ordered pairs of different classes
        counts = np.bincount(pair, minlength=36).reshape(6, 6)
        assert (np.diag(counts) == 0).all() and even(counts[~np.eye(6, dtype=bool)])
    inside = np.bincount((5 * support[:, 0, 0] + query[:, 0, 1]), minlength=25).reshape(5, 5)
    assert (np.diag(inside) == 0).all() and even(inside[~np.eye(5, dtype=bool)])
    assert even(np.bincount(5 * support[:, 0, 0] + support[:, 1, 0], minlength=25))  # two labels
    assert even(np.bincount(6 * support[:, 0, 0] + classes[:, 0, 0], minlength=30))


def test_rows_are_sorted_by_label():
    episode = jax.jit(mh.problems.episodes(numbered(5, 4), ways=3, shots=2, queries=1))(KEY)
    assert episode.support.y.tolist() == [0, 0, 1, 1, 2, 2]
    assert episode.query.y.tolist() == [0, 1, 2]
    assert episode.support.y.dtype == jnp.int32


def corner_images(classes, n):
    """Bytes whose first corner tells the rotation; the centre of the others holds the class."""
    images = np.zeros((classes, n, 3, 3), np.uint8)
    images[:, :, 0, 0] = 200
    images[:, :, 1, 1] = np.arange(1, classes + 1)[:, None]
    return images


def turns_and_classes(rotations, classes=4, ways=3):
    images = corner_images(classes, 3)
    sample = mh.problems.episodes(images, ways, shots=1, queries=1, rotations=rotations, scale=1.0)
    episode = jax.jit(jax.vmap(sample))(jax.random.split(KEY, MANY))
    parts = [np.asarray(part.x).astype(int) for part in episode]
    angles = [np.rot90(images[0, 0], turn) > 100 for turn in range(4)]
    found = [
        np.argmax([(part * angle).sum((-1, -2)) > 100 for angle in angles], axis=0)
        for part in parts
    ]
    assert all(((part > 100).sum((-1, -2)) == 1).all() for part in parts)
    np.testing.assert_array_equal(found[0], found[1])  # support and query are turned alike
    return found[0], parts[0][..., 1, 1] - 1


def test_each_rotation_is_a_class_of_its_own():
    turn, of_class = turns_and_classes(rotations=True)
    pair = 4 * of_class + turn
    for label in range(3):
        assert even(np.bincount(pair[:, label], minlength=16))
    both = np.bincount(16 * pair[:, 0] + pair[:, 1], minlength=256).reshape(16, 16)
    # Two rotations of one class meet as often as any two classes; one class never meets itself.
    assert (np.diag(both) == 0).all() and even(both[~np.eye(16, dtype=bool)])


def test_once_turns_a_class_but_never_shows_it_twice():
    turn, of_class = turns_and_classes(rotations="once")
    assert all(len(set(row)) == 3 for row in of_class)
    for label in range(3):
        assert even(np.bincount(4 * of_class[:, label] + turn[:, label], minlength=16))
    assert even(np.bincount(4 * turn[:, 0] + turn[:, 1], minlength=16))


@pytest.mark.parametrize("shape", [(28, 28), (3, 5, 2), (1,)])
@pytest.mark.parametrize("kind", ["ink", "bytes", "bool", "floats"])
def test_packed_images_come_back_as_they_were(kind, shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, *shape), np.uint8)
    expected = images / 255
    if kind == "ink":
        images = np.where(images > 127, 255, 0).astype(np.uint8)
        expected = images / 255
    elif kind == "bool":
        images = expected = images > 127
    elif kind == "floats":
        images = expected = rng.normal(size=images.shape).astype(np.float32)
    packed, index = pack(images), np.array([6, 0, 3, 3])
    assert packed.bits == {"ink": 1, "bool": 1, "bytes": 8, "floats": 0}[kind]
    result = unpack(packed, index)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected[index], rtol=1e-7)


def test_one_bit_a_pixel_is_an_eighth_of_the_memory():
    images = np.zeros((10, 32, 32), np.uint8)
    images[:, 0] = 255
    assert pack(images).rows.nbytes == images.nbytes // 8
    images[0, 0, 0] = 7
    assert pack(images).rows.nbytes == images.nbytes


def test_full_ink_is_exactly_one_and_scale_replaces_it():
    images = np.full((3, 4, 2, 2), 255, np.uint8)
    images[:, :, 0] = 16  # so that a byte a pixel is kept
    episode = jax.jit(mh.problems.episodes(images, 2, 1, 1))(KEY)
    assert set(np.unique(episode.support.x).tolist()) == {np.float32(16 / 255), 1.0}
    episode = jax.jit(mh.problems.episodes(images, 2, 1, 1, scale=1 / 16))(KEY)
    assert set(np.unique(episode.query.x).tolist()) == {1.0, 255 / 16}


def test_double_precision_stays_double():
    full = np.full((3, 4, 2, 2), 255, np.uint8)
    with jax.enable_x64(True):
        episode = jax.jit(mh.problems.episodes(full, 2, 1, 1))(KEY)
        floats = jax.jit(mh.problems.episodes(np.ones((3, 4, 2, 2)), 2, 1, 1))(KEY)
    assert episode.query.x.dtype == floats.query.x.dtype == jnp.float64
    assert episode.support.y.dtype == jnp.int32


@pytest.mark.parametrize("layout", ["padded", "sequence"])
def test_classes_of_different_size_use_all_their_images_and_no_padding(layout):
    sizes = np.array([3, 7, 4])
    images = numbered(3, 7)
    if layout == "sequence":
        parts = [part[:size] for part, size in zip(images, sizes, strict=True)]
        sample = mh.problems.episodes(parts, ways=2, shots=1, queries=2)
    else:
        sample = mh.problems.episodes(images, ways=2, shots=1, queries=2, counts=sizes)
    classes, numbers = (np.concatenate(parts, axis=-1) for parts in draw(sample))
    for label, size in enumerate(sizes):
        counts = np.bincount(numbers[classes == label])
        assert len(counts) == size and even(counts)


def test_same_key_same_episode_under_jit_and_vmap():
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 4, 4), np.uint8)
    sample = mh.problems.episodes(images, 3, 2, 2, rotations=True)
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(sample))(keys)
    for i, key in enumerate(keys):
        one = sample(key)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(a, b[i])


GOOD = {"images": np.zeros((5, 6, 4, 4), np.uint8), "ways": 3, "shots": 1, "queries": 2}
NOT_FINITE = np.zeros((5, 6, 4, 4))
NOT_FINITE[3, 2, 1, 1] = np.nan
BAD = [
    ({"ways": 6}, "6 ways need as many classes, the data has 5"),
    ({"ways": 21, "rotations": True}, r"21 ways .* the data has 20 \(5 in 4 rotations\)"),
    ({"ways": 6, "rotations": "once"}, "6 ways need as many classes, the data has 5"),
    ({"shots": 5}, r"5 shots and 2 queries need 7 images a class, but class 0 has 6 \(5 classes"),
    ({"counts": [6, 6, 2, 6, 1]}, r"need 3 images a class, but class 2 has 2 \(2 classes"),
    ({"counts": [6, 6]}, r"counts has the shape \(2,\), but images 5 classes"),
    ({"counts": [6, 6, 6, 6, 7]}, "counts lie between 6 and 7, but images holds 6"),
    ({"images": [np.zeros((4, 2)), np.zeros((4, 3))]}, "images of one shape and type, got"),
    ({"images": [np.zeros((4, 2))] * 3, "counts": [4, 4, 4]}, "a sequence of arrays has its own"),
    ({"images": np.zeros((5, 6))}, r"must be \[classes, n, ...\], got the shape \(5, 6\)"),
    ({"images": np.zeros((5, 6, 2), np.int32)}, "must be uint8, bool or floats, got int32"),
    ({"images": NOT_FINITE}, "1 images are not finite, the first is image 2 of class 3"),
    ({"images": np.zeros((5, 6, 4, 3)), "rotations": True}, r"square images, .* \(4, 3\)"),
    ({"rotations": "twice"}, "rotations must be False, True or \"once\", got 'twice'"),
    ({"ways": 1}, "ways must be a whole number of at least 2, got 1"),
    ({"shots": 0}, "shots must be a whole number of at least 1, got 0"),
    ({"queries": 0}, "queries must be a whole number of at least 1, got 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_refuses_what_the_data_cannot_give(change, message):
    with pytest.raises(ValueError, match=message):
        mh.problems.episodes(**GOOD | change)


def test_padding_may_hold_anything():
    mh.problems.episodes(NOT_FINITE, 3, 1, 1, counts=np.array([6, 6, 6, 2, 6]))


def test_classes_with_too_few_images_are_filled_up_with_rows_of_weight_0():
    sizes = np.array([2, 3, 5, 9])
    images = [np.full((n, 2), 10.0 * c) + np.arange(n)[:, None] for c, n in enumerate(sizes)]
    sample = mh.problems.episodes(images, ways=3, shots=2, queries=4, pad=True)
    seen = set()
    for key in jax.random.split(jax.random.key(0), 40):
        support, query = jax.jit(sample)(key)
        mh.problems.check_episode(mh.problems.Episode(support, query), ways=3)
        for label in range(3):
            own = [part.x[(part.y == label) & (part.weight > 0), 0] for part in (support, query)]
            drawn = np.concatenate(own)
            c = int(drawn[0] // 10)
            assert len(set(drawn.tolist())) == len(drawn) == min(sizes[c], 6)
            assert len(own[0]) == min(2, sizes[c] - 1) and set(drawn // 10) == {c}
            seen.update(drawn.tolist())
    assert len(seen) == sizes.sum()  # every image comes up
    with pytest.raises(ValueError, match="class 0 has 1"):
        mh.problems.episodes([np.zeros((1, 2)), *images], 2, 1, 1, pad=True)
