"""`TailClassifier`, the scikit-learn face: arrays or data frames in, any label, and one of the table's methods behind it.

    from mmn_jax import TailClassifier
    model = TailClassifier().fit(X, y)
    model.predict(X_new), model.predict_proba(X_new)

Hyperparameters are chosen by stratified folds of the training set, with the functions that the command line uses: with an integer
random_state the classifier is the one of a run of that seed which chooses by folds, too.
"""

import numbers
import warnings
from functools import partial

import jax
import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from mmn_jax import defaults, devices
from mmn_jax.data.labels import codes_among, normal, spelled
from mmn_jax.data.names import by_label, check_columns, check_rows, other_columns
from mmn_jax.data.normalisation import normalisation
from mmn_jax.data.repeats import tell_repeats
from mmn_jax.errors import BadInput, renamed
from mmn_jax.evaluation.label_prior import NAMED, class_shares, gain
from mmn_jax.linear.class_model import ClassStatistics, Shrinkage, bayesian_rows, class_statistics, model_of
from mmn_jax.linear.rows import centred, predict_logits
from mmn_jax.methods import diagnosis
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.contract import Method, fit_method
from mmn_jax.types import Examples

ADDED = Shrinkage(0.6, 0.5)  # of the model of classes that a row added later comes from
ARRAYS = {"train_x": "X", "train_y": "y", "features": "X"}  # what messages call them → what they are called here


def _seed(random_state):
    """Returns a seed; an integer names the same streams as the seed of a run."""
    generator = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, numbers.Integral) else int(generator.randint(2**31 - 1))


def _numbers(values, name):
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}: must be numbers, it is {values!r}") from error


def _grid(l2):
    grid = np.atleast_1d(_numbers(l2, "l2"))
    if grid.size == 0 or grid.ndim > 1 or not (np.isfinite(grid) & (grid > 0)).all():
        raise BadInput(f"l2: must be a number above 0 or a list of them, it is {l2!r}")
    return tuple(grid.tolist())


def _with_label(classes, label):
    """[C+1] the classes and the label, which is none of them, behind."""
    kinds = [np.asarray(one).dtype.kind for one in (classes.tolist()[0], np.asarray(label).tolist())]
    label = normal(label) if isinstance(label, str) else label
    if np.ndim(label) or kinds[0] != kinds[1]:
        raise BadInput(f"add_class: {label!r} must be one label of the type of the others, such as {classes.tolist()[0]!r}")
    if label in classes:
        raise BadInput(f"add_class: label {label!r} is known; fit again with the new examples")
    return np.append(classes, label)


