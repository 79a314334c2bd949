"""Letters rendered here from the fonts that matplotlib brings: from font files to the table, nothing to download.

python bin/run.py --stage=meta --config=configs/glyph_images.py
... --config.data.fonts=FOLDER      fonts of your own; families of type are drawn for training, validation and testing

What it needs: pip install 'mmn_jax[images]'. 150 upper- and lower-case Latin, Greek and Cyrillic letters, drawn from those that all
families have, form a tail from 100 to 2 examples; the backbone learns 400 other characters. DejaVu Sans and DejaVu Serif are for training,
DejaVu Sans Mono for validation, STIXGeneral for testing: each letter has at most eight, four and four renderings, which random distortions
turn into 200, 20 and 30 examples. Validation is therefore closer to training than testing is, examples of a letter resemble each other more
than with many families, and intervals are over distortions of four styles of one test family.

Gave on seed 0, mean per-class test accuracy: plain 79.3, under_sampling 79.6, metamodelnet 80.4, cost_sensitive 82.2, over_sampling 82.3,
mmn 84.3 (+5.0 over plain, 4.2 to 5.9); the backbone classified 98.6% of held-out images of its own characters correctly. Training it
amplifies rounding differences: the same seed repeats on the same machine; another machine, with an earlier mmn, had 78.4, 81.2 and 84.2 for
plain, metamodelnet and mmn. From rendering to the table it took 329 s on two cores that reach 189 GFLOP/s and did other work, 199 of them
for training the backbone and 58 for compiling with an empty cache, and 1.4 GB of memory; on two that reach 105, 545 s.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "fonts"
    config.features.epochs = 32.0  # a character has eight renderings here
    config.characters.classes = 150
    config.data.longtail.imbalance = 50.0
    config.data.longtail.max_per_class = 100
    return config
