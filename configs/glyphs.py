"""The default: 250 letters in many type families, a long tail from 200 to 2 examples a class.

python bin/run.py --stage=meta

Gave on seed 0: plain 74.9, cost_sensitive 80.7, metamodelnet 79.7, mmn 83.9 mean per-class test accuracy, in 254 s on
two cores. --stage=eval adds the rivals (docs/leaderboard.md).
"""

from mmn_jax.data.glyphs import get_config  # in the package, so that an installed one has its default

__all__ = ["get_config"]
