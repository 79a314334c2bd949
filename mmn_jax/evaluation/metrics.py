"""Scores: mean per-class accuracy, many/medium/few-shot groups and terciles, calibration, paired bootstrap intervals.

Every accuracy is in percent. Groups go by *training* count, by default many > 100, medium 20–100, few < 20;
terciles hold the third of the classes with most examples, the middle and the rarest.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, ndtri, softmax, stdtrit

CONFIDENCE = 0.95  # of every interval
CHUNK_FLOATS = 2**22  # of the scores whose likelihood is taken at once


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


def reliability(logits: np.ndarray, y: np.ndarray, bins: int = 15) -> dict[str, np.ndarray]:
    """Examples, mean confidence and accuracy, both in percent, [bins] each, of equal-width bins of confidence (Guo et al. 2017); 0 for
    an empty bin."""
    probs = softmax(logits, axis=1)
    confidence, right = probs.max(1), probs.argmax(1) == y
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    means = [100.0 * np.bincount(which, values, bins) / np.maximum(count, 1) for values in (confidence, right)]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def calibration_error(logits: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in percent: |confidence − accuracy| over the bins of `reliability` (Guo et al. 2017)."""
    parts = reliability(logits, y, bins)
    return float(np.average(np.abs(parts["confidence"] - parts["accuracy"]), weights=parts["count"]))


def class_mean_nll(logits: np.ndarray, y: np.ndarray) -> float:
    """Negative log-likelihood in nats, averaged within classes and then over them."""
    return _class_mean(_losses(logits, y, 1.0), y)


def _losses(logits, y, temperature):
    """[n] in chunks: the scores of many classes are large, their copies in float64 larger."""
    rows = max(1, CHUNK_FLOATS // logits.shape[1])
    chunks = [(logits[first : first + rows], y[first : first + rows]) for first in range(0, len(y), rows)]
    return np.concatenate([-log_softmax(scores / temperature, axis=1)[np.arange(len(own)), own] for scores, own in chunks])


def _class_mean(losses, y):
    total = np.bincount(y)
    return float((np.bincount(y, losses)[total > 0] / total[total > 0]).mean())


def best_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """The T whose logits / T have the smallest `class_mean_nll` (Guo et al. 2017), between 1/100 and 100."""
    limit = np.log(100.0)
    return float(
        np.exp(minimize_scalar(lambda t: _class_mean(_losses(logits, y, np.exp(t)), y), bounds=(-limit, limit), method="bounded").x)
    )


def bootstrap(right: np.ndarray, y: np.ndarray, masks: np.ndarray, rng: np.random.Generator, draws: int = 2000) -> np.ndarray:
    """[draws, methods, groups] resampled mean per-class accuracies in percent, the same examples and seeds for all methods.

    Test examples are resampled within each class, n − 1 from n, and so are the seeds, which makes the variance of a draw the
    unbiased one (Rao & Wu 1988). What seeds add is widened by Student's t over the normal quantile, since a handful of them
    tells their spread badly. NaN for a group without tested classes.

    Args:
      right: [seeds, methods, n] whether each test example was right. y: [n]. masks: [seeds, groups, C].
    """
    seeds, methods, _ = right.shape
    tested = np.unique(y)
    sizes = masks[:, :, tested].sum(2)  # [seeds, groups]
    share = (masks[:, :, tested] / np.maximum(sizes, 1)[:, :, None]).astype(np.float32)
    values = np.zeros((masks.shape[1], draws, seeds, methods), np.float32)
    for i, c in enumerate(tested):
        own = right[:, :, y == c].reshape(seeds * methods, -1)
        accuracy = (_multiplicities(own.shape[1], rng, draws) @ own.T.astype(np.float32)).reshape(draws, seeds, methods)
        for group in np.flatnonzero(share[:, :, i].any(0)):
            values[group] += accuracy * share[:, group, i, None]
    weights = 1 / seeds + _student_factor(seeds) * (_multiplicities(seeds, rng, draws) - 1 / seeds)
    averaged = 100.0 * np.einsum("ds,gdsm->dmg", weights, values, optimize=True)
    averaged[..., (sizes == 0).any(0)] = np.nan
    return averaged


def _student_factor(seeds):
    """How much wider a 95% interval of a mean is for not knowing the spread of so few values."""
    return stdtrit(seeds - 1, (1 + CONFIDENCE) / 2) / ndtri((1 + CONFIDENCE) / 2) if seeds > 1 else 1.0


def _multiplicities(size, rng, draws):
    """[draws, size] how often each of `size` things is drawn, as shares."""
    drawn = max(size - 1, 1)
    return (rng.multinomial(drawn, np.full(size, 1 / size), size=draws) / drawn).astype(np.float32)


def student_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): Student's t interval of the mean of a few values, unbounded for a single one."""
    mean, count = float(np.mean(values)), len(values)
    spread = stdtrit(count - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else np.inf
    return mean, float(mean - spread), float(mean + spread)


def interval(differences: np.ndarray, mean: float) -> tuple[float, float, float]:
    """(mean, low, high): percentile interval of resampled differences [draws] (Efron & Tibshirani 1993, chapter 13)."""
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(mean), float(low), float(high)
