"""iNaturalist 2018: 8,142 species, long-tailed by nature, 437,513 training images; its 24,426 validation images, 3 a class, are the test.

python bin/run.py --stage=eval --config=configs/inat2018.py --config.data.path=FILE

What it needs: FILE with features of the training set as train_x and of the validation set as test_x, in any form of
docs/your_own_features.md; train_x alone takes 3.6 GB with d = 2048 in float32. Up to 20 images a class, at most a third, are held
out of the training set for validation. From images that TFDS prepared in DATA_DIR, with a backbone (docs/your_own_features.md):
... --config.data.source=images --config.data.tfds=i_naturalist2018 --config.data.path=DATA_DIR --config.data.splits.train=train
    --config.data.splits.test=validation --config.features.weights=FOLDER

Published: none given, as no result on frozen features could be verified.

Run here: the loading code, on small synthetic files. Not run here: iNaturalist itself; nothing has been timed with 8,142 classes, and
memory may not suffice.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    return config
