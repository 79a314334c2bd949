"""Makes an ImageSet of images in memory or in an npz file, which may also hold images of other classes to train a backbone on."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.array_files import NAMES, read_npz_parts
from mmn_jax.data.checks import check_labels, class_names, labelled, numbered
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.types import Examples
from mmn_jax.vision.images import Images, ImageSet


class Pictures(NamedTuple):
    """What a source of images holds.

    images: the set whose features are wanted. base: uint8 images [n, H, W] or [n, H, W, 3] of classes that are not in it, with labels [n],
    to train a backbone on; None if there are none.
    """

    images: ImageSet
    base: Examples | None


def coloured(x: np.ndarray) -> np.ndarray:
    """Returns [n, H, W, 3] for images that may be grey, [n, H, W] or [n, H, W, 1]."""
    x = x[..., None] if x.ndim == 3 else x
    return np.broadcast_to(x, (*x.shape[:-1], 3))


def _load(x, index):
    return coloured(x[index : index + 1])[0]


def in_memory(x: np.ndarray, y: np.ndarray) -> Images:
    """Makes Images of an array, uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3], with labels [n]."""
    return Images(partial(_load, x), y.astype(np.int32))


def _part(arrays, name, where):
    """Returns the Examples in NAME_x and NAME_y, or None if the file has neither."""
    if f"{name}_x" not in arrays and f"{name}_y" not in arrays:
        return None
    x, y = labelled(arrays, name, where)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise BadInput(f"{where}: {name}_x must be images, uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3]; it is {x.dtype} {list(x.shape)}")
    return Examples(x, y)


def from_parts(name: str, parts: Mapping[str, Examples | None], class_names: tuple[str, ...], where: str | Path) -> ImageSet:
    """Makes an ImageSet of images in memory.

    Args:
      name: the name of the set.
      parts: uint8 images and labels of train, val (may be None) and test.
      class_names: the names of the classes.
      where: the images' file, for messages.

    Raises:
      BadInput: a label is not among the classes, or a class has no training image.
    """
    check_labels({part: examples.y for part, examples in parts.items() if examples is not None}, class_names, where)
    made = {part: in_memory(*examples) for part, examples in parts.items() if examples is not None}
    return ImageSet(name, made["train"], made.get("val"), made["test"], class_names)


def image_file(path: str | Path, say: Say = warn) -> Pictures:
    """Reads the images of an npz file.

    Args:
      path: a file with train_x, train_y, test_x, test_y, optionally val_x, val_y and class_names, and base_x, base_y, images of other
        classes to train a backbone on. x are uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3].
      say: reports what is doubtful or not used.

    Raises:
      BadInput: an array can't be used; the message names the file and the array, and says why.
    """
    arrays = numbered(numbered(read_npz_parts(path, (*NAMES, "base_x", "base_y"), say), path), path, ("base",))
    parts = {name: _part(arrays, name, path) for name in ("train", "val", "test", "base")}
    for name in ("train", "test"):
        if parts[name] is None:
            raise BadInput(f"{path}: array {name}_x is missing; it has {', '.join(arrays) or 'no arrays'}")
    base = parts.pop("base")
    return Pictures(from_parts(Path(path).stem, parts, class_names(arrays, parts["train"].y, path, say), path), base)
