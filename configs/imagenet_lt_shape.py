"""Synthetic features with the shape of ImageNet-LT (116,828 × 768, 1,000 classes of 640 to 5 examples, median 40), to measure time and
memory. They are as hard for a head as real ones: logit-adjusted, it reaches 47% at ℓ = 1e-6 and 53% at 1e-7. For `mmn` they are easier, as
its model of classes is the one that they are drawn from.

python bin/run.py --stage=meta --config=configs/imagenet_lt_shape.py
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "synthetic"
    config.data.synthetic.classes = 1000
    config.data.synthetic.dim = 768
    config.data.synthetic.largest = 640
    config.data.synthetic.median = 40
    config.data.synthetic.least = 5
    config.data.synthetic.scatter = 25.0
    return config
