"""Your own features, with their natural counts or made long-tailed.

python bin/run.py --stage=meta --config=configs/own_features.py --config.data.path=FILE.npz
... --config.data.path=FOLDER      npy or Parquet files (docs/your_own_features.md)
... --config.data.longtail.imbalance=100 --config.data.longtail.max_per_class=200
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "npz"
    return config