def added_row(statistics: ClassStatistics, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[d+1] row of a class of which only the normalised examples x [k, d] are known, to stand beside the rows theta [C, d+1].

    It is the class's Bayesian row (`linear/class_model.py`), scaled by one number that the other classes give: their own means score on
    average the same under their Bayesian rows, so scaled, as under theta.
    """
    model = model_of(statistics, ADDED)
    known = bayesian_rows(model, statistics.means, statistics.counts)
    new = bayesian_rows(model, x.mean(0, keepdims=True, dtype=float), np.array([len(x)]))[0]
    ours, theirs = (np.diag(predict_logits(centred(rows), statistics.means)).mean() for rows in (theta, known))
    return theta.mean(0) + ours / max(theirs, 1e-12) * (new - known.mean(0))


class TailClassifier(ClassifierMixin, BaseEstimator):
    """Long-tailed classification of feature vectors.

    The knobs of the method (its ridge, the strength of its correction, ..) are chosen in `fit`, by mean per-class accuracy on
    stratified folds of the training set, or on X_val, y_val where they are given. Where every class has a single example there is
    nothing to choose by: the knobs stay where their search starts, and scores are taken for calibrated as they are.

    `score` is scikit-learn's, the share of examples that are right; for mean per-class accuracy use scoring="balanced_accuracy".
    There is no sample_weight: every method goes by how many examples a class has, which weights would leave undefined.

    Args:
      method: "mmn", or another name of the table of results; or a `Method`, such as one of your own (`mmn_jax.methods`).
      l2: ridges ℓ to search over, for the mean loss of features at unit mean square norm; a number for a single one.
      budget: settings that are tried at most; each is fitted to every fold.
      folds: parts of the training set that choose.
      prior: how often each class comes up where the classifier is used: "uniform", "train" (as in the training set), or [C]
        numbers from 0 up in the order of `classes_`, or by label as a mapping or a pandas Series, such as
        y.value_counts(normalize=True). It is added to the calibrated scores, which are taken for those of a uniform
        prior. It is looked at when scores are asked for: set_params(prior=..) needs no new fit.
      random_state: of the folds and of what a method draws.

    Attributes:
      classes_: [C] sorted labels; text in Unicode's composed form (NFC). n_features_in_: d. counts_: [C] training examples.
      normalise_: x̂ = (x − mean) · scale. arrays_, logits_: logits_(arrays_, x̂) scores normalised features; arrays_["theta"]
        [C, d+1] are the rows [W b] of every method but knn. temperature_: what scores are divided by to be calibrated.
      record_: the chosen setting, all settings tried and their accuracy, the gradient norm that was reached.
      statistics_: what `add_class` needs, the count [C] and mean [C, d] of each class and the covariance [d, d] within classes.
        No training example is kept, but for knn.

    Raises:
      BadInput: a ValueError with one line, on parameters or data that cannot be used.
    """

    def __init__(
        self,
        method="mmn",
        *,
        l2=defaults.RIDGES,
        budget=defaults.BUDGET,
        folds=defaults.FOLDS,
        prior="uniform",
        random_state=None,
    ):
        self.method = method
        self.l2 = l2
        self.budget = budget
        self.folds = folds
        self.prior = prior
        self.random_state = random_state

    def fit(self, X, y, *, X_val=None, y_val=None):
        """Fits to X [n, d] and labels y [n]; X_val, y_val (labels of y, not necessarily all) choose knobs in place of folds."""
        method = self._method()
        check_rows(X, y=y)
        X, y = self._checked(X, y, reset=True)
        check_classification_targets(y)
        y = spelled(y)
        self.classes_, codes, self.counts_ = np.unique(y, return_inverse=True, return_counts=True)
        if len(self.classes_) < 2:
            raise BadInput(f"y: only one class, {self.classes_.tolist()[0]!r}; a classifier needs at least two")
        self._gain()  # a bad one is refused before the work, not after
        devices.start()
        seed = _seed(self.random_state)
        codes = codes.astype(np.int32)
        with renamed(ARRAYS):
            self.normalise_ = normalisation(Examples(X, codes))
        train = Examples(self._normalised(X), codes)
        val = self._validation(X_val, y_val)
        others = {} if val is None else {"X_val": val}
        tell_repeats(train, others, lambda label: repr(self.classes_.tolist()[label]), partial(warnings.warn, stacklevel=3), "X")
        tuned = fit_method(method, jax.random.key(seed), train, val, folds=self.folds, budget=self.budget)
        self.arrays_, self.logits_, self.record_ = tuned.arrays, method.logits, tuned.record._asdict()
        self.temperature_, self.statistics_ = tuned.record.temperature, class_statistics(train)
        return self

    def _checked(self, X, *y, reset=False):
        """X [n, d], and y where it is given, as arrays; unless they are of a new fit, with the columns of the last."""
        arrays = validate_data(self, X, *y, reset=reset, dtype=(np.float64, np.float32))  # centred before it is rounded
        if reset:
            self._columns = other_columns(X)
        check_columns(X, getattr(self, "_columns", None))
        return arrays

    def _normalised(self, X, name="X"):
        with renamed({"features": name}):
            return self.normalise_(X)

    def _method(self):
        for name, least in (("budget", 1), ("folds", 2)):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < least:
                raise BadInput(f"{name}: must be an integer from {least} up, it is {value!r}")
        if isinstance(self.method, Method):
            return self.method
        methods = every_method(_grid(self.l2))
        if self.method not in methods:
            raise BadInput(f"method: must be one of {', '.join(methods)}, it is {self.method!r}")
        return methods[self.method]

    def _validation(self, X_val, y_val):
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise BadInput("X_val and y_val: give both or neither")
        check_rows(X_val, "X_val", y_val=y_val)
        X_val, y_val = self._checked(X_val, y_val)
        return Examples(self._normalised(X_val, "X_val"), codes_among(self.classes_, y_val, "y_val"))

    def _gain(self):
        """[C] what calibrated scores gain under the prior."""
        if self.prior is None or isinstance(self.prior, str):
            if self.prior not in NAMED:
                raise BadInput(f"prior: must be uniform, train or {len(self.classes_)} numbers, it is {self.prior!r}")
            shares = NAMED[self.prior](self.counts_)
        else:
            shares = _numbers(by_label(self.prior, self.classes_.tolist(), "prior"), "prior")
        return gain(class_shares(shares, len(self.classes_), "prior"))

    def _scores(self, X):
        """[n, C] calibrated logits under the prior, in float64: they don't depend on what else is in X."""
        check_is_fitted(self)
        X = self._normalised(self._checked(X)).astype(np.float64)
        return self.logits_(self.arrays_, X) / self.temperature_ + self._gain()

    def decision_function(self, X):
        """[n, C] calibrated scores of X [n, d] under the prior; with two classes [n], the second's minus the first's."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """[n] labels of X [n, d]."""
        best = self._scores(X).argmax(1)  # first, as it refuses what isn't fitted
        return self.classes_[best]

    def predict_proba(self, X):
        """[n, C] probabilities of the classes of X [n, d], in the order of `classes_`."""
        return softmax(self._scores(X), axis=1)

    def predict_log_proba(self, X):
        """[n, C] their logarithms."""
        return log_softmax(self._scores(X), axis=1)

    def score(self, X, y, sample_weight=None):
        """The share of X [n, d] that is given its label y [n], weighted by sample_weight [n] where that is given."""
        check_rows(X, y=y, sample_weight=sample_weight)
        return super().score(X, spelled(y), sample_weight)

    def add_class(self, X_few, label):
        """Adds a class from its few examples X_few [k, d], without a new fit: the other classes keep their rows to the bit.

        The class's row comes from `statistics_` in closed form (`added_row`), with no example of the other classes. Classes stay
        sorted; a prior given as numbers has to have one for the new class too. Fit again once many classes have come this way.

        Raises:
          BadInput: the label is known, or of another type than the others; or the method has no rows (knn).
        """
        check_is_fitted(self)
        if "theta" not in self.arrays_:
            raise BadInput("add_class: the method has no rows; fit again with the new examples")
        classes = _with_label(self.classes_, label)
        x = self._normalised(self._checked(X_few), "X_few")
        old, order = self.statistics_, np.argsort(classes)
        theta = np.vstack([self.arrays_["theta"], added_row(old, self.arrays_["theta"], x).astype(np.float32)])
        self.arrays_ = {"theta": theta[order]}
        self.classes_, self.counts_ = classes[order], np.append(self.counts_, len(x))[order]
        self.statistics_ = ClassStatistics(self.counts_, np.vstack([old.means, x.mean(0, dtype=float)])[order], old.within)
        return self

    def diagnose(self, X, y, cuts=5):
        """Estimates what mmn gains on data like X [n, d], y [n], as a `Diagnosis`; needs no fit and changes none, and uses the default l2
        and budget, whatever this classifier's."""
        check_rows(X, y=y)
        X, y = check_X_y(X, y, dtype=(np.float64, np.float32))
        codes = np.unique(spelled(y), return_inverse=True)[1].astype(np.int32)
        with renamed(ARRAYS):
            return diagnosis.diagnose(Examples(X, codes), _seed(self.random_state), cuts)
