"""Images that lie in memory as one array: an ImageSet from them, and from an npz file. Beside it, images of other classes to train a
backbone on."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.array_files import NAMES, read_npz_parts
from mmn_jax.data.feature_files import check_labels, class_names, labelled, numbered
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.types import Examples
from mmn_jax.vision.images import Images, ImageSet


class Pictures(NamedTuple):
    """images: the set whose features are wanted. base: uint8 images [n, H, W] or [n, H, W, 3] of classes that are not in it, and their
    labels [n], to train a backbone on; None where there are none."""

    images: ImageSet
    base: Examples | None


def coloured(x: np.ndarray) -> np.ndarray:
    """[.., H, W, 3] of images that may be grey, [.., H, W] or [.., H, W, 1]; x has an axis of images before them."""
    x = x[..., None] if x.ndim == 3 else x
    return np.broadcast_to(x, (*x.shape[:-1], 3))


def _load(x, index):
    return coloured(x[index : index + 1])[0]


def in_memory(x: np.ndarray, y: np.ndarray) -> Images:
    """Images of uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3] with labels [n]."""
    return Images(partial(_load, x), y.astype(np.int32))


def _part(arrays, name, where):
    """Examples of NAME_x and NAME_y, or None where the file has neither."""
    if f"{name}_x" not in arrays and f"{name}_y" not in arrays:
        return None
    x, y = labelled(arrays, name, where)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise BadInput(f"{where}: {name}_x must be images, uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3]; it is {x.dtype} {list(x.shape)}")
    return Examples(x, y)


def from_parts(name: str, parts: Mapping[str, Examples | None], class_names: tuple[str, ...], where: str | Path) -> ImageSet:
    """An ImageSet of images in memory whose labels fit together; parts: train, val and test.

    Raises:
      BadInput: what `check_labels` refuses.
    """
    check_labels({part: examples.y for part, examples in parts.items() if examples is not None}, class_names, where)
    made = {part: in_memory(*examples) for part, examples in parts.items() if examples is not None}
    return ImageSet(name, made["train"], made.get("val"), made["test"], class_names)


def image_file(path: str | Path, say: Say = warn) -> Pictures:
    """Images of an npz file with train_x, train_y, test_x, test_y, optionally val_x, val_y and class_names; base_x and base_y, where
    it has them, are images of other classes to train a backbone on. x are uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3].

    Raises:
      BadInput: naming the file, the array and what is wrong with it.
    """
    arrays = numbered(numbered(read_npz_parts(path, (*NAMES, "base_x", "base_y"), say), path), path, ("base",))
    parts = {name: _part(arrays, name, path) for name in ("train", "val", "test", "base")}
    for name in ("train", "test"):
        if parts[name] is None:
            raise BadInput(f"{path}: array {name}_x is missing; it has {', '.join(arrays) or 'no arrays'}")
    base = parts.pop("base")
    return Pictures(from_parts(Path(path).stem, parts, class_names(arrays, parts["train"].y, path, say), path), base)
