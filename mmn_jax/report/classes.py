"""Computes what the page says of single classes and of groups, as small arrays: predictions, accuracies, confusions and calibration.

All of it concerns the test examples of one seed, and nothing is fitted. Accuracies and probabilities are in percent.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import ndtri, softmax

from mmn_jax.evaluation.bootstrap import CONFIDENCE, wilson_interval
from mmn_jax.evaluation.label_prior import NAMED, class_shares, gain
from mmn_jax.store.run import Model
from mmn_jax.types import LongTail

CHUNK_FLOATS = 2**24  # number of scores in memory at once


class Predictions(NamedTuple):
    """A method's predictions for the test examples of one seed.

    label: the predicted class. probability: its calibrated probability under a uniform class prior. at_train_prior: the predicted class
    after the scores are shifted to the class prior of the training set.
    """

    label: Int[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    at_train_prior: Int[np.ndarray, " n"]


def predictions(model: Model, tail: LongTail) -> Predictions:
    """Applies a fitted method to the test examples; without any, takes what it predicted for the examples that folds hold out."""
    if tail.test is None:
        return Predictions(*_predicted(model, tail.counts, model.held))
    x, rows = tail.test.x, max(1, CHUNK_FLOATS // len(tail.counts))
    parts = [_predicted(model, tail.counts, model.logits(model.arrays, x[first : first + rows])) for first in range(0, len(x), rows)]
    return Predictions(*map(np.concatenate, zip(*parts, strict=True)))


def _predicted(model, counts, logits):
    scores = np.asarray(logits) / model.temperature
    shifted = scores + gain(class_shares(NAMED["train"](counts), len(counts), "counts"))
    return scores.argmax(1), 100.0 * softmax(scores, axis=1).max(1), shifted.argmax(1)


class Classes(NamedTuple):
    """The test results of every class.

    counts: training examples. tested: test examples; where a class has none, its accuracies are NaN. before, after: accuracy of two
    methods. low, high: the 95% interval of `after`. confused: the class that `after` predicts most often in its place, −1 for none.
    share: the percentage of its test examples that this happens to.
    """

    counts: Int[np.ndarray, " C"]
    tested: Int[np.ndarray, " C"]
    before: Float[np.ndarray, " C"]
    after: Float[np.ndarray, " C"]
    low: Float[np.ndarray, " C"]
    high: Float[np.ndarray, " C"]
    confused: Int[np.ndarray, " C"]
    share: Float[np.ndarray, " C"]


class Mistakes(NamedTuple):
    """How many examples of class `true` are predicted as `predicted`, for every pair of classes that occurs, most frequent first."""

    true: Int[np.ndarray, " pairs"]
    predicted: Int[np.ndarray, " pairs"]
    number: Int[np.ndarray, " pairs"]


def mistakes(y: Int[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> Mistakes:
    """Counts the wrong predictions of every pair of classes."""
    wrong = y != label
    (true, predicted), number = np.unique(np.stack([y[wrong], label[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-number, kind="stable")
    return Mistakes(true[order], predicted[order], number[order])


def results_by_class(
    y: Int[np.ndarray, " n"], labels: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]], counts: Int[np.ndarray, " C"]
) -> Classes:
    """Computes the test results of every class.

    Args:
      y: labels of the test examples.
      labels: what the two methods predict, `before` and `after`.
      counts: training examples of the classes.
    """
    classes = len(counts)
    tested = np.bincount(y, minlength=classes)
    right = [np.bincount(y[label == y], minlength=classes) for label in labels]
    low, high = wilson_interval(right[1], tested)
    found = mistakes(y, labels[1])
    confused, number = np.full(classes, -1), np.zeros(classes)
    true, first = np.unique(found.true, return_index=True)  # the first of a class is its most frequent mistake
    confused[true], number[true] = found.predicted[first], found.number[first]
    with np.errstate(invalid="ignore"):
        before, after, share = (100.0 * one / tested for one in (*right, number))
    return Classes(counts, tested, before, after, 100.0 * low, 100.0 * high, confused, share)


def worst(classes: Classes, most: int) -> Int[np.ndarray, " worst"]:
    """Returns up to `most` classes that are recognised worst, by the upper end of their interval, so that a class with few test examples
    isn't listed by chance; classes without mistakes are left out."""
    order = np.argsort(classes.high, kind="stable")  # NaN, for untested classes, comes last
    return order[classes.after[order] < 100.0][:most]


class Pairs(NamedTuple):
    """Pairs of classes that are taken for each other: how many test examples of `first` are predicted as `second`, and the reverse."""

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    there: Int[np.ndarray, " pairs"]
    back: Int[np.ndarray, " pairs"]


def confused_pairs(found: Mistakes, tested: Int[np.ndarray, " C"], most: int) -> Pairs:
    """Returns up to `most` pairs with the largest share of their test examples taken for each other, by the lower end of its interval.

    Args:
      found: all mistakes.
      tested: test examples of the classes.
      most: number of pairs.
    """
    ends = np.sort(np.stack([found.true, found.predicted]), axis=0)
    (first, second), which = np.unique(ends, axis=1, return_inverse=True)
    forth = found.true < found.predicted
    there, back = (np.bincount(which.ravel()[mask], found.number[mask], len(first)).astype(int) for mask in (forth, ~forth))
    low, _ = wilson_interval(there + back, tested[first] + tested[second])
    order = np.argsort(-low, kind="stable")[:most]
    return Pairs(first[order], second[order], there[order], back[order])


def weighted_accuracy(
    right: Shaped[np.ndarray, " n"], y: Int[np.ndarray, " n"], prior: Float[np.ndarray, " C"]
) -> tuple[float, float, float]:
    """Returns the accuracy under a class prior with its 95% interval, normal and stratified by class, in percent.

    Args:
      right: 1 where a test example is classified correctly, else 0; or the difference of two methods, for its interval.
      y: labels of the test examples.
      prior: of the classes; those without test examples are left out.
    """
    tested, number = np.unique(y, return_counts=True)
    weight = prior[tested] / prior[tested].sum()
    values = right.astype(float)
    mean = np.bincount(y, values)[tested] / number
    square = np.bincount(y, values**2)[tested] / number
    variance = (square - mean**2) / np.maximum(number - 1, 1)  # of the class's mean
    middle, half = 100.0 * weight @ mean, 100.0 * ndtri((1 + CONFIDENCE) / 2) * np.sqrt(weight**2 @ variance)
    return float(middle), float(middle - half), float(middle + half)


class Calibration(NamedTuple):
    """The predictions of classes of one group: their number, and means of their probability and of whether they are right, in percent."""

    number: int
    probability: float
    right: float


def calibration_of(made: Predictions, y: Int[np.ndarray, " n"], group: Bool[np.ndarray, " C"]) -> Calibration | None:
    """Compares probabilities with accuracy for the predictions whose class is in a group, every true class weighted alike.

    Args:
      made: the predictions of a method.
      y: labels of the test examples.
      group: which classes it consists of.

    Returns:
      The comparison; None if no prediction is of the group.
    """
    inside = group[made.label]
    if not inside.any():
        return None
    weight = 1.0 / np.bincount(y)[y[inside]]
    means = [np.average(values[inside], weights=weight) for values in (made.probability, 100.0 * (made.label == y))]
    return Calibration(int(inside.sum()), *map(float, means))
