"""Scores: mean per-class accuracy, many/medium/few-shot groups, calibration, paired bootstrap intervals.

Every accuracy is in percent. Groups go by *training* count: many > 100, medium 20–100, few < 20.
"""

import numpy as np


def predict_logits(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[n, C] logits of normalised features x [n, d] under rows theta [C, d+1]."""
    theta = np.asarray(theta)
    return x @ theta[:, :-1].T + theta[:, -1]


def per_class_accuracy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[C] percent of each class's examples that are right; NaN for a class without examples."""
    classes = logits.shape[1]
    total = np.bincount(y, minlength=classes)
    right = np.bincount(y[logits.argmax(1) == y], minlength=classes)
    return np.where(total > 0, 100.0 * right / np.maximum(total, 1), np.nan)


def mean_class_accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """Mean of per-class accuracies over the classes that have examples."""
    return float(np.nanmean(per_class_accuracy(logits, y)))


def shot_groups(counts: np.ndarray, few: int = 20, many: int = 100) -> dict[str, np.ndarray]:
    """[C] masks of the many-, medium- and few-shot classes by their training counts."""
    return {"many": counts > many, "medium": (counts >= few) & (counts <= many), "few": counts < few}


def softmax(logits: np.ndarray) -> np.ndarray:
    """[n, C] probabilities."""
    scaled = np.exp(logits - logits.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def calibration_error(logits: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in percent: |confidence − accuracy| over equal-width bins (Guo et al. 2017)."""
    probs = softmax(logits)
    confidence, right = probs.max(1), probs.argmax(1) == y
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(100.0 * np.abs(gap).sum() / len(y))


def paired_interval(
    difference: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean, low and high of a difference in mean per-class accuracy, by paired bootstrap.

    difference: [seeds, n], (right under A) − (right under B) of every test example.
    Each draw resamples the test examples within every class, the same ones for all
    seeds, and the seeds. Percentile interval (Efron & Tibshirani 1993, chapter 13).
    """
    seeds, _ = difference.shape
    present = np.unique(y)
    sums = np.zeros((draws, seeds))
    for c in present:
        own = difference[:, y == c]
        size = own.shape[1]
        times = rng.multinomial(size, np.full(size, 1 / size), size=draws)
        sums += times @ own.T / size
    seed_times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    values = 100.0 * (sums * seed_times).sum(1) / seeds / len(present)
    mean = 100.0 * np.mean([difference[:, y == c].mean() for c in present])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(mean), float(low), float(high)
