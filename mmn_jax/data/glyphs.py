"""The embedded data set: frozen 128-d features of 250 letters in many type families.

The letters are rendered from freely licensed fonts; training, validation and test glyphs come from different type families, and the
backbone was trained on other characters only. `glyphs_128.json` says how the features were made; `glyphs_font_copyrights.tar.gz` holds the
fonts' copyright notices. Features are stored as int8 with a scale per dimension, q = round(x / scale), scale = max |x| / 127.
"""

from importlib import resources

import numpy as np

from mmn_jax.data.array_files import read_npz
from mmn_jax.data.feature_files import check
from mmn_jax.types import Examples, FeatureSet

LICENCE = (
    "made from images of freely licensed fonts, listed with their licences in mmn_jax/data/glyph_images.json;"
    " their copyright notices are in mmn_jax/data/glyphs_font_copyrights.tar.gz"
)

TAIL = {"imbalance": 100.0, "max_per_class": 200}  # arguments of `longtail.long_tail_split`: 200 to 2 examples a class


def packed(train: Examples, val: Examples, test: Examples, class_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the arrays of glyphs_128.npz: train_q, val_q, test_q int8 [n, d], train_y, val_y, test_y, scale [d] and class_names [C]."""
    parts = {"train": train, "val": val, "test": test}
    largest = np.max([np.abs(part.x).max(0) for part in parts.values()], 0)
    scale = np.where(largest > 0, largest, 1) / np.float32(127)
    q = {f"{name}_q": np.round(part.x / scale).astype(np.int8) for name, part in parts.items()}
    y = {f"{name}_y": part.y.astype(np.int16) for name, part in parts.items()}
    return {**q, **y, "scale": scale, "class_names": np.array(class_names)}


def unpacked(arrays: dict[str, np.ndarray]) -> FeatureSet:
    """Returns the features in the arrays of `packed`; each value is within half a scale of the original."""

    def part(name):
        return Examples(arrays[f"{name}_q"].astype(np.float32) * arrays["scale"], arrays[f"{name}_y"].astype(np.int32))

    names = tuple(arrays["class_names"].tolist())
    return check(FeatureSet("glyphs_128", part("train"), part("val"), part("test"), names), "glyphs_128.npz")


def load() -> FeatureSet:
    """Loads the features: 250 classes with training, validation and test examples, d = 128.

    With its own validation set, `val_per_class` of `long_tail_split` has nothing to do.
    """
    with resources.as_file(resources.files("mmn_jax.data") / "glyphs_128.npz") as path:
        return unpacked(read_npz(path))
