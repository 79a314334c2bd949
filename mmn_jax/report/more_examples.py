"""Estimates what more training examples of a class would buy, from the Gaussian model of classes and from measured accuracies.

In the model (`linear/class_model.py`), whitened so that A = I, the mean of a class with n examples is known up to the variance
λ / (nλ + 1) in a direction where class means have the variance λ. What is left of all variance is

    u(n) = Σ λ / (nλ + 1) / Σ λ,    from 1 without an example to 0.

How much accuracy it costs not to know the mean, all classes of the run say together, in a logistic regression on their test examples:

    logit accuracy_c = α − β u(n_c)

The estimate for k more examples starts from the class's own accuracy, which is shrunk towards this curve as its test examples are few, and
adds β (u(n) − u(n + k)) to its logit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit
from scipy.stats import betabinom

from mmn_jax.linear.class_model import ADDED, class_model
from mmn_jax.types import Normalised

LEAST_CLASSES = 20  # tested classes that a curve can be fitted to
STRENGTHS = 2.0 ** np.arange(-1, 10)  # numbers of test examples that the curve may count as for a class


class Gains(NamedTuple):
    """The estimated accuracies of classes now and with more examples, in percent; NaN for classes without test examples."""

    now: Float[np.ndarray, " C"]
    then: Float[np.ndarray, " C"]


def between_class_variances(train: Normalised) -> Float[np.ndarray, " r"]:
    """Returns the model's λ: the variances of class means in units of those within classes."""
    return np.asarray(class_model(train, ADDED).spread)


def unknown_share(spread: Float[np.ndarray, " r"], counts: Int[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
    """Returns u(n), the share of the variance of a class's mean that is left after n examples, for all counts n."""
    numbers, which = np.unique(counts, return_inverse=True)  # a long tail has far fewer counts than classes
    return (np.array([(spread / (n * spread + 1)).sum() for n in numbers]) / spread.sum())[which]


def gains(
    spread: Float[np.ndarray, " r"], counts: Int[np.ndarray, " C"], right: Int[np.ndarray, " C"], tested: Int[np.ndarray, " C"], more: int
) -> Gains | None:
    """Estimates what `more` examples of a class would buy, for each class by itself.

    Args:
      spread: `between_class_variances` of the training set.
      counts: training examples of the classes.
      right: number of their test examples that the classifier gets right.
      tested: number of their test examples.
      more: number of additional examples.

    Returns:
      The estimates; None where classes are too few, or where accuracy doesn't grow with what is known of a class.
    """
    there = tested > 0
    now, then = (unknown_share(spread, n) for n in (counts, counts + more))
    curve = _curve(now[there], right[there], tested[there])
    if curve is None:
        return None
    level, slope = curve
    expected = expit(level - slope * now)
    strength = _strength(expected[there], right[there], tested[there])
    own = np.where(there, (right + strength * expected) / (tested + strength), np.nan)
    return Gains(100.0 * own, 100.0 * expit(logit(own) + slope * (now - then)))


def _curve(unknown, right, tested):
    """Returns α and β; None where they can't be estimated or β isn't above 0."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    if len(unknown) < LEAST_CLASSES or right.sum() == 0 or (right == tested).all() or np.ptp(unknown) < 1e-6:
        return None
    outcomes = np.repeat([1, 0], len(unknown))
    model = LogisticRegression(C=1e3).fit(np.tile(unknown, 2)[:, None], outcomes, np.concatenate([right, tested - right]))
    level, slope = float(model.intercept_[0]), -float(model.coef_[0, 0])
    return (level, slope) if slope > 0 else None


def _strength(expected, right, tested):
    """Returns how many test examples the curve counts as: the most likely strength of a beta-binomial distribution around it."""
    likelihood = [betabinom.logpmf(right, tested, s * expected, s * (1 - expected)).sum() for s in STRENGTHS]
    return STRENGTHS[int(np.argmax(likelihood))]
