"""Caltech-101 made long-tailed: 102 classes with its background, 30 training images in the largest down to 1, all others to test on.

python bin/run.py --stage=eval --config=configs/caltech101.py --config.data.path=FILE --config.seeds=0,1,2

What it needs: FILE with features of 30 training images a class and of the rest as the test set, in any form of docs/your_own_features.md.
tfds_source("caltech101", DATA_DIR) reads such a split of the images, image_folder("101_ObjectCategories", test_share=0.5) another one;
features of them: docs/your_own_features.md, From images. Classes are too small to hold validation images out, so hyperparameters
are chosen on three folds. Few classes have many examples here, so the chain has few levels.

Published: nothing comparable; no paper that we know of reports this tail.

Run here: the loading code and the split, on small synthetic files. Not run here: Caltech-101 itself.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    config.data.validation = "train"
    config.data.longtail.imbalance = 30.0
    config.data.longtail.max_per_class = 30
    return config
