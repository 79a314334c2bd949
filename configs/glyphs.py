"""The default: 250 letters in many type families, a long tail from 200 to 2 examples a class.

python bin/run.py --stage=meta

What it gives, and in what time, is in README.md; --stage=eval adds the rivals (docs/leaderboard.md).
"""

from mmn_jax.pipeline.glyphs_recipe import get_config  # in the package, so that an installed one has its default

__all__ = ["get_config"]
