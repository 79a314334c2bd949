"""What an image set is, whatever its source (folders.py, lists.py, tfds.py, arrays.py): images read one at a time, with labels.

Nothing is decoded before it is asked for. Features are made of them by mmn_jax/features.py.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.feature_files import check_labels
from mmn_jax.types import BadInput


class Images(NamedTuple):
    """load: index → uint8 [H, W, 3], or BadInput naming an image that is missing or broken; several threads may call it at once.
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


def of_files(paths: Iterable[str | Path], labels: np.ndarray) -> Images:
    """Images of these files with labels [n].

    Raises:
      BadInput: a file that is missing.
    """
    names = tuple(map(str, paths))
    return Images(partial(_load_file, names), np.asarray(labels, np.int32), _stamp(names))


def image_set(name: str, parts: Mapping[str, Images | None], class_names: tuple[str, ...], where: str | Path) -> ImageSet:
    """An ImageSet of train, val (may be None) and test, whose labels fit together.

    Raises:
      BadInput: a part without images; what `check_labels` refuses.
    """
    for part, images in parts.items():
        if images is not None and len(images.y) == 0:
            raise BadInput(f"{where}: no images for {part}")
    check_labels({part: images.y for part, images in parts.items() if images is not None}, class_names, where)
    return ImageSet(name, parts["train"], parts["val"], parts["test"], class_names)  # type: ignore[arg-type]  # neither is None
