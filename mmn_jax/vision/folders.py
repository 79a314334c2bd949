"""Images in class folders, root/CLASS/*.jpg, or in a folder of them for each part, root/train/CLASS/*.jpg → ImageSet."""

from pathlib import Path

import numpy as np

from mmn_jax.data.labels import normal
from mmn_jax.data.longtail import random_ranks
from mmn_jax.data.parts import by_part, part_of, unused, visible
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.rng import stream
from mmn_jax.vision.images import ImageSet, image_set, of_files

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def _class_folder(folder):
    """The images of one class, sorted; anything else in its folder, hidden files apart, is refused and not skipped."""
    paths = visible(folder)
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            raise BadInput(f"{path}: not an image ({', '.join(SUFFIXES)}); a class folder holds nothing else")
    if not paths:
        raise BadInput(f"{folder}: no images in this class folder")
    return paths


def _class_folders(root, say):
    """(class names, paths, labels) of root/class/image; folders whose names are the same in Unicode's composed form are one class."""
    folders = [path for path in visible(root) if path.is_dir()]
    if not folders:
        raise BadInput(f"{root}: no class folders in it; images lie in {root}/CLASS/IMAGE.jpg")
    loose = [path.name for path in visible(root) if not path.is_dir()]
    if loose:
        say(f"{root}: not used, as it lies in no class folder: {unused(loose)}")
    found = [_class_folder(folder) for folder in folders]
    own = [normal(folder.name) for folder in folders]
    names = sorted(set(own))
    if len(names) < len(own):
        say(f"{root}: {len(own)} folders are {len(names)} classes, as some names differ by how Unicode writes them alone")
    labels = np.repeat(np.array([names.index(name) for name in own], np.int32), [len(paths) for paths in found])
    return tuple(names), [path for paths in found for path in paths], labels


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


def _holds_folders(folder):
    return any(path.is_dir() for path in visible(folder))


def _part_folders(root, say):
    """part → its folder; {} where the folders of the root are classes themselves.

    A folder called train holds class folders where it is a part, and images where it is a class, as one of trains would.
    """
    folders = {path: part_of(path.name) for path in visible(root) if path.is_dir()}
    parts = {path: part for path, part in folders.items() if part and _holds_folders(path)}
    if not parts:
        _tell_classes(folders, root, say)
        return {}
    if "train" not in parts.values():
        raise BadInput(f"{root}: has {next(iter(parts)).name}, but no train folder with class folders; images lie in {root}/train/CLASS")
    by_part(((part, path.name) for path, part in folders.items() if part), root)
    others = [path.name for path in visible(root) if not folders.get(path)]
    if others:
        say(f"{root}: not used beside its parts: {unused(others)}")
    return {part: path for path, part in folders.items() if part}


def _tell_classes(folders, root, say):
    """Says which folders that are called like parts are taken for classes; refuses where all of them are."""
    called = [path.name for path, part in folders.items() if part]
    if called and len(called) == len(folders):
        raise BadInput(f"{root}: {' and '.join(called)} hold no class folders; images lie in {root}/train/CLASS/IMAGE.jpg")
    if called:
        say(f"{root}: taken for classes beside the others, as images lie in them and no class folders: {', '.join(called)}")


def image_folder(root: str | Path, test_share: float | None = None, seed: int = 0, say: Say = warn) -> ImageSet:
    """Images in class folders: root/train/CLASS/*.jpg with root/test, perhaps root/val, or root/CLASS/*.jpg; parts in any usual spelling.

    Where there is no test folder, `test_share` of every class is held out, drawn by `seed`. Classes are the folders of the
    training part in alphabetical order. In a class folder hidden files are passed over, any other file that is no image is refused.
    say: of what lies there and isn't used.

    Raises:
      BadInput: no such folder, an empty class, a class that only val or test has, two folders of one part, or neither a test folder
        nor a test_share.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadInput(f"{root}: no such folder")
    there = _part_folders(root, say)
    names, paths, y = _class_folders(there.get("train", root), say)
    val, test = (_like_train(there[part], names, say) if part in there else None for part in ("val", "test"))
    train = of_files(paths, y)
    if test is None:
        held = _held_out(y, names, test_share, seed, root)
        train, test = (of_files(np.array(paths, object)[mask], y[mask]) for mask in (~held, held))
    elif test_share is not None:
        say(f"--config.data.test_share: not used, as {there['test']} holds the test images")
    return image_set(root.absolute().name, {"train": train, "val": val, "test": test}, names, root)


def _like_train(folder, names, say):
    """The images of a part whose classes are among those of train."""
    own, paths, y = _class_folders(folder, say)
    foreign = [name for name in own if name not in names]
    if foreign:
        raise BadInput(f"{folder / foreign[0]}: no such class in train")
    return of_files(paths, np.array([names.index(name) for name in own])[y])
