"""The default: 250 letters in many type families, a long tail from 200 to 2 examples a class.

python bin/run.py --stage=meta

What it gives, and in what time, is in README.md; --stage=eval adds the rivals (docs/leaderboard.md).
"""

from ml_collections import ConfigDict

from mmn_jax.config import default


def get_config() -> ConfigDict:
    """Returns every setting at its default, as a command without a recipe has them."""
    return default()
