"""TODO"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95  # of every interval


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
