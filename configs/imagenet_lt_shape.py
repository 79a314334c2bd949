"""Synthetic features with the shape of ImageNet-LT (116,000 × 768, 1,000 classes of 640 to 5 examples, median 40), about as hard as real
ones, to measure time and memory. The accuracies mean nothing.

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
    config.data.synthetic.scatter = 10.0
    return config
