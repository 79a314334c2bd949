"""Makes an ImageSet of list files that have a line `path label` for each image, as those of ImageNet-LT and Places-LT."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.checks import MAX_CLASSES, check_labels
from mmn_jax.data.parts import part_of, parts_in, visible
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.vision.images import ImageSet, image_set, of_files


class Published(NamedTuple):
    """Known counts of a published long-tailed set: its classes, the images of each part, and those of its largest and smallest class."""

    classes: int
    images: dict[str, int]
    largest: int
    smallest: int


PUBLISHED = {
    "imagenet_lt": Published(1000, {"train": 115_846, "val": 20_000, "test": 50_000}, 1280, 5),
    "places_lt": Published(365, {"train": 62_500, "val": 7_300, "test": 36_500}, 4980, 5),
}


def _parse_line(line, where):
    """Returns path and label of a line `path label`; refuses a path that leads out of the root folder."""
    words = line.rsplit(maxsplit=1)
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit()):
        raise BadInput(f"{where}: {line[:60]!r} is not `path label`, the label an integer from 0")
    parts = words[0].replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts:
        raise BadInput(f"{where}: {words[0][:60]!r} leads out of the root folder")
    if len(words[1]) > 9 or int(words[1]) >= MAX_CLASSES:
        raise BadInput(f"{where}: label {words[1][:20]} is too large; labels are 0 to C - 1, C at most {MAX_CLASSES}")
    return words[0], int(words[1])


def read_list(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Reads the paths, below the root folder, and labels (int32) of a text file with a line `path label` for each image.

    Raises:
      BadInput: the file or a line can't be used; the message names it.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as text") from error
    rows = [_parse_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    if not rows:
        raise BadInput(f"{path}: no images listed")
    return [row[0] for row in rows], np.array([row[1] for row in rows], np.int32)


def check_published(path: str | Path, part: str, y: np.ndarray) -> None:
    """Checks that a list whose file name begins with ImageNet_LT or Places_LT has the published counts; other lists pass.

    Args:
      path: the file.
      part: train, val or test.
      y: [n] its labels.

    Raises:
      BadInput: the numbers of images, of classes, or of images in the largest or smallest class of train differ.
    """
    known = next((PUBLISHED[key] for key in PUBLISHED if Path(path).name.lower().replace("-", "_").startswith(key)), None)
    if known is None:
        return
    counts = np.bincount(y)
    compared = [("images", len(y), known.images[part]), ("classes", (counts > 0).sum(), known.classes)]
    if part == "train":
        compared += [("images in its largest class", counts.max(), known.largest), ("in its smallest", counts.min(), known.smallest)]
    for what, there, published in compared:
        if there != published:
            raise BadInput(f"{path}: {there} {what}, the published list has {published}; a list of your own needs another name")


def _label_of_folder(paths, y):
    """Returns the label of each class folder, if each folder of a list has one label and each label one folder; else {}."""
    pairs = {(Path(path.replace("\\", "/")).parent.name, int(label)) for path, label in zip(paths, y, strict=True)}
    folders, labels = {folder for folder, _ in pairs}, {label for _, label in pairs}
    return dict(pairs) if len(pairs) == len(folders) == len(labels) > 1 else {}


def check_alike(rows: Mapping[str, tuple[list[str], np.ndarray]], lists: Mapping[str, str | Path | None]) -> None:
    """Checks that lists whose images are in class folders have the same label for a folder.

    Args:
      rows: paths and labels of each part.
      lists: the files of the parts, for messages.

    Raises:
      BadInput: they don't; the message names both lists and the folder.
    """
    known = _label_of_folder(*rows["train"])
    for part, own in rows.items():
        for folder, label in sorted(_label_of_folder(*own).items()):
            if known.get(folder, label) != label:
                fact = f"{lists[part]}: images in {folder} have label {label}, but {known[folder]} in {lists['train']}"
                raise BadInput(f"{fact}; labels must mean the same in all lists")


def _report_overlooked(lists, say):
    """Reports a validation list that lies beside that of train, with a similar name, and isn't used."""
    train = Path(lists["train"])
    words = [word for _, word in parts_in(train.stem)]
    if lists["val"] is not None or len(words) != 1 or not train.parent.is_dir():
        return
    before, _, after = train.name.partition(words[0])
    for path in visible(train.parent):
        found = re.fullmatch(f"{re.escape(before)}([A-Za-z]+){re.escape(after)}", path.name)
        if found and part_of(found[1]) == "val":
            say(f"{path}: not used; to validate on it, give --config.data.lists.val={path}")


def list_files(
    root: str | Path,
    train_list: str | Path,
    val_list: str | Path | None,
    test_list: str | Path,
    class_names: tuple[str, ...] | None = None,
    say: Say = warn,
) -> ImageSet:
    """Lists images by files with a line `path label` for each, as those of ImageNet-LT and Places-LT, whose counts are checked.

    Args:
      root: the folder that paths start from.
      train_list: the file of the training images.
      val_list: that of the validation images, None if there are none.
      test_list: that of the test images.
      class_names: the names of the classes; by default the labels themselves.
      say: reports a list that lies beside the others and isn't used.

    Raises:
      BadInput: a line is malformed, a path leads out of the root folder, a label is not in train or belongs to another class folder there,
        or an image is missing.
    """
    root = Path(root)
    lists = {"train": train_list, "val": val_list, "test": test_list}
    rows = {part: read_list(path) for part, path in lists.items() if path is not None}
    _report_overlooked(lists, say)
    for part, (_, y) in rows.items():
        check_published(str(lists[part]), part, y)
    check_alike(rows, lists)
    names = class_names or tuple(str(c) for c in range(int(rows["train"][1].max()) + 1))
    for part, (_, y) in rows.items():
        if y.max() >= len(names):
            raise BadInput(f"{lists[part]}, line {int(y.argmax()) + 1}: label {y.max()}, but there are {len(names)} classes")
    for part, (paths, y) in rows.items():
        check_labels({"train": rows["train"][1], part: y}, names, train_list)
        missing = next((path for path in paths if not os.path.isfile(root / path)), None)
        if missing is not None:
            raise BadInput(f"{root / missing}: no such file, but {lists[part]} lists it")
    parts = {"val": None} | {part: of_files([root / path for path in paths], y) for part, (paths, y) in rows.items()}
    return image_set(Path(train_list).stem, parts, names, train_list, say)
