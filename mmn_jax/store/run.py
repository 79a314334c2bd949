"""What the stages of a run share: the run itself, its data, a method's model and the record of how it was chosen."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mmn_jax.data.normalisation import Normalisation
from mmn_jax.methods.contract import Record
from mmn_jax.methods.folds import Fold
from mmn_jax.store import artifacts
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import FeatureSet, LongTail

ARTIFACT_SCHEMA = 10  # part of every hash: artefacts of another layout are made anew


class Run(NamedTuple):
    """One seed of a run: its data and their fingerprint, and where its artefacts go."""

    config: ConfigDict
    seed: int
    workdir: Path
    features: FeatureSet
    fingerprint: str
    terminal: Terminal

    def path(self, name: str, *dependencies: Any) -> Path:
        """Where an artefact lies that depends on these JSON-able values, and on the schema of artefacts."""
        return self.workdir / f"seed-{self.seed}" / f"{name}-{artifacts.digest(ARTIFACT_SCHEMA, *dependencies)}"


class Data(NamedTuple):
    """A LongTail with normalised features, the normalisation, and how knobs are chosen on it.

    whole: the training set, and beside it the validation set or None. folds: what settings are
    fitted and judged on; just `whole` where it has a validation set. stage_parts: by k, the training set in the features that the
    chain's stage of k has, where they are others (mmn_jax/vision/joint.py). checksums: of the split (mmn_jax/data/manifest.py).
    """

    tail: LongTail
    normalise: Normalisation
    whole: Fold
    folds: tuple[Fold, ...]
    stage_parts: Mapping[int, Fold] = {}
    checksums: Mapping[str, str] = {}


class Model(NamedTuple):
    """A method's classifier of one seed, and how it came about.

    arrays, logits: logits(arrays, x) scores normalised features. temperature: what logits are divided by to be
    calibrated. tuned: the chosen setting. trials: all settings tried, in order.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    logits: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
    val_accuracy: float
    temperature: float
    tuned: dict[str, Any]
    trials: list[dict[str, Any]]
    seconds: float


def warn_unless_solved(run: Run, what: str, norm: float, tol: float, setting: str) -> None:
    """Says so where a head stopped above the gradient norm `tol` that `setting` asks for."""
    if not norm <= tol:
        run.terminal.say(f"  warning: {what} stopped at gradient norm {norm:.1e}, above {setting}")


def make_model(kind: str, arrays: dict, logits: Callable, record: Record, seconds: float, **tuned: Any) -> Model:
    """Makes the Model of a method from the Record of its choice; tuned: what else is shown of it."""
    tuned = {**record.setting, "settings_tried": len(record.trials), "gradient_norm": record.gradient_norm, **tuned}
    return Model(kind, arrays, logits, record.val_accuracy, record.temperature, tuned, record.trials, seconds)
