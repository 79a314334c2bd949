"""Makes an ImageSet of images in class folders, root/CLASS/*.jpg, or in such folders for each part, root/train/CLASS/*.jpg."""

from pathlib import Path

import numpy as np

from mmn_jax.data.labels import normal
from mmn_jax.data.longtail import hold_out_test
from mmn_jax.data.parts import by_part, part_of, unused, visible
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.vision.images import ImageSet, image_set, of_files

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def _class_folder(folder):
    """Returns the images of one class, sorted; refuses other files in its folder, except for hidden ones."""
    paths = visible(folder)
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            raise BadInput(f"{path}: not an image ({', '.join(SUFFIXES)}); a class folder holds nothing else")
    if not paths:
        raise BadInput(f"{folder}: no images in this class folder")
    return paths


def _class_folders(root, say):
    """Returns class names, paths and labels of root/CLASS/IMAGE; folders whose names are equal in Unicode's composed form are one class."""
    folders = [path for path in visible(root) if path.is_dir()]
    if not folders:
        raise BadInput(f"{root}: no class folders in it; images lie in {root}/CLASS/IMAGE.jpg")
    loose = [path.name for path in visible(root) if not path.is_dir()]
    if loose:
        say(f"{root}: not used, as not in a class folder: {unused(loose)}")
    found = [_class_folder(folder) for folder in folders]
    own = [normal(folder.name) for folder in folders]
    names = sorted(set(own))
    if len(names) < len(own):
        say(f"{root}: {len(own)} folders are {len(names)} classes, as some names differ only in how Unicode encodes them")
    labels = np.repeat(np.array([names.index(name) for name in own], np.int32), [len(paths) for paths in found])
    return tuple(names), [path for paths in found for path in paths], labels


def _held_out(y, names, share, seed, where):
    """Draws the mask [n] of a share of every class, rounded down, but at least one image."""
    if share is None:
        raise BadInput(f"{where}: has no test folder; give test_share, the share of every class to hold out for testing")
    counts = np.bincount(y)
    if 0 < share < 1 and counts.min() < 2:
        raise BadInput(f"{where}: class {names[int(counts.argmin())]} has a single image, none to hold out for testing")
    return hold_out_test(y, share, seed)


def _holds_folders(folder):
    return any(path.is_dir() for path in visible(folder))


def _part_folders(root, say):
    """Returns the folder of each part; {} if the folders of the root are the classes.

    A folder called train is a part if it holds class folders, and a class (of trains) if it holds images.
    """
    folders = {path: part_of(path.name) for path in visible(root) if path.is_dir()}
    parts = {path: part for path, part in folders.items() if part and _holds_folders(path)}
    if not parts:
        _report_classes(folders, root, say)
        return {}
    if "train" not in parts.values():
        raise BadInput(f"{root}: has {next(iter(parts)).name}, but no train folder with class folders; images lie in {root}/train/CLASS")
    by_part(((part, path.name) for path, part in folders.items() if part), root)
    others = [path.name for path in visible(root) if not folders.get(path)]
    if others:
        say(f"{root}: not used beside its parts: {unused(others)}")
    return {part: path for path, part in folders.items() if part}


def _report_classes(folders, root, say):
    """Reports folders with the name of a part that are taken for classes; refuses them if all folders have such names."""
    called = [path.name for path, part in folders.items() if part]
    if called and len(called) == len(folders):
        raise BadInput(f"{root}: {' and '.join(called)} hold no class folders; images lie in {root}/train/CLASS/IMAGE.jpg")
    if called:
        say(f"{root}: taken for classes, as they hold images and no class folders: {', '.join(called)}")


def image_folder(root: str | Path, test_share: float | None = None, seed: int = 0, say: Say = warn) -> ImageSet:
    """Lists images in class folders: root/train/CLASS/*.jpg, root/test and perhaps root/val, in any usual spelling; or root/CLASS/*.jpg.

    Classes are the folders of the training part in alphabetical order. Hidden files in a class folder are ignored; other files that are no
    images are refused.

    Args:
      root: the folder.
      test_share: the share of every class that is held out for testing if there is no test folder.
      seed: determines which images these are.
      say: reports files and folders that aren't used.

    Raises:
      BadInput: a folder is missing or empty, a class is in val or test alone, a part has two folders, or there is neither a test folder nor
        a test_share.
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
    """Returns the images of a part whose classes are among those of train."""
    own, paths, y = _class_folders(folder, say)
    foreign = [name for name in own if name not in names]
    if foreign:
        raise BadInput(f"{folder / foreign[0]}: no such class in train")
    return of_files(paths, np.array([names.index(name) for name in own])[y])
