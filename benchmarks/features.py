"""Measures images per second of --stage=features, against plain loops that read images and compute their features in turn.

python benchmarks/features.py [--images=4096] [--side=32] [--size=0] [--batch=256]

The images are random PNG files in a temporary folder; the network is that of --stage=features with untrained weights. The plain loops
run on one Python thread, one image or one batch per call of the network; all three give the same features.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from PIL import Image

from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.vision import extract, networks
from mmn_jax.vision.folders import image_folder
from mmn_jax.vision.images import Images

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 4096, "Number of images.")
flags.DEFINE_integer("side", 32, "Pixels of their sides on disk.")
flags.DEFINE_integer("size", 0, "Pixels that they are resized to; 0: as they are.")
flags.DEFINE_integer("batch", 256, "Images per batch.")


def make_folder(root: Path) -> Images:
    """Writes PNG files of noise in two classes, two of them as a test set; returns the training images."""
    rng = np.random.default_rng(0)
    for i in range(FLAGS.images + 2):
        folder = root / ("test" if i < 2 else "train") / f"class {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (FLAGS.side, FLAGS.side, 3), np.uint8)).save(folder / f"{i:06d}.png")
    return image_folder(root).train


def network(side: int):
    """Returns the backbone with untrained weights, for images of this size."""
    net = networks.Plain(128, (32, 64, 128, 128), 2)
    variables = jax.jit(net.init, static_argnums=2)(jax.random.key(0), jnp.zeros((1, side, side, 3), jnp.uint8), False)
    return partial(jax.jit(networks.features, static_argnums=0), net, variables)


def plain_loop(compute, images: Images, batch: int) -> np.ndarray:
    """Returns features [n, d], reading and computing in turn."""
    done = []
    for first in range(0, len(images.y), batch):
        rows = range(first, min(first + batch, len(images.y)))
        read = np.stack([extract.resized(images.load(i), FLAGS.size) for i in rows])
        done.append(np.asarray(compute(np.pad(read, ((0, batch - len(read)), *((0, 0),) * 3))))[: len(read)])
    return np.concatenate(done).astype(np.float16)


def stage(compute, images: Images) -> np.ndarray:
    """Returns features [n, d] as --stage=features computes them."""
    with tempfile.TemporaryDirectory() as folder:
        paths, _ = extract.part_features(compute, images, Path(folder), "train", FLAGS.size, FLAGS.batch, lambda items, name: items)
        return np.concatenate([np.load(path) for path in paths])


def rate(work, images: Images) -> tuple[float, np.ndarray]:
    """Returns images per second, the better of two runs after one that compiles, and the features."""
    work(images._replace(load=images.load, y=images.y[: FLAGS.batch]))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        given = work(images)
        seconds.append(time.perf_counter() - began)
    return len(images.y) / min(seconds), given


def main(_):
    with tempfile.TemporaryDirectory() as root:
        images, compute = make_folder(Path(root)), network(FLAGS.size or FLAGS.side)
        ways = {
            "plain loop, an image at a time": lambda some: plain_loop(compute, some, 1),
            f"plain loop, {FLAGS.batch} at a time": lambda some: plain_loop(compute, some, FLAGS.batch),
            "--stage=features": lambda some: stage(compute, some),
        }
        found = {name: rate(way, images) for name, way in ways.items()}
    first, (base, reference) = next(iter(found.items()))
    rows = [[name, f"{speed:.0f}", f"{speed / base:.2f}"] for name, (speed, _) in found.items()]
    print(markdown([["way", "images per second", f"over {first}"], *rows]))
    apart = max(np.abs(given.astype(float) - reference).max() for _, given in found.values())
    print(f"largest difference between their features: {apart:.1e}; largest feature: {np.abs(reference).max():.1f}")


if __name__ == "__main__":
    app.run(main)
