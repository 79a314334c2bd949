"""Letters rendered here from the fonts that matplotlib brings: from font files to the table, nothing to download.

python bin/run.py --stage=meta --config=configs/glyph_images.py
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "fonts"
    config.features.epochs = 40.0  # a character has eight renderings here
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    return config
