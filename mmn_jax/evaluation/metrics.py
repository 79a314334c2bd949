"""Mean per-class accuracy, and the groups of classes that it is reported for: many-, medium- and few-shot classes, and terciles.

Every accuracy is in percent. Groups are formed by *training* count: many-shot classes have more than 100 examples by default, few-shot
ones fewer than 20, medium-shot ones 20 to 100. Terciles are the thirds of the classes with most, middling and fewest examples.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def per_class_accuracy(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"]) -> Float[np.ndarray, " C"]:
    """Returns the percentage of each class's examples that are classified correctly; NaN for a class without examples."""
    classes = logits.shape[1]
    total = np.bincount(y, minlength=classes)
    right = np.bincount(y[logits.argmax(1) == y], minlength=classes)
    return np.where(total > 0, 100.0 * right / np.maximum(total, 1), np.nan)


def mean_class_accuracy(logits: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"]) -> float:
    """Returns the mean of per-class accuracies over the classes that have examples."""
    return float(np.nanmean(per_class_accuracy(logits, y)))


def prior_accuracy(per_class: Float[np.ndarray, " C"], prior: Float[np.ndarray, " C"]) -> float:
    """Returns the accuracy under a class prior, over the classes that have a per-class accuracy; NaN if their prior is 0."""
    tested = np.isfinite(per_class)
    return float(np.average(per_class[tested], weights=prior[tested])) if prior[tested].sum() > 0 else float("nan")


def shot_groups(counts: Int[np.ndarray, " C"], few: int = 20, many: int = 100) -> dict[str, Bool[np.ndarray, " C"]]:
    """Returns masks of the many-shot (more than `many` training examples), medium-shot and few-shot classes (fewer than `few`)."""
    return {"many": counts > many, "medium": (counts >= few) & (counts <= many), "few": counts < few}


def terciles(counts: Int[np.ndarray, " C"]) -> dict[str, Bool[np.ndarray, " C"]]:
    """Returns masks of the thirds of the classes by training count; ties are broken by class index."""
    parts = np.array_split(np.argsort(-counts, kind="stable"), 3)
    return {name: np.isin(np.arange(len(counts)), part) for name, part in zip(("most", "middle", "rarest"), parts, strict=True)}
