"""Sources of images: a folder of class folders, list files, a prepared TFDS data set → ImageSet, read one image at a time.

Nothing is decoded before it is asked for. Features are made of them by mmn_jax/features.py.
"""

import hashlib
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmn_jax.data.features import MAX_CLASSES, check_labels
from mmn_jax.data.longtail import random_ranks
from mmn_jax.keys import stream
from mmn_jax.types import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Images(NamedTuple):
    """load: index → uint8 [H, W, 3], or BadInput naming an image that is missing or broken; worker processes may have it.
    y: [n] int32 labels in 0..C-1. version: tells these images from others without decoding them."""

    load: Callable[[int], np.ndarray]
    y: np.ndarray
    version: str = ""


PARTS = ("train", "val", "test")  # of an ImageSet


class ImageSet(NamedTuple):
    """Images as their source gives them; val is None where it has no validation images."""

    name: str
    train: Images
    val: Images | None
    test: Images
    class_names: tuple[str, ...]


class Published(NamedTuple):
    """What a published long-tailed set is known to hold."""

    classes: int
    images: dict[str, int]
    largest: int
    smallest: int


PUBLISHED = {
    "imagenet_lt": Published(1000, {"train": 115_846, "val": 20_000, "test": 50_000}, 1280, 5),
    "places_lt": Published(365, {"train": 62_500, "val": 7_300, "test": 36_500}, 4980, 5),
}


