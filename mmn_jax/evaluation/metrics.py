"""Scores: mean per-class accuracy, many/medium/few-shot groups and terciles, calibration, paired bootstrap intervals.

Every accuracy is in percent. Groups go by *training* count, by default many > 100, medium 20–100, few < 20;
terciles hold the third of the classes with most examples, the middle and the rarest.
"""

import numpy as np


def per_class_accuracy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[C] percent of each class's examples that are right; NaN for a class without examples."""
    classes = logits.shape[1]
    total = np.bincount(y, minlength=classes)
    right = np.bincount(y[logits.argmax(1) == y], minlength=classes)
    return np.where(total > 0, 100.0 * right / np.maximum(total, 1), np.nan)


def mean_class_accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """Mean of per-class accuracies over the classes that have examples."""
    return float(np.nanmean(per_class_accuracy(logits, y)))


def prior_accuracy(per_class: np.ndarray, prior: np.ndarray) -> float:
    """Accuracy where class c comes up with probability prior[c], over the classes that were tested."""
    tested = np.isfinite(per_class)
    return float(np.average(per_class[tested], weights=prior[tested])) if prior[tested].sum() > 0 else float("nan")


def shot_groups(counts: np.ndarray, few: int, many: int) -> dict[str, np.ndarray]:
    """[C] masks of the many-, medium- and few-shot classes by their training counts."""
    return {"many": counts > many, "medium": (counts >= few) & (counts <= many), "few": counts < few}


def terciles(counts: np.ndarray) -> dict[str, np.ndarray]:
    """[C] masks of the thirds of the classes by training count; ties go by class index."""
    parts = np.array_split(np.argsort(-counts, kind="stable"), 3)
    return {name: np.isin(np.arange(len(counts)), part) for name, part in zip(("most", "middle", "rarest"), parts, strict=True)}
