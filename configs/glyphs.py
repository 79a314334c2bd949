"""The default: 250 letters in many type families, a long tail from 200 to 2 examples a class.

python bin/run.py --stage=meta

Gave on seeds 0, 1, 2: plain 74.4, cost_sensitive 80.1, metamodelnet 79.4, mmn 83.4 mean per-class test accuracy; 152 s
and 1.6 GB for one seed on two cores. --stage=eval adds the rivals (docs/leaderboard.md).
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    return config
