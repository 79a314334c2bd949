"""CIFAR-100 as images, a long tail by their own counts, the backbone trained on them from scratch and on nothing else ("decoupling").

python bin/run.py --stage=eval --config=configs/cifar100_images.py --config.data.path=cifar100_lt_images.npz
... --config.features.finetune=recursive      at every stage of the chain, instead of once
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
