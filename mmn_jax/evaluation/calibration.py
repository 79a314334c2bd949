"""TODO"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

CHUNK_FLOATS = 2**22  # of the scores whose likelihood is taken at once


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
