"""Synthetic features with the shape of SUN-397-LT (397 classes, 1 to 1,132 examples, median 47, d = 2048), with the paper's S, to
measure time and memory at the paper's scale. The accuracies mean nothing.

python bin/run.py --stage=kshot --config=configs/sun397_shape.py
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "synthetic"
    config.tuning.budget = 1
    config.heads.l2 = (1e-5,)
    config.heads.tol = config.heads.final_tol = 1e-4
    config.kshot.subsets = (1000, 500, 200)
    config.meta.width = 2048
    config.meta.task_weight = (1.0,)
    config.meta.strength = (1.0,)
    return config
