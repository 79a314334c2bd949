"""ImageNet-LT: 1000 classes, 115,846 training images, 1,280 to 5 a class, 20,000 validation and 50,000 test images.

python bin/run.py --stage=eval --config=configs/imagenet_lt.py --config.data.path=FILE --config.seeds=0,1,2

What it needs: FILE with features of the three parts, val_x and val_y among them, in any form of docs/your_own_features.md. Images go by
the published lists: mmn_jax.data.lists.list_files("imagenet", "ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt")
reads them and checks the counts above; tfds_source("imagenet_lt", DATA_DIR) reads what TFDS prepared. Features of them:
docs/your_own_features.md, From images. A tail of the same kind from all of ImageNet's features:
--config.data.longtail.profile=pareto --config.data.longtail.imbalance=256 --config.data.longtail.max_per_class=1280

Published (frozen features, ResNeXt-50, overall top-1): NCM 47.3, cRT 49.6, τ-norm 49.4, LWS 49.9, balanced softmax 50.8, LADE 53.0,
DisAlign 53.4. The paper's own set has 200 classes: plain 68.85, MetaModelNet 73.46.

Run here: the loading code, on lists of the real lengths and on small synthetic images and features. Not run here: ImageNet-LT itself;
nothing has been timed with 1000 classes.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    return config
