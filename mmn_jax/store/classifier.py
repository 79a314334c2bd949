"""Loads a run's classifier.npz and applies it in numpy without JAX:

label = argmax(((x − mean) · scale) Wᵀ + b),    probabilities = softmax(scores / temperature)
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.array_files import read_npz
from mmn_jax.data.labels import normal, told_apart
from mmn_jax.errors import BadInput
from mmn_jax.evaluation.label_prior import gain, read_prior
from mmn_jax.store.terminal import program, warn

MANY = 16  # classes for which sorting takes no longer than so many passes over the scores


class Classifier(NamedTuple):
    """The arrays of classifier.npz.

    W: [C, d] and b: [C] score normalised features. class_names: [C]. mean, scale: [d] normalise features.
    temperature: [] calibrates scores. counts: [C] training examples; None in older files.
    """

    W: np.ndarray
    b: np.ndarray
    class_names: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    temperature: np.ndarray
    counts: np.ndarray | None = None


def of_rows(
    theta: np.ndarray, temperature: float, mean: np.ndarray, scale: np.ndarray | np.floating, class_names: Sequence[str], counts: np.ndarray
) -> Classifier:
    """Makes a Classifier.

    Args:
      theta: rows [C, d + 1] for normalised features.
      temperature: calibrates their scores.
      mean, scale: [d] and [] or [d]; what normalises features.
      class_names: of the C classes.
      counts: [C] training examples of each.
    """
    theta = theta.astype(np.float32)
    return Classifier(
        theta[:, :-1], theta[:, -1], np.array(class_names), mean, np.full_like(mean, scale), np.array(temperature, np.float32), counts
    )


def as_npz(classifier: Classifier) -> bytes:
    """Returns the content of classifier.npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in classifier._asdict().items() if array is not None})
    return buffer.getvalue()


class Prediction(NamedTuple):
    """Predictions for n rows: the k best classes [n, k] of each, the best first, and the probabilities [n, C] of all classes."""

    best: np.ndarray
    probabilities: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """The class [n] of the highest score."""
        return self.best[:, 0]

    @property
    def probability(self) -> np.ndarray:
        """Its probability [n]."""
        return self.probabilities[np.arange(len(self.best)), self.label]


def load_classifier(workdir: str) -> Classifier:
    """Loads the classifier of a run, or one that `mmn-jax fit` made.

    Args:
      workdir: the folder with classifier.npz, or that file.

    Raises:
      BadInput: there is none, an array is missing, or their shapes don't fit together.
    """
    given = Path(workdir)
    path = given if given.is_file() else given / "classifier.npz"
    if not path.is_file():
        folder, wrong = (given.parent, "is no file") if given.suffix == ".npz" else (given, "has no classifier.npz")
        made = f"mmn-jax fit --features=FEATURES --out={folder}, or {program()} --stage=meta --workdir={folder} --config.data.path=FEATURES"
        raise BadInput(f"--model={workdir}: {wrong}; make it by {made}")
    arrays = read_npz(path)
    if "temperature" not in arrays:
        warn(f"--model={workdir}: classifier.npz has no temperature, probabilities are not calibrated")
        arrays["temperature"] = np.ones((), np.float32)
    missing = [name for name in Classifier._fields if name not in {**arrays, **Classifier._field_defaults}]
    if missing:
        raise BadInput(f"--model={workdir}: classifier.npz lacks {missing[0]}; repeat the command that made it")
    found = Classifier(**{name: arrays[name] for name in Classifier._fields if name in arrays})
    classes, dim = found.W.shape if found.W.ndim == 2 else (0, 0)
    shapes = [(classes, dim), (classes,), (classes,), (dim,), (dim,), (), (classes,)]
    if classes < 2 or any(array is not None and array.shape != shape for array, shape in zip(found, shapes, strict=True)):
        raise BadInput(f"--model={workdir}: the arrays of classifier.npz don't fit together; repeat the command that made it")
    names = told_apart(tuple(map(normal, found.class_names.tolist())), f"--model={workdir}", warn)
    return found._replace(class_names=np.array(names))


def under_prior(classifier: Classifier, source: str) -> Classifier:
    """Adapts a classifier to the class prior in use.

    Args:
      classifier: as loaded, for a uniform prior.
      source: uniform, train (the training counts), or a text file of C numbers.

    Returns:
      The classifier with shifted biases.

    Raises:
      BadInput: the prior can't be read (`read_prior`), or is train and an older classifier.npz holds no counts.
    """
    if source == "train" and classifier.counts is None:
        raise BadInput("--prior=train: classifier.npz has no counts; repeat the command that made it")
    counts = np.ones(len(classifier.b)) if classifier.counts is None else classifier.counts
    gained = classifier.temperature * gain(read_prior(source, counts, "--prior", classifier.class_names.tolist()))
    return classifier._replace(b=classifier.b + gained.astype(np.float32))


def predict(classifier: Classifier, x: np.ndarray, k: int = 2) -> Prediction:
    """Classifies features x [n, d] and returns the k best classes; the probabilities of a row are NaN if a score overflows float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        scores = ((x - classifier.mean) * classifier.scale) @ classifier.W.T + classifier.b
        probabilities = scores - scores.max(1, keepdims=True)
        probabilities /= classifier.temperature
        np.exp(probabilities, out=probabilities)
        probabilities /= probabilities.sum(1, keepdims=True)
    return Prediction(_ranked(scores, k), probabilities)


def _ranked(scores, k):
    """Returns the k classes of the highest scores in each row [n, k], of equal ones the first; overwrites the scores."""
    if k > MANY:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.maximum(scores, np.finfo(scores.dtype).min, out=scores)  # a class of prior 0 comes before those that are taken already
    rows, best = np.arange(len(scores)), np.empty((len(scores), k), int)
    for place in range(k):
        best[:, place] = scores.argmax(1)
        scores[rows, best[:, place]] = -np.inf
    return best
