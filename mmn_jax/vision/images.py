"""Image sets of every source (folders.py, lists.py, tfds.py, arrays.py): images that are read one at a time, with labels.

An image is decoded when it is loaded. `mmn_jax.vision.features` computes features of image sets.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.checks import check_labels
from mmn_jax.data.labels import told_apart
from mmn_jax.errors import BadInput, Say, warn


class Images(NamedTuple):
    """Images and their labels.

    load: returns the image of an index, uint8 [H, W, 3], or raises BadInput if it is missing or broken; several threads may call it. y: [n]
    int32 labels in 0..C−1. version: differs between different images, without decoding them.
    """

    load: Callable[[int], np.ndarray]
    y: np.ndarray
    version: str = ""


PARTS = ("train", "val", "test")  # of an ImageSet


class ImageSet(NamedTuple):
    """Images of all parts; val is None if the source has no validation images."""

    name: str
    train: Images
    val: Images | None
    test: Images
    class_names: tuple[str, ...]


SHOWN = "RGB, uint8, as a viewer shows them: turned as EXIF says, transparency over white, 16 bits brought to 8"


def _turn(image):
    """Rotates and mirrors the image in place as its EXIF says, if that isn't damaged."""
    from PIL import ImageOps

    image.load()  # raises if the image is broken
    with contextlib.suppress(Exception):  # damaged tags may raise anything; the image is there without them
        ImageOps.exif_transpose(image, in_place=True)


def _from_16_bits(image):
    """Converts a grey image of 16 bits per pixel, or fewer if a TIFF says so, to 8 bits; a transparent value becomes white."""
    from PIL import Image

    bits = (getattr(image, "tag_v2", {}).get(258) or (16,))[0]  # BitsPerSample
    grey, white = np.array(image).astype(np.int64), 2**bits - 1
    shown = np.where(grey == image.info.get("transparency", -1), 255, (255 * grey + white // 2) // white)
    return Image.fromarray(shown.clip(0, 255).astype(np.uint8))


def _over_white(image):
    from PIL import Image

    image = image.convert("RGBa").convert("RGBA") if image.mode in ("La", "RGBa") else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _shown(image, where):
    """Converts an image of any mode and depth to 8-bit RGB, as a viewer shows it; refuses pixels without a fixed range."""
    _turn(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # in these formats I holds 16 bits
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise BadInput(f"{where}: its pixels are {kind}, whose range is unknown; save it with 8 or 16 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _over_white(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise BadInput(f"{where}: its pixels are of mode {image.mode}, which Pillow doesn't convert to RGB; save it as RGB") from error


def decode(source: str | Path | bytes, where: str) -> np.ndarray:
    """Decodes an image as a viewer shows it: rotated as its EXIF says, over white if it is transparent, with 8 bits, and in RGB.

    Args:
      source: the file or its content; of an animation, the first image is used.
      where: its name, for messages.

    Returns:
      uint8 [H, W, 3].

    Raises:
      BadInput: the file is missing, broken or no image, or its pixels have no fixed range.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise BadInput(f"{where}: images are read by Pillow, which is not installed; pip install 'mmn_jax[images]'") from error
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.array(_shown(image, where).convert("RGB"))
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"{where}: no such file") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"{where}: has more pixels than Pillow decodes; make it smaller") from error
    except Exception as error:  # Pillow may raise anything on a damaged file
        raise BadInput(f"{where}: broken, or not an image") from error


def _load_file(paths: tuple[str, ...], index: int) -> np.ndarray:
    return decode(paths[index], paths[index])


def _stamp(paths):
    """Hashes the files' names and folders, sizes and times; reading all files would take as long as computing the features."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise BadInput(f"{path}: no such file") from error
        digest.update(repr((Path(path).parts[-2:], status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def of_files(paths: Iterable[str | Path], labels: np.ndarray) -> Images:
    """Makes Images of files with labels [n].

    Raises:
      BadInput: a file is missing.
    """
    names = tuple(map(str, paths))
    return Images(partial(_load_file, names), np.asarray(labels, np.int32), _stamp(names))


def image_set(name: str, parts: Mapping[str, Images | None], class_names: tuple[str, ...], where: str | Path, say: Say = warn) -> ImageSet:
    """Makes an ImageSet after checking its labels.

    Args:
      name: the name of the set.
      parts: images of train, val (may be None) and test.
      class_names: the names of the classes; names that several classes have are made unique.
      where: the images' file or folder, for messages.
      say: reports names that are made unique.

    Raises:
      BadInput: a part has no images, a label is not among the classes, or a class has no training image.
    """
    for part, images in parts.items():
        if images is not None and len(images.y) == 0:
            raise BadInput(f"{where}: no images for {part}")
    check_labels({part: images.y for part, images in parts.items() if images is not None}, class_names, where)
    class_names = told_apart(class_names, str(where), say)
    return ImageSet(name, parts["train"], parts["val"], parts["test"], class_names)  # type: ignore[arg-type]  # neither is None
