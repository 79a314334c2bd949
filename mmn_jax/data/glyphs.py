"""The embedded default: frozen 128-d features of 250 letters in many type families, and the long tail that they are cut to.

Rendered from freely licensed fonts; training, validation and test glyphs come from
different type families. `glyphs_128.json` says how the features were made,
`glyphs_font_copyrights.tar.gz` carries the fonts' copyright notices.
"""

from importlib import resources

import numpy as np
from ml_collections import ConfigDict

from mmn_jax.config import default
from mmn_jax.data.features import check, read_npz
from mmn_jax.types import Examples, FeatureSet

LICENCE = (
    "made from images of freely licensed fonts, listed with their licences in mmn_jax/data/glyph_images.json;"
    " their copyright notices are in mmn_jax/data/glyphs_font_copyrights.tar.gz"
)


TAIL = {"imbalance": 100.0, "max_per_class": 200}  # 200 to 2 examples a class, unless data.longtail says otherwise


def load() -> FeatureSet:
    """The glyph features: int8 with a scale per dimension, x = q · scale."""
    with resources.as_file(resources.files("mmn_jax.data") / "glyphs_128.npz") as path:
        arrays = read_npz(path)

    def part(name):
        return Examples(arrays[f"{name}_q"].astype(np.float32) * arrays["scale"], arrays[f"{name}_y"].astype(np.int32))

    names = tuple(arrays["class_names"].tolist())
    return check(FeatureSet("glyphs_128", part("train"), part("val"), part("test"), names), "glyphs_128.npz")


def get_config() -> ConfigDict:
    """The recipe of a command without one: every setting at its default."""
    return default()
