"""Computes features of images: threads read images, devices share batches, and float16 features are saved in pieces.

Every batch has the same shape; the last one is padded with repeats of the last image, whose features are dropped. A piece is written
completely or not at all, so that an interrupted extraction resumes after the last piece. Of several processes, each reads and computes its
own part of every batch.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from mmn_jax.devices import EACH, agreed, first_process, own_devices, together
from mmn_jax.errors import BadInput
from mmn_jax.store.artifacts import write_bytes
from mmn_jax.store.files import whole
from mmn_jax.vision.images import Images

Backbone = Callable[[jax.Array], jax.Array | np.ndarray]  # uint8 [B, H, W, 3], spread over the devices → [B, d]
PIECE = 4096  # images
THREADS = min(16, 2 * (os.cpu_count() or 1))  # for reading images


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side of an image to `size`, with antialiasing, and crops the centre; returns it unchanged if size is 0.

    Args:
      image: uint8 [H, W, 3].
      size: pixels, or 0.

    Returns:
      uint8 [size, size, 3].
    """
    if size == 0 or image.shape[:2] == (size, size):
        return image
    from PIL import Image

    height, width = image.shape[:2]
    scale = size / min(height, width)
    wide, high = max(round(width * scale), size), max(round(height * scale), size)
    scaled = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((wide, high), Image.Resampling.BICUBIC))
    top, left = (high - size) // 2, (wide - size) // 2
    return scaled[top : top + size, left : left + size]


def _read(load, size, shape, where, index):
    image = resized(load(int(index)), size)
    if image.shape != shape:
        sizes = f"{image.shape[1]} by {image.shape[0]} pixels, the first one {shape[1]} by {shape[0]}"
        raise BadInput(f"{where}, image {index}: {sizes}; bring them to one size by --config.features.size=224")
    return image


