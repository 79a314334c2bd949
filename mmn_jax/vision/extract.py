"""Images → features: read by threads, computed in batches that are spread over the devices, kept in pieces of float16.

Every batch has the same shape; the last one is filled up with repeats of the last image, whose features are thrown away. A piece is
written whole or not at all, so that work that was stopped goes on after the last one. Of several processes each reads and computes
its own share of every batch.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding

from mmn_jax.devices import AXIS, EACH, agreed, first_process, together
from mmn_jax.errors import BadInput
from mmn_jax.store.artifacts import write_bytes
from mmn_jax.store.files import whole
from mmn_jax.vision.images import Images

Backbone = Callable[[jax.Array], jax.Array | np.ndarray]  # uint8 [B, H, W, 3], spread over the devices → [B, d]
PIECE = 4096  # images
THREADS = min(16, 2 * (os.cpu_count() or 1))  # that read images


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: the shorter side brought to `size`, with antialiasing, and the middle cut out; unchanged where size is 0."""
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
        told = f"{where}, image {index}: {image.shape[1]} by {image.shape[0]} pixels, the first one {shape[1]} by {shape[0]}"
        raise BadInput(f"{told}; bring them to one size by --config.features.size=224")
    return image


def batches(read: Callable[[int], np.ndarray], rows: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Batches [batch, H, W, 3] of the images read(row), in order, read ahead by THREADS threads; len(rows) is a multiple of `batch`.

    Raises:
      BadInput: grain is missing; whatever `read` raises.
    """
    try:
        import grain
    except ImportError as error:
        raise BadInput("--stage=features: images are read by grain, which is not installed; pip install 'mmn_jax[images]'") from error
    ahead = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * batch)
    return iter(grain.MapDataset.source(rows).map(read).batch(batch).to_iter_dataset(ahead))


def rounded_batch(batch: int) -> int:
    """The batch size, rounded up to a multiple of all devices there are."""
    return -(-batch // jax.device_count()) * jax.device_count()


def own_rows(first: int, stop: int, batch: int) -> np.ndarray:
    """The rows first..stop that this process reads, in order; the last batch is filled up with the last row."""
    every = np.minimum(np.arange(first, first + -(-(stop - first) // batch) * batch), stop - 1)
    return every.reshape(-1, jax.process_count(), batch // jax.process_count())[:, jax.process_index()].reshape(-1)


def _spread(images):
    """The batch over this process's devices."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,), axis_types=(AxisType.Auto,))
    return jax.device_put(images, NamedSharding(mesh, EACH))


def _checked(given, n, where):
    """[n, d] float16 of what a backbone gave for the images `where`."""
    given = np.asarray(given)
    if given.ndim != 2 or len(given) != n:
        raise BadInput(f"{where}: features.backbone must give [{n}, d] features for {n} images, it gave {list(given.shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        half = given.astype(np.float16)
    if not np.isfinite(half).all():
        raise BadInput(f"{where}: features.backbone gave a value that is NaN, infinite or beyond float16's 65504")
    return half


def _gathered(own, batch):
    """[.., d] rows of all processes, in the order of the images."""
    if jax.process_count() == 1:
        return own
    every = multihost_utils.process_allgather(own.reshape(-1, batch // jax.process_count(), own.shape[-1]))
    return np.moveaxis(every, 0, 1).reshape(-1, own.shape[-1])


def compute(backbone: Backbone, read: Callable[[int], np.ndarray], first: int, stop: int, batch: int, where: str) -> np.ndarray:
    """[stop − first, d] float16 features of the images read(first) .. read(stop − 1).

    Raises:
      BadInput: the backbone gave no finite [B, d]; whatever `read` raises.
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
    """uint8 [n, H, W, 3] of these rows of one part's images, brought to `size`; every process reads all of them.

    Raises:
      BadInput: an image that is missing, broken or of another size.
    """
    n, shape = len(rows), resized(images.load(int(rows[0])), size).shape
    every = np.empty((n, *shape), np.uint8)
    filled = np.resize(rows, -(-n // batch) * batch)
    for i, some in enumerate(batches(partial(_read, images.load, size, shape, part), filled, batch)):
        every[i * batch : (i + 1) * batch] = some[: n - i * batch]
    return every


def write_npy(path: Path, array: np.ndarray) -> None:
    """An npy file, whole or not at all; the first process writes it, the others wait until it is there."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_bytes(path, buffer.getvalue())
    together()


def part_features(
    backbone: Backbone, images: Images, folder: Path, part: str, size: int, batch: int, track: Callable[[Iterable, str], Iterable]
) -> tuple[list[Path], int]:
    """Pieces, npy files with the features of one part's images in order, and how many images were computed; pieces that are there
    already are kept.

    Raises:
      BadInput: an image that is missing, broken or of another size; features that are none.
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
    """One npy file of the pieces, which are removed; only one of them is in memory at a time. The first process does."""
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
