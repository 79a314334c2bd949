"""Confidence intervals: a stratified bootstrap over test examples and seeds, paired over methods, Student's t for a few values, and
Wilson's for shares."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95  # level of every interval
FEWEST_SEEDS = 3  # from which their spread says something: Student's t of two has one degree of freedom, and a factor of 12.7


def bootstrap(
    right: Bool[np.ndarray, "seeds methods n"],
    y: Int[np.ndarray, " n"],
    masks: Bool[np.ndarray, "seeds groups C"],
    rng: np.random.Generator,
    draws: int = 2000,
) -> Float[np.ndarray, "{draws} methods groups"]:
    """Resamples mean per-class accuracies, with the same examples and seeds for all methods.

    Test examples are resampled within each class, n − 1 out of n, and so are seeds, so that the variance of a draw is the unbiased
    one (Rao & Wu 1988). The contribution of seeds is multiplied by the ratio of Student's t quantile to the normal one, since a handful of
    seeds gives a poor estimate of their variance. Fewer than FEWEST_SEEDS are not resampled: draws then hold the variance over test
    examples within these seeds alone.

    Args:
      right: whether each method classified each test example correctly, for each seed.
      y: labels of the test examples.
      masks: which classes belong to each group, for each seed.
      rng: source of the draws.
      draws: their number.

    Returns:
      Accuracies in percent; NaN for a group that in some seed has no class with test examples.
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
    """Returns the ratio of Student's t quantile to the normal one at CONFIDENCE, for the mean of as many values as there are seeds; 0 for
    fewer than FEWEST_SEEDS."""
    return stdtrit(seeds - 1, (1 + CONFIDENCE) / 2) / ndtri((1 + CONFIDENCE) / 2) if seeds >= FEWEST_SEEDS else 0.0


def _multiplicities(size, rng, draws):
    """Returns [draws, size] the share of draws that each of `size` items gets when size − 1 are drawn with replacement."""
    drawn = max(size - 1, 1)
    return (rng.multinomial(drawn, np.full(size, 1 / size), size=draws) / drawn).astype(np.float32)


def student_interval(values: Sequence[float] | Float[np.ndarray, " values"]) -> tuple[float, float, float]:
    """Returns the mean of a few values and the ends of its Student's t interval, which are infinite for a single value."""
    mean, count = float(np.mean(values)), len(values)
    spread = stdtrit(count - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else np.inf
    return mean, float(mean - spread), float(mean + spread)


def wilson_interval(
    successes: Int[np.ndarray, " groups"], trials: Int[np.ndarray, " groups"]
) -> tuple[Float[np.ndarray, " groups"], Float[np.ndarray, " groups"]]:
    """Returns the ends of the score interval of shares (Wilson 1927), from 0 to 1, which holds for few trials, too; NaN without trials."""
    z = ndtri((1 + CONFIDENCE) / 2)
    with np.errstate(invalid="ignore"):
        share = successes / trials
        centre = (successes + z**2 / 2) / (trials + z**2)
        half = z / (trials + z**2) * np.sqrt(trials * share * (1 - share) + z**2 / 4)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def interval(differences: Float[np.ndarray, " draws"], mean: float) -> tuple[float, float, float]:
    """Returns the mean that is given and the ends of the percentile interval of resampled differences (Efron & Tibshirani 1993,
    chapter 13)."""
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(mean), float(low), float(high)
