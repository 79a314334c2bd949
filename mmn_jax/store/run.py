"""The types that the stages of a run share: the run itself, its data, and a method's model."""

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

ARTIFACT_SCHEMA = 14  # part of every hash, so that artefacts of another layout are not used


class Run(NamedTuple):
    """One seed of a run.

    fingerprint: of the features. workdir: the folder of its artefacts.
    """

    config: ConfigDict
    seed: int
    workdir: Path
    features: FeatureSet
    fingerprint: str
    terminal: Terminal

    def path(self, name: str, *dependencies: Any) -> Path:
        """Returns the path of an artefact, which depends on these JSON-able values and on the schema of artefacts."""
        return self.workdir / f"seed-{self.seed}" / f"{name}-{artifacts.digest(ARTIFACT_SCHEMA, *dependencies)}"


class Data(NamedTuple):
    """The data of one seed.

    tail: with normalised features. normalise: what normalised them. whole: the training set, with the validation set if there is one.
    folds: training and validation examples that settings are chosen on; only `whole` if it has a validation set. stage_parts: by k, the
    training set of a level of the chain with features of its own (`vision/joint.py`). checksums: of the split (`data/manifest.py`).
    """

    tail: LongTail
    normalise: Normalisation
    whole: Fold
    folds: tuple[Fold, ...]
    stage_parts: Mapping[int, Fold] = {}
    checksums: Mapping[str, str] = {}


class Model(NamedTuple):
    """A method's classifier of one seed, and how it was chosen.

    kind: of the method (`Method`). arrays, logits: logits(arrays, x) scores normalised features. val_accuracy: on validation examples, in
    percent. temperature: logits are divided by it to be calibrated. tuned: the chosen setting, and what else is recorded of it. trials: all
    settings tried, in order. seconds: of all its computations. held: where there is no test set, the logits [m, C] of the training examples
    that folds hold out, in their order, each by the fit of the chosen setting that didn't see it.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    logits: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
    val_accuracy: float
    temperature: float
    tuned: dict[str, Any]
    trials: list[dict[str, Any]]
    seconds: float
    held: np.ndarray | None = None


def warn_unless_solved(run: Run, what: str, norm: float, tol: float, setting: str) -> None:
    """Prints a warning if a head stopped above the gradient norm `tol`.

    Args:
      run: whose terminal is used.
      what: the head, for the message.
      norm: the gradient norm that was reached.
      tol: the one wanted.
      setting: the setting that tol comes from.
    """
    if not norm <= tol:
        run.terminal.say(f"  warning: {what} stopped at gradient norm {norm:.1e}, above {setting}")


def make_model(
    kind: str,
    arrays: dict[str, np.ndarray],
    logits: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray],
    record: Record,
    seconds: float,
    **tuned: Any,
) -> Model:
    """Makes the Model of a method from the Record of its choice; tuned: what else is recorded beside the setting."""
    tuned = {**record.setting, "settings_tried": len(record.trials), "gradient_norm": record.gradient_norm, **tuned}
    return Model(kind, arrays, logits, record.val_accuracy, record.temperature, tuned, record.trials, seconds)
