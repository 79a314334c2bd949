"""`TailClassifier`, the scikit-learn face: arrays or data frames in, any label, and one of the table's methods behind it.

    from mmn_jax import TailClassifier
    model = TailClassifier().fit(X, y)
    model.predict(X_new), model.predict_proba(X_new)

Fitting is what `--config.data.validation=train` does: knobs are chosen by stratified folds of the training set, all with the
functions that the command line uses. With an integer random_state the classifier is the one of a run of that seed.
"""

import numbers
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mmn_jax import config, diagnose
from mmn_jax.classes import ClassStatistics, Shrinkage, bayesian_rows, class_statistics, model_of
from mmn_jax.evaluate import class_shares
from mmn_jax.methods import Tuned, start, tune
from mmn_jax.pipeline import every_method
from mmn_jax.tuning import Fold, normalisation, solvers, training_folds
from mmn_jax.types import BadInput, Examples

DEFAULT = config.default()
ADDED = Shrinkage(0.3, 0.5)  # of the model of classes that a row added later comes from


def _seed(random_state):
    """The integer itself, so that it names the same streams as --config.seed."""
    generator = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, numbers.Integral) else int(generator.randint(2**31 - 1))


def _codes(classes, y, name):
    """[n] int32 position of each label in the sorted classes."""
    unknown = ~np.isin(y, classes)
    if unknown.any():
        raise BadInput(f"{name}: label {y[unknown][0]!r} is not in y")
    return np.searchsorted(classes, y).astype(np.int32)


def added_row(statistics: ClassStatistics, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[d+1] row of a class seen in the normalised examples x [k, d] alone, to stand beside the rows theta [C, d+1].

    It is the class's Bayesian row, moved to where the others stand: theta is, in least squares over its centred rows, so many times
    the others' Bayesian rows.
    """
    model = model_of(statistics, ADDED)
    known = bayesian_rows(model, statistics.means, statistics.counts)
    centre, own = known.mean(0), theta.mean(0)
    scale = ((known - centre) * (theta - own)).sum() / ((known - centre) ** 2).sum()
    new = bayesian_rows(model, x.mean(0, keepdims=True, dtype=float), np.array([len(x)]))[0]
    return own + scale * (new - centre)
