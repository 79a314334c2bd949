"""CIFAR-100 as images, a long tail by their own counts, the backbone trained on them from scratch and on nothing else ("decoupling").

python bin/run.py --stage=eval --config=configs/cifar100_images.py --config.data.path=cifar100_lt_images.npz
... --config.features.finetune=recursive      at every level of the chain, instead of once

What it needs: an npz with train_x uint8 [n, 32, 32, 3], train_y, test_x, test_y, val_x and val_y; and pip install 'mmn_jax[images]'. The
network is small (three blocks, on images of half the size), so that an epoch over 10,000 images takes about a minute of processor time.

Published at imbalance 100 with a ResNet-32: logit adjustment 43.9, MiSLAS 47.0, weight balancing 53.4. Run here, seed 0, 33
epochs in 19 minutes: plain 31.5, metamodelnet 31.6, logit adjustment 36.0, mmn 38.1 (docs/joint_dynamics.md). Not run here: as many
epochs as those used.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "images"
    config.features.network = "residual"
    config.features.augment = "photo"
    config.features.widths = (32, 64, 128)
    config.features.finetune = "fixed"
    config.finetune.epochs = 8.0
    config.finetune.rate = 3e-3
    return config
