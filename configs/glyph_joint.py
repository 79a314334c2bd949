"""Letters as images, the backbone fine-tuned on the long tail: joint feature and classifier dynamics (docs/joint_dynamics.md).

python bin/run.py --stage=eval --config=configs/glyph_joint.py --config.data.path=glyph_images.npz --config.seeds=0,1,2
... --config.features.finetune=fixed      once, instead of at every stage of the chain; none: frozen features

What it needs: an npz with train_x, train_y, val_x, val_y, test_x, test_y, and base_x, base_y, images of other classes to train the backbone
on first; and pip install 'mmn_jax[images]'.

Run here, seed 0: the backbone on 22,500 images of 150 other characters, 8 epochs, gets 97.0% of held-out images of these right;
metamodelnet 77.7 with it frozen, 81.6 fine-tuned once for 6 epochs, 81.9 at every stage for one
(docs/joint_dynamics.md). Other seeds have not been run.
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.data.source = "images"
    config.data.longtail.imbalance = 100.0
    config.data.longtail.max_per_class = 200
    config.features.finetune = "recursive"
    return config