def batches(read: Callable[[int], np.ndarray], rows: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Reads images in batches [batch, H, W, 3], in order, with `THREADS` threads that read ahead.

    Args:
      read: returns the image of a row.
      rows: their number is a multiple of `batch`.
      batch: images in a batch.

    Raises:
      BadInput: grain isn't installed; or whatever `read` raises.
    """
    try:
        import grain
    except ImportError as error:
        raise BadInput("--stage=features: images are read by grain, which is not installed; pip install 'mmn_jax[images]'") from error
    ahead = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * batch)
    return iter(grain.MapDataset.source(rows).map(read).batch(batch).to_iter_dataset(ahead))


def rounded_batch(batch: int) -> int:
    """Rounds the batch size up to a multiple of the number of devices."""
    return -(-batch // jax.device_count()) * jax.device_count()


def own_rows(first: int, stop: int, batch: int) -> np.ndarray:
    """Returns the rows of first .. stop − 1 that this process reads, in order; the last batch is padded with the last row."""
    every = np.minimum(np.arange(first, first + -(-(stop - first) // batch) * batch), stop - 1)
    return every.reshape(-1, jax.process_count(), batch // jax.process_count())[:, jax.process_index()].reshape(-1)


def _spread(images):
    """Distributes the batch over the devices of this process."""
    return jax.device_put(images, NamedSharding(own_devices(), EACH))


def _checked(given, n, where):
    """Returns what a backbone returned for n images as float16 [n, d]; where: these images, for messages."""
    given = np.asarray(given)
    if given.ndim != 2 or len(given) != n:
        raise BadInput(f"{where}: features.backbone must return [{n}, d] features for {n} images, it returned {list(given.shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        half = given.astype(np.float16)
    if not np.isfinite(half).all():
        raise BadInput(f"{where}: features.backbone returned a value that is NaN, infinite or beyond float16's 65504")
    return half


def _gathered(own, batch):
    """Returns the rows [.., d] of all processes, in the order of the images."""
    if jax.process_count() == 1:
        return own
    every = multihost_utils.process_allgather(own.reshape(-1, batch // jax.process_count(), own.shape[-1]))
    return np.moveaxis(every, 0, 1).reshape(-1, own.shape[-1])


def compute(backbone: Backbone, read: Callable[[int], np.ndarray], first: int, stop: int, batch: int, where: str) -> np.ndarray:
    """Computes the features of the images read(first) .. read(stop − 1).

    Args:
      backbone: computes the features of a batch.
      read: returns an image, uint8 [H, W, 3].
      first: the first image.
      stop: the one after the last image.
      batch: images in a batch, a multiple of the number of devices.
      where: the images' place, for messages.

    Returns:
      float16 [stop − first, d].

    Raises:
      BadInput: the backbone didn't return finite features [B, d]; or whatever `read` raises.
    """
    rows, done = own_rows(first, stop, batch), []
    waiting: list[tuple] = []
    for i, images in enumerate(batches(read, rows, batch // jax.process_count())):
        started = (backbone(_spread(images)), len(images), f"{where}, images from {first + i * batch}")
        done += [_checked(*each) for each in waiting]  # one batch is computed while the next is read
        waiting = [started]
    done += [_checked(*each) for each in waiting]
    return _gathered(np.concatenate(done), batch)[: stop - first]


def gather(images: Images, rows: np.ndarray, size: int, batch: int, part: str) -> np.ndarray:
    """Reads images into memory; every process reads all of them.

    Args:
      images: the images of one part.
      rows: which of them, n rows.
      size: pixels of the shorter side, or 0, as in `resized`.
      batch: images that are read at once.
      part: the name of the part, for messages.

    Returns:
      uint8 [n, H, W, 3].

    Raises:
      BadInput: an image is missing, broken or of another size than the first.
    """
    n, shape = len(rows), resized(images.load(int(rows[0])), size).shape
    every = np.empty((n, *shape), np.uint8)
    filled = np.resize(rows, -(-n // batch) * batch)
    for i, some in enumerate(batches(partial(_read, images.load, size, shape, part), filled, batch)):
        every[i * batch : (i + 1) * batch] = some[: n - i * batch]
    return every


def write_npy(path: Path, array: np.ndarray) -> None:
    """Writes an npy file completely or not at all; the first process writes it, the others wait for it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_bytes(path, buffer.getvalue())
    together()


def part_features(
    backbone: Backbone, images: Images, folder: Path, part: str, size: int, batch: int, track: Callable[[Iterable, str], Iterable]
) -> tuple[list[Path], int]:
    """Computes the features of one part's images, except for those of pieces that are already in the folder.

    Args:
      backbone: computes the features of a batch.
      images: the images of the part.
      folder: where pieces are saved.
      part: the name of the part.
      size: pixels of the shorter side, or 0, as in `resized`.
      batch: images in a batch; it is rounded up to a multiple of the number of devices.
      track: shows the progress of an iteration.

    Returns:
      The pieces, npy files with the features of the images in order, and the number of images whose features were computed.

    Raises:
      BadInput: an image is missing, broken or of another size than the first, or its features aren't finite numbers.
    """
    batch, n = rounded_batch(batch), len(images.y)
    read = partial(_read, images.load, size, resized(images.load(0), size).shape, part)
    pieces, paths, computed = -(-n // PIECE), [], 0
    for number in track(range(pieces), f"features of {part}"):
        paths.append(folder / f"{part}-{number:05d}-of-{pieces:05d}.npy")
        if not agreed(paths[-1].exists()):
            stop = min((number + 1) * PIECE, n)
            write_npy(paths[-1], compute(backbone, read, number * PIECE, stop, batch, part))
            computed += stop - number * PIECE
    return paths, computed


def join(paths: list[Path], into: Path) -> None:
    """Joins pieces to one npy file and removes them, in the first process, with one piece in memory at a time."""
    if first_process() and not into.exists():
        pieces = [np.load(path, mmap_mode="r") for path in paths]
        shape = (sum(map(len, pieces)), pieces[0].shape[1])
        with whole(into) as part:
            every, begin = np.lib.format.open_memmap(part, "w+", pieces[0].dtype, shape), 0
            for piece in pieces:
                every[begin : begin + len(piece)] = piece
                begin += len(piece)
            every.flush()
        for path in paths:
            path.unlink()
    together()
