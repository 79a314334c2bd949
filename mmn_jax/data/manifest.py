"""Reads and writes splits as small JSON files: which examples, by what rule, and checksums of the indices and of the labels.

    {"schema", "dataset", "seed", "rule", "counts", "labels_sha256", "indices_sha256", "train": [..], "val": [..], "test": [..]}

Indices are rows of the set's train_x; val is empty if the set has a validation set of its own, and test is missing unless test examples
were held out of train_x.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int8

from mmn_jax.data.longtail import TEST, TRAIN, UNUSED, VAL, check_every_class
from mmn_jax.errors import BadInput
from mmn_jax.types import FeatureSet

DAMAGED = (ValueError, KeyError, TypeError, OverflowError, RecursionError)  # raised by reading a file that is no manifest

Manifest = dict[str, Any]


def _sha256(values):
    return hashlib.sha256(np.asarray(values, "<i8").tobytes()).hexdigest()


def labels_sha256(features: FeatureSet) -> str:
    """Returns the checksum of the labels of the training examples."""
    return _sha256(features.train.y)


def describe(features: FeatureSet, part: Int8[np.ndarray, " n"], seed: int, rule: dict[str, Any]) -> Manifest:
    """Returns the manifest of a split.

    Args:
      features: the set.
      part: TRAIN, VAL, TEST or UNUSED for each of its training examples.
      seed: the seed that the split was drawn by.
      rule: how it was made, JSON-able.
    """
    train, val, test = (np.flatnonzero(part == which) for which in (TRAIN, VAL, TEST))
    return {
        "schema": 1,
        "dataset": features.name,
        "seed": seed,
        "rule": rule,
        "counts": np.bincount(features.train.y[train], minlength=len(features.class_names)).tolist(),
        "labels_sha256": labels_sha256(features),
        "indices_sha256": _sha256(np.concatenate([train, val, test])),
        "train": train.tolist(),
        "val": val.tolist(),
        **({"test": test.tolist()} if len(test) else {}),
    }


def source(path: Path) -> tuple[str, str] | None:
    """Returns the name of a manifest's data set and the checksum of its labels; None if the file is missing or damaged."""
    try:
        manifest = json.loads(path.read_text())
        return str(manifest["dataset"]), str(manifest["labels_sha256"])
    except (OSError, *DAMAGED):
        return None


def read(path: str | Path, features: FeatureSet) -> Int8[np.ndarray, " n"]:
    """Reads the split of a manifest, for `longtail.take`.

    Raises:
      BadInput: the file can't be read, is no manifest or damaged, or was made for a set with other labels or with another source of test
        examples.
    """
    try:
        manifest = json.loads(Path(path).read_text())
        train, val, test = (np.array({"test": [], **manifest}[name], int).reshape(-1) for name in ("train", "val", "test"))
        labels, indices = manifest["labels_sha256"], manifest["indices_sha256"]
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    except DAMAGED as error:
        raise BadInput(f"{path}: not a split manifest; a run writes one as seed-N/split.json") from error
    if labels != labels_sha256(features):
        raise BadInput(f"{path}: made for other features: the labels of train_y differ")
    every, n = np.concatenate([train, val, test]), len(features.train.y)
    if indices != _sha256(every):
        raise BadInput(f"{path}: its indices were changed, their checksum differs")
    if len(test) and features.test is not None:
        raise BadInput(f"{path}: made for other features: it tests on rows of train_x, these have a test set")
    if len(np.unique(every)) < len(every) or (len(every) and (every.min() < 0 or every.max() >= n)):
        raise BadInput(f"{path}: its indices must be different rows of train_x, 0 to {n - 1}")
    part = np.full(n, UNUSED, np.int8)
    part[train], part[val], part[test] = TRAIN, VAL, TEST
    check_every_class(features, train, str(path))
    return part