def decode(source: str | Path | bytes, where: str) -> np.ndarray:
    """uint8 [H, W, 3] of an image file or its content; grey and palette images become RGB, transparency is dropped.

    Raises:
      BadInput: `where` is missing, broken or no image.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise BadInput(f"{where}: images are read by Pillow, which is not installed; pip install 'mmn_jax[images]'") from error
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise BadInput(f"{where}: no such file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{where}: broken, or not an image") from error


def _load_file(paths: tuple[str, ...], index: int) -> np.ndarray:
    return decode(paths[index], paths[index])


def _stamp(paths):
    """SHA-256 of the files' names within their folders, sizes and times: reading them all would take as long as the features."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise BadInput(f"{path}: no such file") from error
        digest.update(repr((Path(path).parts[-2:], status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def _files(paths, labels):
    paths = tuple(map(str, paths))
    return Images(partial(_load_file, paths), np.asarray(labels, np.int32), _stamp(paths))


def _image_set(name, parts, class_names, where):
    """An ImageSet whose labels fit together."""
    for part, images in parts.items():
        if images is not None and len(images.y) == 0:
            raise BadInput(f"{where}: no images for {part}")
    check_labels({part: images.y for part, images in parts.items() if images is not None}, class_names, where)
    return ImageSet(name, parts["train"], parts["val"], parts["test"], class_names)


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
    train = _files(paths, y)
    if test is None:
        held = _held_out(y, names, test_share, seed, root)
        train, test = (_files(np.array(paths, object)[mask], y[mask]) for mask in (~held, held))
    return _image_set(root.absolute().name, {"train": train, "val": val, "test": test}, names, root)


def _like_train(folder, names):
    """The images of a part whose classes are among those of train."""
    own, paths, y = _class_folders(folder)
    foreign = [name for name in own if name not in names]
    if foreign:
        raise BadInput(f"{folder / foreign[0]}: no such class in train")
    return _files(paths, np.array([names.index(name) for name in own])[y])


def _parse_line(line, where):
    """(path, label) of a line `path label`; the path stays below the root."""
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
    """(paths below the root folder, [n] int32 labels) of a text file with a line `path label` an image.

    Raises:
      BadInput: naming the file and the line.
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
    """The labels [n] of a list whose file name begins with ImageNet_LT or Places_LT are as many as published; other lists pass.

    Raises:
      BadInput: another number of images, of classes, or of images in the largest or smallest class of train.
    """
    known = next((PUBLISHED[key] for key in PUBLISHED if Path(path).name.lower().replace("-", "_").startswith(key)), None)
    if known is None:
        return
    counts = np.bincount(y)
    told = [("images", len(y), known.images[part]), ("classes", (counts > 0).sum(), known.classes)]
    if part == "train":
        told += [("images in its largest class", counts.max(), known.largest), ("in its smallest", counts.min(), known.smallest)]
    for what, there, published in told:
        if there != published:
            raise BadInput(f"{path}: {there} {what}, the published list has {published}; a list of your own needs another name")


def list_files(
    root: str | Path, train_list: str | Path, val_list: str | Path | None, test_list: str | Path, class_names: tuple[str, ...] | None = None
) -> ImageSet:
    """Images below `root` by list files with a line `path label` an image, as those of ImageNet-LT and Places-LT.

    The counts of these two sets are checked where a file name begins with theirs. class_names: by default the labels themselves.

    Raises:
      BadInput: naming the list and line, a path that leads out of the root folder, a label that train has not, or a missing image.
    """
    root = Path(root)
    lists = {"train": train_list, "val": val_list, "test": test_list}
    rows = {part: read_list(path) for part, path in lists.items() if path is not None}
    for part, (_, y) in rows.items():
        check_published(str(lists[part]), part, y)
    names = class_names or tuple(str(c) for c in range(int(rows["train"][1].max()) + 1))
    for part, (_, y) in rows.items():
        if y.max() >= len(names):
            raise BadInput(f"{lists[part]}, line {int(y.argmax()) + 1}: label {y.max()}, but there are {len(names)} classes")
    for part, (paths, y) in rows.items():
        check_labels({"train": rows["train"][1], part: y}, names, train_list)
        missing = next((path for path in paths if not os.path.isfile(root / path)), None)
        if missing is not None:
            raise BadInput(f"{root / missing}: no such file, but {lists[part]} lists it")
    parts = {"val": None} | {part: _files([root / path for path in paths], y) for part, (paths, y) in rows.items()}
    return _image_set(Path(train_list).stem, parts, names, train_list)


def _load_record(source: Any, key: str, where: str, index: int) -> np.ndarray:
    return decode(source[index][key], f"{where}, image {index}")


def _first_line(error):
    """What TFDS says first; after it comes every data set that it knows."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def _builder(name, data_dir):
    """The builder of a data set that is prepared in data_dir."""
    where = f"{data_dir}: data set {name}"
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(name, data_dir=data_dir)
    except ImportError as error:
        raise BadInput(f"{where} needs {error.name}, which is not installed; pip install 'mmn_jax[images]'") from error
    except Exception as error:  # a builder is anybody's code
        raise BadInput(f"{where} cannot be used ({_first_line(error)})") from error
    if not builder.info.splits:
        raise BadInput(f"{where} is not prepared there; where TensorFlow is, run: tfds build {name} --file_format=array_record")
    return builder


def _keys(builder, where):
    """(image, label) names of the two features."""
    from tensorflow_datasets import features as kinds

    image, label = (builder.info.supervised_keys or ("image", "label"))[:2]
    there = dict(builder.info.features.items())
    if not (isinstance(there.get(image), kinds.Image) and isinstance(there.get(label), kinds.ClassLabel)):
        raise BadInput(f"{where} has no image with a class label; it has {', '.join(there)}")
    return image, label


def _tfds_part(builder, split, keys, where):
    """Images of a split, kept encoded until they are asked for."""
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split=split, decoders={keys[0]: tfds.decode.SkipDecoding()})
        y = np.array([source[i][keys[1]] for i in range(len(source))], np.int32)
    except Exception as error:  # an unknown split, TFRecord files, a damaged file: TFDS has no error of its own for them
        raise BadInput(f"{where}, split {split} ({_first_line(error)})") from error
    if len(y) and y.min() < 0:
        raise BadInput(f"{where}, split {split}: image {int(y.argmin())} has no label")
    return Images(partial(_load_record, source, keys[0], f"{where}, split {split}"), y, f"{builder.info.full_name} {split} {len(y)}")


def tfds_source(name: str, data_dir: str | Path, splits: dict[str, str] | None = None) -> ImageSet:
    """Images of a TFDS data set prepared as ArrayRecord files in data_dir; read without TensorFlow.

    splits: part → split of TFDS, as {"train": "train[:90%]", "val": "train[90%:]", "test": "validation"}; by default train,
    validation where there is one, and test. Labels are read at once, images when they are asked for.

    Raises:
      BadInput: not prepared there, of another file format, or without images, labels or one of the splits.
    """
    builder, where = _builder(name, str(data_dir)), f"{data_dir}: data set {name}"
    if splits is None:
        splits = {"train": "train", "test": "test"} | ({"val": "validation"} if "validation" in builder.info.splits else {})
    if not {"train", "test"} <= set(splits) <= {"train", "val", "test"}:
        raise BadInput(f"{where}: splits must name train and test, perhaps val; they name {', '.join(splits)}")
    keys = _keys(builder, where)
    parts = {"val": None} | {part: _tfds_part(builder, split, keys, where) for part, split in splits.items()}
    return _image_set(name, parts, tuple(builder.info.features[keys[1]].names), where)
