"""Images in class folders, root/CLASS/*.jpg → ImageSet."""

from pathlib import Path

import numpy as np

from mmn_jax.data.images import ImageSet, image_set, of_files
from mmn_jax.data.longtail import random_ranks
from mmn_jax.keys import stream
from mmn_jax.types import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _class_folder(folder):
    """The images of one class, sorted; anything else in its folder, hidden files apart, is refused and not skipped."""
    paths = _visible(folder)
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            raise BadInput(f"{path}: not an image ({', '.join(SUFFIXES)}); a class folder holds nothing else")
    if not paths:
        raise BadInput(f"{folder}: no images in this class folder")
    return paths


def _class_folders(root):
    """(class names, paths, labels) of root/class/image."""
    folders = [path for path in _visible(root) if path.is_dir()]
    if not folders:
        raise BadInput(f"{root}: no class folders in it; images lie in {root}/CLASS/IMAGE.jpg")
    found = [_class_folder(folder) for folder in folders]
    labels = np.repeat(np.arange(len(found), dtype=np.int32), [len(paths) for paths in found])
    return tuple(folder.name for folder in folders), [path for paths in found for path in paths], labels


def _held_out(y, names, share, seed, where):
    """[n] a random share of every class, rounded down but at least one image."""
    if share is None:
        raise BadInput(f"{where}: has no test folder; give test_share, the share of every class to hold out for testing")
    if not 0 < share < 1:
        raise BadInput(f"test_share: must be above 0 and below 1, it is {share}")
    counts = np.bincount(y)
    if counts.min() < 2:
        raise BadInput(f"{where}: class {names[int(counts.argmin())]} has a single image, none to hold out for testing")
    return random_ranks(stream(seed, "test share"), y) < np.maximum((share * counts).astype(int), 1)[y]


def image_folder(root: str | Path, test_share: float | None = None, seed: int = 0) -> ImageSet:
    """Images in class folders: root/train/CLASS/*.jpg with root/test, perhaps root/val or root/validation, or root/CLASS/*.jpg.

    Where there is no test folder, `test_share` of every class is held out, drawn by `seed`. Classes are the folders of the
    training part in alphabetical order. In a class folder hidden files are passed over, any other file that is no image is refused.

    Raises:
      BadInput: no such folder, an empty class, a class that only val or test has, or neither a test folder nor a test_share.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder")
    parted = (root / "train").is_dir()
    names, paths, y = _class_folders(root / "train" if parted else root)

    def given(*folders):
        there = [root / folder for folder in folders if parted and (root / folder).is_dir()]
        return _like_train(there[0], names) if there else None

    val, test = given("val", "validation"), given("test")
    train = of_files(paths, y)
    if test is None:
        held = _held_out(y, names, test_share, seed, root)
        train, test = (of_files(np.array(paths, object)[mask], y[mask]) for mask in (~held, held))
    return image_set(root.absolute().name, {"train": train, "val": val, "test": test}, names, root)


def _like_train(folder, names):
    """The images of a part whose classes are among those of train."""
    own, paths, y = _class_folders(folder)
    foreign = [name for name in own if name not in names]
    if foreign:
        raise BadInput(f"{folder / foreign[0]}: no such class in train")
    return of_files(paths, np.array([names.index(name) for name in own])[y])
