"""What the config names → FeatureSet, with its licence and the tail that it is cut to; and the shares of classes where it is used."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmn_jax.data import feature_files, glyphs, synthetic
from mmn_jax.data.parquet import Columns
from mmn_jax.evaluate import class_shares
from mmn_jax.types import BadInput, FeatureSet


def _embedded(config):
    return config.data.source == "glyphs" or (config.data.source == "auto" and not config.data.path)


def load_features(config: ConfigDict) -> FeatureSet:
    """The features that config.data names, which are not of images (`features.make`).

    Raises:
      BadInput: its settings contradict each other, or its file is bad.
    """
    if config.data.path and config.data.source in ("glyphs", "synthetic"):
        raise BadInput(f"--config.data.path={config.data.path}: not with data.source={config.data.source}, which has its own features")
    if _embedded(config):
        return glyphs.load()
    if config.data.source == "synthetic":
        return synthetic.make("synthetic", **config.data.synthetic)
    if not config.data.path:
        raise BadInput("--config.data.path: give the file or folder with your features")
    return feature_files.load(config.data.path, Columns(**config.data.columns))


def licence(config: ConfigDict) -> str:
    """Of the features; empty where the run doesn't know it."""
    return config.data.licence or (glyphs.LICENCE if _embedded(config) else "")


def tail(config: ConfigDict) -> dict[str, Any]:
    """imbalance and max_per_class of the long tail to make: of data.longtail, where that says nothing the source's own."""
    own = glyphs.TAIL if _embedded(config) else {}
    return {name: config.data.longtail[name] if config.data.longtail[name] is not None else own.get(name) for name in glyphs.TAIL}


def class_prior(source: str, counts: np.ndarray) -> np.ndarray:
    """[C] shares of the classes where the classifier is used: uniform, as in training, or from a text file.

    Raises:
      BadInput: the file cannot be read or doesn't hold C numbers from 0 up.
    """
    if source == "uniform":
        return np.full(len(counts), 1 / len(counts))
    if source == "train":
        return counts / counts.sum()
    try:
        prior = np.array(Path(source).read_text().split(), float)
    except (OSError, ValueError) as error:
        raise BadInput(f"--config.eval.prior={source}: must be uniform, train, or a text file of {len(counts)} numbers") from error
    return class_shares(prior, len(counts), f"--config.eval.prior={source}")
