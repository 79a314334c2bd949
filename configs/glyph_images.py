"""Letters rendered here from the fonts that matplotlib brings: from font files to the table, nothing to download.

python bin/run.py --stage=meta --config=configs/glyph_images.py
... --config.data.fonts=FOLDER      fonts of your own; families of type are drawn for training, validation and testing

What it needs: pip install 'mmn_jax[images]'. 250 upper- and lower-case Latin, Greek and Cyrillic letters, drawn of those that all families
have, are cut to a tail from 200 to 2; the backbone learns 400 other characters. DejaVu Sans and DejaVu Serif are for training, DejaVu Sans
Mono for validation, STIXGeneral for testing: each letter has at most eight, four and four renderings, which are distorted at random to make
200, 20 and 30 examples. So validation is nearer to training than testing is (mmn: 88.1 there against 78.5), examples of a letter
resemble each other more than with many families, and the intervals are over distortions of four styles of one test family.

Gave on seed 0, on three machines, mean per-class test accuracy: plain 69.2, 71.1 and 70.8, under_sampling 71.1, 73.0 and 72.8,
metamodelnet 73.9, 74.4 and 74.7, over_sampling 76.0, 76.7 and 77.2, cost_sensitive 76.1, 77.0 and 77.4, mmn 78.5, 79.9 and 80.0; the
backbone got 98.5%, 97.1% and 97.1% of held-out images of its own characters right. Training it amplifies how a machine rounds: the same
seed repeats on the same machine, not on another. The last took 616 s on two cores that reach 138 GFLOP/s, 316 of them for training the
backbone, and 1.9 GB of memory, with most programs compiled before.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "fonts"
    config.features.epochs = 40.0  # a character has eight renderings here
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    return config
