"""Places-LT: 365 scenes, 62,500 training images, 4,980 to 5 a class, 7,300 validation and 36,500 test images.

python bin/run.py --stage=eval --config=configs/places_lt.py --config.data.path=FILE --config.seeds=0,1,2

What it needs: FILE with features of the three parts, val_x and val_y among them, in any form of docs/your_own_features.md. Images go by
the published lists: mmn_jax.data.lists.list_files("places365", "Places_LT_train.txt", "Places_LT_val.txt", "Places_LT_test.txt")
reads them and checks the counts above. Features of them: docs/your_own_features.md, From images.

Published (frozen features, ResNet-152, overall top-1): cRT 36.7, τ-norm 37.9, LWS 37.6, LADE 38.8, DisAlign 39.3, MiSLAS 40.4.
The paper's own long-tailed set is of Places-205, another one: plain 23.53, MetaModelNet 30.71.

Run here: the loading code, on lists of the real lengths and on small synthetic images and features. Not run here: Places-LT itself.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    return config
