"""Reading Omniglot (Lake, Salakhutdinov & Tenenbaum 2015) from where a user keeps it.

1,623 characters of 50 alphabets, each drawn by the same number of people, 20.  Nothing is
downloaded.
"""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metahpo._extras import require

VARIABLE = "METAHPO_DATA"
SIDE, DRAWERS = 28, 20
PARTS = ("images_background", "images_evaluation")
PACKED = "omniglot28.npz"
SHA256 = "db35a98013dddc97065118326f4b1ae3167cea8ccaf59aa5392d8a3a5aff295a"
LAYOUT = f"""Expected is one of
  DIR/images_background/Alphabet/characterNN/NNNN_NN.png and DIR/images_evaluation/... , the two
    unpacked archives of https://github.com/brendenlake/omniglot (folder python), any size of image
  DIR/omniglot/... or DIR/omniglot-py/... with the same content
  DIR/{PACKED} or DIR/omniglot/{PACKED} with the arrays images uint8 [classes, 20, 28, 28]
    (ink 255, paper 0) and names [classes] ('Alphabet/characterNN')
where DIR, or the npz file itself, is the argument path or the environment variable {VARIABLE}."""


class OmniglotImages(NamedTuple):
    """The data set, sorted by name.

    Attributes:
        images: ``u8[classes, 20, 28, 28]``, ink 255 on paper 0.
        names: ``'Alphabet/characterNN'``, one a class.
        sha256: of names and pixels, the same for both layouts.
    """

    images: np.ndarray
    names: tuple[str, ...]
    sha256: str


def read_omniglot(path: str | Path | None = None, *, verify: bool = True) -> OmniglotImages:
    """Reads all of Omniglot from the folders of pictures or from the packed file.

    Pictures of another size are reduced to 28 x 28 by taking the nearest pixel, as in the codes
    of MAML, Reptile, MAML++ and prototypical networks.  Their 32,460 files take a while, but only
    once a process: the result is remembered.

    Args:
        path: folder or npz file; by default the environment variable ``METAHPO_DATA``.
        verify: refuse content that differs from the published data set.

    Raises:
        FileNotFoundError: if there is no such data; the message says where it was looked for,
            where to get it and how to lay it out.
        ValueError: if the content is not what it should be.
        ImportError: without Pillow (extra ``data``), for the folders of pictures.
    """
    found = _read(*_find(path))
    if verify and found.sha256 != SHA256:
        raise ValueError(
            f"this is not the published Omniglot: {len(found.names)} characters with the sha256 "
            f"{found.sha256}, expected 1623 with {SHA256} (verify=False takes it nevertheless)"
        )
    return found


def _find(path: str | Path | None) -> tuple[Path, int]:
    """The npz file, or the folder that holds ``PARTS``, and when it was last changed."""
    source = "path" if path is not None else VARIABLE
    given = os.environ.get(VARIABLE) if path is None else path
    if not given:
        raise FileNotFoundError(f"no Omniglot: neither path nor {VARIABLE} is given.\n{LAYOUT}")
    root = Path(given).expanduser()
    folders = [root, root / "omniglot", root / "omniglot-py"]
    files = [root] if root.suffix == ".npz" else [folder / PACKED for folder in folders]
    for file in files:
        if file.is_file():
            return file, file.stat().st_mtime_ns
    for folder in folders:
        if all((folder / part).is_dir() for part in PARTS):
            return folder, folder.stat().st_mtime_ns
    looked = ", ".join(str(place) for place in (*files, *(f / PARTS[0] for f in folders)))
    raise FileNotFoundError(f"no Omniglot at {root} ({source}); looked for {looked}.\n{LAYOUT}")


@cache
def _read(place: Path, changed: int) -> OmniglotImages:
    del changed  # only tells versions of one file apart
    images, names = _from_file(place) if place.is_file() else _from_folders(place)
    expected = (len(names), DRAWERS, SIDE, SIDE)
    if images.shape != expected or images.dtype != np.uint8:
        raise ValueError(f"{place}: images must be uint8 {expected}, got {images.dtype} "
                         f"{images.shape}")  # fmt: skip
    if len(set(names)) < len(names):
        raise ValueError(f"{place}: {len(names) - len(set(names))} names occur more than once")
    order = sorted(range(len(names)), key=names.__getitem__)
    images, names = images[order], [names[i] for i in order]
    images.flags.writeable = False
    digest = hashlib.sha256("\n".join(names).encode() + images.tobytes()).hexdigest()
    return OmniglotImages(images, tuple(names), digest)


def _from_file(file: Path) -> tuple[np.ndarray, list[str]]:
    with np.load(file) as content:
        missing = {"images", "names"} - set(content.files)
        if missing:
            raise ValueError(f"{file} has no array {sorted(missing)}, only {content.files}")
        return content["images"], content["names"].tolist()


def _from_folders(root: Path) -> tuple[np.ndarray, list[str]]:
    characters = sorted(folder for part in PARTS for folder in (root / part).glob("*/character*"))
    if not characters:
        raise FileNotFoundError(f"no folders {root}/{PARTS[0]}/*/character*.\n{LAYOUT}")
    images = [_character(folder) for folder in characters]
    return np.stack(images), [f"{folder.parent.name}/{folder.name}" for folder in characters]


def _character(folder: Path) -> np.ndarray:
    """All drawings of one character ``u8[20, 28, 28]``, in the order of the file names."""
    files = sorted(folder.glob("*.png"))
    if len(files) != DRAWERS:
        raise ValueError(f"{folder} holds {len(files)} pictures, expected {DRAWERS}")
    return np.stack([_picture(file) for file in files])


def _picture(file: Path) -> np.ndarray:
    with require("PIL.Image", "data").open(file) as picture:
        paper = np.asarray(picture.convert("L")) > 127
    ink = np.where(paper, np.uint8(0), np.uint8(255))
    # The pixel under the centre of each new pixel: floor((i + 1/2) * size / 28) in integers.
    rows, columns = (((2 * np.arange(SIDE) + 1) * size) // (2 * SIDE) for size in ink.shape)
    return ink[np.ix_(rows, columns)]
