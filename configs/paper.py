"""The paper's own sizes on the glyphs: S = 1000, 500, 200 subsets, blocks as wide as the rows, the full movement applied.

Not run to the end here yet: it has about 28 times as many heads as the default.

python bin/run.py --stage=meta --config=configs/paper.py --workdir=runs/paper
"""

from mmn_jax.config import default


def get_config():
    config = default()
    config.kshot.subsets = (1000, 500, 200)
    config.meta.width = 129
    config.meta.strength = (1.0,)
    return config
