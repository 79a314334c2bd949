"""Synthetic features with about the shape of iNaturalist 2018 (436,000 × 768, 8,142 classes of 315 to 2 examples, median 16), to measure
time and memory. `mmn_rows` is in closed form; the logit-adjusted head has one ridge, as it takes the better part of an hour on two cores.

python bin/run.py --stage=eval --config=configs/inat_shape.py
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "synthetic"
    config.data.synthetic.classes = 8142
    config.data.synthetic.dim = 768
    config.data.synthetic.largest = 315
    config.data.synthetic.median = 16
    config.data.synthetic.least = 2
    config.data.synthetic.scatter = 25.0
    config.data.synthetic.test_per_class = 3
    config.methods = ("mmn_rows", "logit_adjustment")
    config.heads.l2 = (1e-7,)
    config.heads.tol = config.heads.final_tol = 1e-5
    return config
