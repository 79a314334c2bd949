"""The recipe of a command without --config: the embedded glyphs, every setting at its default."""

from ml_collections import ConfigDict

from mmn_jax.config import default


def get_config() -> ConfigDict:
    """Returns every setting at its default."""
    return default()
