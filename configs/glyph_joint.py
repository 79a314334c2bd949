"""Letters as images, the backbone fine-tuned on the long tail: joint feature and classifier dynamics (docs/joint_dynamics.md).

python bin/run.py --stage=eval --config=configs/glyph_joint.py --config.data.path=glyph_images.npz --config.seeds=0,1,2
... --config.features.finetune=fixed      once, instead of at every stage of the chain; none: frozen features
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "images"
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    config.features.finetune = "recursive"
    return config
