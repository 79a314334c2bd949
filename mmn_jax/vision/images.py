"""What an image set is, whatever its source (folders.py, lists.py, tfds.py, arrays.py): images read one at a time, with labels.

Nothing is decoded before it is asked for. Features are made of them by mmn_jax/vision/features.py.
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

from mmn_jax.data.feature_files import check_labels
from mmn_jax.data.labels import told_apart
from mmn_jax.errors import BadInput, Say, warn


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


SHOWN = "RGB, uint8, as a viewer shows them: turned as EXIF says, transparency over white, 16 bits brought to 8"


def _turn(image):
    """Turns and mirrors the image as its EXIF says; one whose EXIF is damaged stays as it is."""
    from PIL import ImageOps

    image.load()  # here it is broken, or not
    with contextlib.suppress(Exception):  # the tags are anybody's bytes, and the picture is there without them
        ImageOps.exif_transpose(image, in_place=True)


def _from_16_bits(image):
    """The 8-bit grey image of one with 16 bits a pixel, or with the fewer that a TIFF names, over white where a value is transparent."""
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
    """The 8-bit RGB image that a viewer shows of one of any mode and depth.

    Raises:
      BadInput: its pixels are of no fixed range, or of a kind that Pillow doesn't convert.
    """
    _turn(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # in these formats I holds 16 bits
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise BadInput(f"{where}: its pixels are {kind}, of which none is known to be white; save it with 8 or 16 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _over_white(image)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise BadInput(f"{where}: its pixels are of mode {image.mode}, which isn't turned into RGB; save it as RGB") from error


def decode(source: str | Path | bytes, where: str) -> np.ndarray:
    """uint8 [H, W, 3] of an image file or its content, as a viewer shows it: turned as its EXIF says, over white where it is transparent,
    16 bits brought to 8; grey and palette images become RGB, and a moving one its first picture.

    Raises:
      BadInput: `where` is missing, broken or no image, or has pixels that no viewer knows how to show.
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
    except Exception as error:  # a damaged file fails in as many ways as Pillow has of reading one
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


def image_set(name: str, parts: Mapping[str, Images | None], class_names: tuple[str, ...], where: str | Path, say: Say = warn) -> ImageSet:
    """An ImageSet of train, val (may be None) and test, whose labels fit together; classes of one name are told apart.

    Raises:
      BadInput: a part without images; what `check_labels` refuses.
    """
    for part, images in parts.items():
        if images is not None and len(images.y) == 0:
            raise BadInput(f"{where}: no images for {part}")
    check_labels({part: images.y for part, images in parts.items() if images is not None}, class_names, where)
    class_names = told_apart(class_names, str(where), say)
    return ImageSet(name, parts["train"], parts["val"], parts["test"], class_names)  # type: ignore[arg-type]  # neither is None
