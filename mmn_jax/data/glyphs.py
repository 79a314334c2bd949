"""The embedded default: frozen 128-d features of 250 letters in many type families.

Rendered from freely licensed fonts; training, validation and test glyphs come from
different type families. `glyphs_128.json` says how the features were made,
`glyphs_font_copyrights.tar.gz` carries the fonts' copyright notices.
"""

from importlib import resources

import numpy as np

from mmn_jax.data.features import check, read_npz
from mmn_jax.types import Examples, FeatureSet


def load() -> FeatureSet:
    """The glyph features: int8 with a scale per dimension, x = q · scale."""
    with resources.as_file(resources.files("mmn_jax.data") / "glyphs_128.npz") as path:
        arrays = read_npz(path)

    def part(name):
        return Examples(arrays[f"{name}_q"].astype(np.float32) * arrays["scale"], arrays[f"{name}_y"].astype(np.int32))

    parts = {name: part(name) for name in ("train", "val", "test")}
    return check("glyphs_128", parts, tuple(arrays["class_names"].tolist()), "glyphs_128.npz")
