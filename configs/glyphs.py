"""The default: 250 letters in many type families, a long tail from 200 to 2 examples a class.

python bin/run.py --stage=meta
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    return config
