"""Omniglot: where it is looked for, how it is read and parted, and episodes of the real data."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metahpo as mh
from metahpo.problems.omniglot_files import SHA256, VARIABLE, read_omniglot
from metahpo.problems.omniglot_splits import members

KEY = jax.random.key(0)
NAMES = [
    *(f"Greek/character{i:02d}" for i in range(1, 5)),
    *(f"Gurmukhi/character{i:02d}" for i in range(40, 44)),
    *(f"Hebrew/character{i:02d}" for i in range(1, 3)),
    *(f"ULOG/character{i:02d}" for i in range(1, 4)),
]
BACKGROUND = ("Greek", "Hebrew")


@pytest.fixture(scope="module")
def ink():
    pixels = np.random.default_rng(0).random((len(NAMES), 20, 28, 28)) < 0.1
    return np.where(pixels, 255, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def packed_file(ink, tmp_path_factory):
    """The npz layout, its classes in an order of its own."""
    folder = tmp_path_factory.mktemp("packed") / "omniglot"
    folder.mkdir()
    order = np.random.default_rng(1).permutation(len(NAMES))
    np.savez(folder / "omniglot28.npz", images=ink[order], names=np.array(NAMES)[order])
    return folder / "omniglot28.npz"


@pytest.fixture(scope="module")
def folders(ink, tmp_path_factory):
    """The layout of the published archives: 105 x 105 pixels, one bit each, black ink."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("folders")
    # A picture of 105 pixels whose nearest neighbours of 28 are the wanted ones.
    nearest = np.minimum(np.arange(105) * 28 // 105, 27)
    for name, drawings in zip(NAMES, ink, strict=True):
        known = name.split("/")[0] in BACKGROUND
        folder = root / ("images_background" if known else "images_evaluation") / name
        folder.mkdir(parents=True)
        for i, drawing in enumerate(drawings[:, nearest][:, :, nearest]):
            image.fromarray(drawing == 0).save(folder / f"0001_{i + 1:02d}.png")
    return root


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_both_layouts_hold_the_same(ink, packed_file, folders):
    one, two = (read_omniglot(place, verify=False) for place in (packed_file, folders))
    assert one.names == two.names == tuple(NAMES)
    np.testing.assert_array_equal(one.images, ink)
    np.testing.assert_array_equal(two.images, ink)
    assert one.sha256 == two.sha256


def test_reduces_pictures_as_pillow_does(tmp_path):
    """The published codes call ``resize`` on one-bit pictures, which takes the nearest pixel."""
    image = pytest.importorskip("PIL.Image")
    paper = np.random.default_rng(2).random((20, 105, 105)) < 0.5
    folder = tmp_path / "images_background" / "Greek" / "character01"
    folder.mkdir(parents=True)
    (tmp_path / "images_evaluation").mkdir()
    for i, drawing in enumerate(paper):
        image.fromarray(drawing).save(folder / f"0394_{i + 1:02d}.png")
    result = read_omniglot(tmp_path, verify=False).images[0]
    for method in ("NEAREST", "LANCZOS"):
        for mine, drawing in zip(result, paper, strict=True):
            small = image.fromarray(drawing).resize((28, 28), getattr(image.Resampling, method))
            np.testing.assert_array_equal(mine == 0, np.asarray(small))


def test_found_by_file_by_folder_and_by_variable(packed_file, folders, monkeypatch, no_variable):
    expected = read_omniglot(packed_file, verify=False).sha256
    for place in (packed_file.parent, packed_file.parent.parent, str(folders)):
        assert read_omniglot(place, verify=False).sha256 == expected
    monkeypatch.setenv(VARIABLE, str(packed_file.parent.parent))
    assert read_omniglot(verify=False).sha256 == expected


def test_says_where_it_looked_and_how_to_get_the_data(tmp_path, monkeypatch, no_variable):
    with pytest.raises(FileNotFoundError, match="neither path nor METAHPO_DATA is given"):
        read_omniglot()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        mh.problems.omniglot(5, 1, network=mh.networks.MLP((4,), (0.0,) * 5))
    for part in (str(tmp_path), VARIABLE, "github.com/brendenlake/omniglot", "images_evaluation",
                 str(tmp_path / "omniglot" / "omniglot28.npz")):  # fmt: skip
        assert part in str(error.value)


def test_other_content_is_refused_unless_wanted(packed_file):
    with pytest.raises(ValueError, match=f"13 characters with the sha256 .* 1623 with {SHA256}"):
        read_omniglot(packed_file)


def test_refuses_broken_files_and_folders(ink, folders, tmp_path):
    np.savez(tmp_path / "a.npz", images=ink)
    with pytest.raises(ValueError, match=r"has no array \['names'\], only \['images'\]"):
        read_omniglot(tmp_path / "a.npz", verify=False)
    np.savez(tmp_path / "b.npz", images=ink[:, :5], names=NAMES)
    with pytest.raises(ValueError, match=r"\(13, 20, 28, 28\), got uint8\s+\(13, 5, 28, 28\)"):
        read_omniglot(tmp_path / "b.npz", verify=False)
    np.savez(tmp_path / "c.npz", images=ink, names=[NAMES[0], *NAMES[:-1]])
    with pytest.raises(ValueError, match="1 names occur more than once"):
        read_omniglot(tmp_path / "c.npz", verify=False)
    short = tmp_path / "images_background" / "Greek" / "character01"
    short.mkdir(parents=True)
    (tmp_path / "images_evaluation").mkdir()
    picture = next((folders / "images_background").rglob("*.png"))
    (short / picture.name).write_bytes(picture.read_bytes())
    with pytest.raises(ValueError, match="holds 1 pictures, expected 20"):
        read_omniglot(tmp_path, verify=False)


def test_vinyals_split_goes_by_alphabet_but_for_one():
    parts = [members(NAMES, "vinyals", part).tolist() for part in ("train", "validation", "test")]
    assert parts == [[0, 1, 2, 3, 4, 5], [8, 9], [6, 7, 10, 11, 12]]


def test_random_split_parts_all_characters_and_shares_alphabets():
    names = [f"Greek/character{i:04d}" for i in range(1623)]
    train, test = (members(names, "random", part) for part in ("train", "test"))
    assert len(train) == 1200 and len(test) == 423
    assert sorted([*train, *test]) == list(range(1623))
    # Shuffled: a run of test characters would be long if the names' order mattered.
    runs = np.sum(np.diff(np.isin(np.arange(1623), test).astype(int)) != 0)
    assert abs(runs - 2 * 1623 * (1200 / 1623) * (423 / 1623)) < 4 * np.sqrt(1623) / 2
    backwards = members(names[::-1], "random", "test")
    assert sorted(1622 - backwards) == test.tolist()  # the order of the names plays no part


@pytest.mark.parametrize(
    ("split", "part", "message"),
    [
        ("vinyals", "val", r"the vinyals split has the parts \('train', .*, got 'val'"),
        ("random", "validation", r"the random split has the parts \('train', 'test'\)"),
        ("lake", "train", r"split must be one of \('vinyals', 'random'\), got 'lake'"),
    ],
)
def test_refuses_unknown_parts(split, part, message):
    with pytest.raises(ValueError, match=message):
        members(NAMES, split, part)


def test_episodes_hold_drawings_of_the_part_with_ink_one(packed_file, ink):
    network = mh.networks.MLP((4,), (0.0,) * 3)
    family = mh.problems.omniglot(
        3, 1, 2, part="test", rotations=False, path=packed_file, network=network, verify=False
    )
    episode = jax.jit(family.sample)(KEY)
    assert episode.query.x.shape == (6, 28, 28, 1) and family.network.init == network.init
    test = {image.tobytes() for image in ink[[6, 7, 10, 11, 12]].reshape(-1, 28, 28)}
    for part in episode:
        for image in np.asarray(part.x[..., 0]):
            assert (255 * image).astype(np.uint8).tobytes() in test
    with pytest.raises(ValueError, match="6 ways need as many classes, the data has 5"):
        mh.problems.omniglot(6, 1, part="test", rotations="once", path=packed_file,
                             network=network, verify=False)  # fmt: skip


def test_default_network_is_the_usual_one(packed_file):
    family = mh.problems.omniglot(5, 1, 1, path=packed_file, verify=False)
    task = jax.eval_shape(family.sample, KEY)
    params = jax.eval_shape(family.init, KEY, task)
    assert params["conv3"]["kernel"].shape == (3, 3, 64, 64)
    assert params["head"]["kernel"].shape == (64, 5)


def real_data():
    """Where the real data set is, if anywhere."""
    for place in (os.environ.get(VARIABLE), Path(mh.__file__).parents[2] / "shared" / "data"):
        if place:
            try:
                return read_omniglot(place)
            except FileNotFoundError:
                continue
    pytest.skip(f"no Omniglot: set {VARIABLE} to a folder that holds it")


def test_real_data_is_the_published_set_in_its_published_parts():
    data = real_data()
    assert data.images.shape == (1623, 20, 28, 28)
    assert set(np.unique(data.images)) == {0, 255} and 0.05 < (data.images > 0).mean() < 0.1
    parts = [members(data.names, "vinyals", part) for part in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1028, 172, 423]
    assert sorted(np.concatenate(parts)) == list(range(1623))


def nearest_pixels(episode):
    """Share of queries whose nearest support image, by cosine and by distance, has their label."""
    support, query = (part.x.reshape(len(part.y), -1) for part in episode)
    product = query @ support.T
    norm = jnp.linalg.norm(support, axis=1)
    cosine, distance = product / norm, norm**2 - 2 * product
    nearest = jnp.stack([cosine.argmax(axis=1), distance.argmin(axis=1)])
    return (episode.support.y[nearest] == episode.query.y).mean(axis=1)


# Drawn and judged by numpy alone, 1,500 episodes of 15 queries a class, 95 % intervals.
@pytest.mark.parametrize(
    ("ways", "cosine", "distance"),
    [(5, (45.81, 0.45), (37.60, 0.43)), (20, (26.11, 0.19), (17.83, 0.16))],
)
def test_nearest_pixels_are_as_often_right_as_in_an_independent_sampler(ways, cosine, distance):
    data = real_data()
    images = data.images[members(data.names, "vinyals", "test")]
    sample = mh.problems.episodes(images, ways, shots=1, queries=5, rotations=True)
    many = jax.jit(lambda keys: jax.lax.map(lambda k: nearest_pixels(sample(k)), keys))
    shares = 100 * np.asarray(many(jax.random.split(KEY, 2000)))
    for values, (mean, half) in zip(shares.T, (cosine, distance), strict=True):
        error = np.hypot(values.std() / np.sqrt(len(values)), half / 1.96)
        assert abs(values.mean() - mean) < 2.6 * error  # 1 % each
