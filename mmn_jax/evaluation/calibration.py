"""Calibration of scores: reliability bins, expected calibration error, class-balanced likelihood, and temperature scaling.

ECE = Σ_b n_b / n · |accuracy_b − confidence_b|,    probabilities = softmax(logits / T)        (Guo et al. 2017)
"""

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

CHUNK_FLOATS = 2**22  # number of scores whose likelihood is computed at once
ENOUGH_FLOATS = 2**26  # number of scores that a temperature is chosen by, at most: with 8,142 classes, those of 8,242 examples


def reliability(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"], bins: int = 15) -> dict[str, Shaped[np.ndarray, " {bins}"]]:
    """Returns what a reliability diagram shows (Guo et al. 2017).

    Args:
      logits: scores, whose softmax are the probabilities.
      y: labels.
      bins: the number of equal-width bins of confidence, the largest probability of an example.

    Returns:
      `count`, `confidence` and `accuracy`: the number of examples in each bin, and the means of their confidence and accuracy in percent,
      0 in an empty bin.
    """
    probs = softmax(logits, axis=1)
    confidence, right = probs.max(1), probs.argmax(1) == y
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    means = [100.0 * np.bincount(which, values, bins) / np.maximum(count, 1) for values in (confidence, right)]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def calibration_error(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"], bins: int = 15) -> float:
    """Returns the expected calibration error in percent: the mean of |confidence − accuracy| over the bins of `reliability`, weighted by
    their counts (Guo et al. 2017)."""
    parts = reliability(logits, y, bins)
    return float(np.average(np.abs(parts["confidence"] - parts["accuracy"]), weights=parts["count"]))


def class_mean_nll(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"]) -> float:
    """Returns the negative log-likelihood in nats, averaged within each class and then over classes that have examples."""
    return _class_mean(_losses(logits, y, 1.0), y)


def _losses(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"], temperature: float) -> Float[np.ndarray, " n"]:
    """Returns the negative log-likelihood of each example, computed in chunks: copies of the scores in float64 would be large."""
    rows = max(1, CHUNK_FLOATS // logits.shape[1])
    chunks = [(logits[first : first + rows], y[first : first + rows]) for first in range(0, len(y), rows)]
    return np.concatenate([-log_softmax(scores / temperature, axis=1)[np.arange(len(own)), own] for scores, own in chunks])


def _class_mean(losses, y):
    total = np.bincount(y)
    return float((np.bincount(y, losses)[total > 0] / total[total > 0]).mean())


def _of_every_class(y: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " {most}"]:
    """Returns the positions of `most` examples: a second one of a class only after a first of every class, and so on."""
    order = np.argsort(y, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(y)) - np.searchsorted(y[order], y[order])
    level = np.sort(rank)[most - 1]
    sure, last = np.flatnonzero(rank < level), np.flatnonzero(rank == level)
    return np.concatenate([sure, last[np.linspace(0, len(last) - 1, most - len(sure)).round().astype(int)]])


def best_temperature(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"]) -> float:
    """Returns the T from 1/100 to 100 for which logits / T have the smallest `class_mean_nll` (Guo et al. 2017).

    Of more than ENOUGH_FLOATS scores, those of as many examples of each class as possible decide.
    """
    limit, most = np.log(100.0), max(1, ENOUGH_FLOATS // logits.shape[1])
    if len(y) > most:
        some = _of_every_class(y, most)
        logits, y = logits[some], y[some]
    return float(
        np.exp(minimize_scalar(lambda t: _class_mean(_losses(logits, y, np.exp(t)), y), bounds=(-limit, limit), method="bounded").x)
    )
