"""Letters as images, the backbone fine-tuned on the long tail: joint feature and classifier dynamics (docs/joint_dynamics.md).

python bin/run.py --stage=eval --config=configs/glyph_joint.py --config.data.path=glyph_images.npz --config.seeds=0,1,2
... --config.features.finetune=fixed --config.finetune.epochs=6      once, instead of at every level of the chain
... --config.features.finetune=none                                   frozen features

What it needs: an npz with train_x, train_y, val_x, val_y, test_x, test_y, and base_x, base_y, images of other classes to train the backbone
on first; and pip install 'mmn_jax[images]'.

Run here, seeds 0 to 2: the backbone on 22,500 images of 150 other characters classifies 97.8% of their held-out images correctly;
metamodelnet 78.0 with it frozen, 85.7 fine-tuned once, 84.9 at every level; mmn 84.0, 88.9, 88.3 (docs/joint_dynamics.md). The features
inside the package are those of finetune=none, packed by bin/pack_glyphs.py.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "images"
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    config.features.epochs = 16.0
    config.features.finetune = "recursive"
    config.finetune.epochs = 1.0
    config.finetune.rate = 3e-3
    return config
