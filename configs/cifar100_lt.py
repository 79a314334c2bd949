"""CIFAR-100-LT: 100 classes, 500 training images in the largest, imbalance 100 (500 → 5), 50 or 10, 100 test images a class.

python bin/run.py --stage=eval --config=configs/cifar100_lt.py --config.data.path=FILE --config.seeds=0,1,2
... --config.data.longtail.imbalance=50
... --config.data.longtail.indices=LIST.txt      the rows of a published split instead of a seeded one

What it needs: FILE with features of all 50,000 training and 10,000 test images in any form of docs/your_own_features.md, which also says
how they are made of images. The tail has the published counts, 10,847, 12,608 or 19,573 images at imbalance 100, 50 and 10, and no
validation images are taken out of it: hyperparameters are chosen on three folds. Which class is the largest depends on the seed, whereas
the published splits take the classes in order.

Published at imbalance 100, with a ResNet-32 trained on the tail itself, overall top-1: logit adjustment 43.9, MiSLAS 47.0, weight
balancing 53.4. Features of a backbone that saw other images are another problem, and their accuracies aren't comparable.

Run here: the split stage on 256-d features of a MobileNetV2 trained on ImageNet, at all three imbalances, and, with validation images
taken out, 480 → 5, all methods (docs/leaderboard.md). Not run here: anything on features of a ResNet-32.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    config.data.validation = "train"
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 500
    return config
