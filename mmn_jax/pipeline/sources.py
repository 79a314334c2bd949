"""Loads the features that the config names, and returns their licence and the long tail to subsample them to."""

from typing import Any

from ml_collections import ConfigDict

from mmn_jax.data import feature_files, glyphs, synthetic
from mmn_jax.data.descriptions import describe_names, tested_again
from mmn_jax.data.parquet_files import Columns
from mmn_jax.errors import BadInput, Say, renamed
from mmn_jax.pipeline.column_flags import column_flags
from mmn_jax.store.terminal import warn
from mmn_jax.types import FeatureSet


def _embedded(config: ConfigDict) -> bool:
    """Returns whether the config names the embedded glyphs."""
    return config.data.source == "glyphs" or (config.data.source == "auto" and not config.data.path)


def load_features(config: ConfigDict, say: Say = warn) -> FeatureSet:
    """Loads the features that config.data names; features of images come from `vision.features`.

    Args:
      config: the settings.
      say: reports doubtful input.

    Raises:
      BadInput: settings contradict each other, the file is bad, or there is nothing to test on.
    """
    features = _read(config, say)
    if config.data.test == "none":
        if features.test is not None:
            say(f"the {len(features.test.y)} test examples are not used, by --config.data.test=none")
        return features._replace(test=None)
    if features.test is None and config.data.test_share is None and not config.data.manifest:
        ways = "--config.data.test_share=0.2 holds some of train out, --config.data.test=none trains on all and evaluates on folds"
        raise BadInput(f"{config.data.path}: has no test examples, test_x and test_y; add them, or {ways}")
    if features.test is not None and config.data.test_share is not None:
        say(f"--config.data.test_share: not used, as {config.data.path or features.name} has test examples")
    return features


def with_knowledge(config: ConfigDict, features: FeatureSet, say: Say) -> FeatureSet:
    """Returns the features with descriptions of the classes, made of their names where there are no others.

    Args:
      config: the settings.
      features: what was loaded.
      say: reports what is used.

    Raises:
      BadInput: examples without labels are test examples, too, and data.transductive doesn't say that this is meant.
    """
    again, known = tested_again(features), features.knowledge
    if again and not config.data.transductive:
        both = f"{again} rows of unlabelled_x are also in test_x"
        raise BadInput(f"{config.data.path}: {both}; leave them out, or say by --config.data.transductive=true that this is meant")
    if again:
        say(f"transductive: {again} rows of unlabelled_x are test examples, by data.transductive")
    if known.descriptions is None:
        known = known._replace(descriptions=describe_names(features.class_names))
        if known.descriptions is not None:
            say("the names of the classes describe them to mmn_names (class_embeddings would take their place)")
    return features._replace(knowledge=known)


def _read(config, say):
    """Reads the features that config.data names; without test examples if there are none."""
    if config.data.path and config.data.source in ("glyphs", "synthetic"):
        raise BadInput(f"--config.data.path={config.data.path}: not with data.source={config.data.source}, which has its own features")
    if _embedded(config):
        return glyphs.load()
    if config.data.source == "synthetic":
        with renamed({"synthetic": "--config.data.synthetic"}):
            return synthetic.make("synthetic", **config.data.synthetic)
    if not config.data.path:
        raise BadInput("--config.data.path: give the file or folder with your features")
    with column_flags():
        return feature_files.load(config.data.path, Columns(**config.data.columns), say, needs_test=False)


def licence(config: ConfigDict) -> str:
    """Returns the licence of the features, empty if the run doesn't know it."""
    return config.data.licence or (glyphs.LICENCE if _embedded(config) else "")


def tail(config: ConfigDict) -> dict[str, Any]:
    """Returns imbalance and max_per_class of the long tail to draw: data.longtail's, or the source's own where unset."""
    own = glyphs.TAIL if _embedded(config) else {}
    return {name: config.data.longtail[name] if config.data.longtail[name] is not None else own.get(name) for name in glyphs.TAIL}
