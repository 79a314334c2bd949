"""SUN-397-LT, the paper's first subject: 397 scenes, 1 to 1,132 training images a class, median 47, 40 test images a class.

python bin/run.py --stage=eval --config=configs/sun397_lt.py --config.data.path=FILE --config.seeds=0,1,2

What it needs: FILE with features of the long-tailed training set and the test set in any form of docs/your_own_features.md. Without
val_x and val_y in it, up to 20 images a class, at most a third, are held out of the training set for validation. Features of all of
SUN-397 are subsampled to a tail by --config.data.longtail.indices=LIST.txt; no list of the paper's own split is available here.
mmn_jax.data.tfds.tfds_source("sun397", DATA_DIR) reads the images. Features of them:
docs/your_own_features.md, From images.

Published (Wang, Ramanan, Hebert 2017, top-1): plain 48.03, over-sampling 52.61, under-sampling 51.72,
cost-sensitive 52.37, MetaModelNet 57.34; its ablation: model regression 54.68, with task loss on a fixed split 56.86.
With features fine-tuned at every level (here --config.features.finetune=recursive): MetaModelNet 58.74.

Run here: the loading code and the split, on small synthetic files, and time and memory at this size on synthetic features
(configs/sun397_shape.py). Not run here: SUN-397 itself.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    return config
