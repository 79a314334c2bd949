"""`TailClassifier`, a scikit-learn classifier for arrays or data frames and labels of any kind, by any of the methods.

    from mmn_jax import TailClassifier
    model = TailClassifier().fit(X, y)
    model.predict(X_new), model.predict_proba(X_new)

Hyperparameters are chosen on stratified folds of the training set by the functions that the command line uses: with an integer random_state
the classifier is that of a run of this seed which chooses by folds, too.
"""

import numbers
import sys
import time
import warnings
from functools import partial

import jax
import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from mmn_jax import defaults, devices
from mmn_jax.data.descriptions import check_dimensions, checked_description, checked_descriptions, describe_names
from mmn_jax.data.labels import check_labelled, codes_among, is_text, normal, spelled
from mmn_jax.data.names import by_label, check_columns, check_rows, other_columns, vectors_by_label
from mmn_jax.data.normalisation import normalisation
from mmn_jax.data.repeats import tell_repeats
from mmn_jax.errors import BadInput, Say, did_you_mean, renamed, silent
from mmn_jax.evaluation.label_prior import NAMED, class_shares, gain
from mmn_jax.linear.added_class import added_row
from mmn_jax.linear.class_model import ClassStatistics, class_statistics
from mmn_jax.methods import diagnosis
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.choosing import fit_method
from mmn_jax.methods.contract import Method
from mmn_jax.methods.mmn import informed_name
from mmn_jax.methods.progress import Tell
from mmn_jax.types import Examples, Knowledge, Normalised

GIVEN_BY = {"descriptions": "class_embeddings", "unlabelled": "X_unlabelled"}  # fields of `Knowledge` → arguments
ARRAYS = {"train_x": "X", "train_y": "y", "features": "X"}  # names in messages of the library → arguments here


def _seed(random_state):
    """Returns a seed: an integer as it is, so that it names the same streams as the seed of a run."""
    generator = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, numbers.Integral) else int(generator.randint(2**31 - 1))


def _numbers(values, name):
    """Returns values as a float array; name: of the parameter, for messages."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}: must be numbers, it is {values!r}") from error


def _grid(l2):
    """Returns the parameter l2 as a tuple of ridges."""
    grid = np.atleast_1d(_numbers(l2, "l2"))
    if grid.size == 0 or grid.ndim > 1 or not (np.isfinite(grid) & (grid > 0)).all():
        raise BadInput(f"l2: must be a number above 0 or a list of them, it is {l2!r}")
    return tuple(grid.tolist())


def _with_label(classes, label):
    """Returns the classes and, behind them, the label, which must be none of them, as an array [C+1]."""
    kinds = [np.asarray(one).dtype.kind for one in (classes.tolist()[0], np.asarray(label).tolist())]
    label = normal(label) if isinstance(label, str) else label
    if np.ndim(label) or kinds[0] != kinds[1]:
        raise BadInput(f"add_class: {label!r} must be one label of the type of the others, such as {classes.tolist()[0]!r}")
    if label in classes:
        raise BadInput(f"add_class: label {label!r} is known; fit again with the new examples")
    return np.append(classes, label)


def _descriptions(given, classes):
    """Returns the descriptions of the sorted classes that are given or, without, those that their labels make; None if these make none."""
    if given is None:
        return describe_names(classes.tolist()) if is_text(classes) else None
    tell = partial(warnings.warn, stacklevel=5)
    given = vectors_by_label(given, classes.tolist(), "class_embeddings")
    if given.dtype.kind in "UO":
        how = "labels y that are text describe the classes if method is 'mmn_names'"
        raise BadInput(f"class_embeddings: must be numbers, a row for each class; for names leave it out: {how}")
    return checked_descriptions(given, len(classes), "class_embeddings", tell)


def _progress(verbose: int) -> Say:
    """Returns what reports progress: lines on the standard error with the seconds since this call, or nothing if verbose is 0."""
    if not isinstance(verbose, numbers.Integral) or verbose < 0:
        raise BadInput(f"verbose: must be 0 for silence or 1 for progress on the standard error, it is {verbose!r}")
    began = time.perf_counter()

    def say(line):
        print(f"[TailClassifier] {time.perf_counter() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    return say if verbose else silent


def _by_setting(say: Say) -> Tell:
    """Returns what reports every setting in a line, and each fold and subsample of the first, which takes longest."""

    def tell(step):
        if step.ends or (step.number == 1 and step.pieces and step.pieces[-1].name in ("fold", "subsample")):
            say(str(step))

    return tell


def _warn_unless_converged(record):
    """Warns by scikit-learn's `ConvergenceWarning` if the final head didn't reach the gradient norm that it was to be solved to."""
    if not record.converged:
        reached = f"the final head stopped at a gradient norm of {record.gradient_norm:.1e}, before it converged"
        warnings.warn(f"l2: {reached}; leave out the smallest ridges, or check X for extreme values", ConvergenceWarning, stacklevel=3)


class TailClassifier(ClassifierMixin, BaseEstimator):
    """Long-tailed classification of feature vectors, such as embeddings: some classes have many examples, others a few.

        model = TailClassifier(random_state=0).fit(X, y)  # X [n, d], any labels
        model.predict(X_new), model.predict_proba(X_new)
        print(model.diagnose(X, y))  # is the default method worth it on these data?
        TailClassifier("logit_adjustment")  # the strongest of the simple methods, and faster

    The methods:
      mmn: the default, and the most accurate on the data sets of docs/leaderboard.md. It mixes heads and Bayesian rows of a class, by
        weights that depend on its count. mmn_names, mmn_unlabelled, mmn_all: the same, with more of such rows that use descriptions of the
        classes, examples without labels, or both (see `fit`). mmn_rows: Bayesian rows alone, which are in closed form: less accurate, and
        minutes where thousands of classes take hours. described_rows, zero_shot, pseudo_labels, self_training, label_spreading: what else
        could be done with descriptions or with examples without labels.
      plain: softmax regression. over_sampling, under_sampling, cost_sensitive: the same, with balanced examples. metamodelnet: the
        method of the paper, which moves the rows of plain heads.
      logit_adjustment, logit_adjusted_loss, balanced_softmax: correct the class prior. effective_number, square_root_sampling: other
        weights of examples. tau_norm, max_norm, lws, crt: correct the rows of a head.
      ncm, lda, ridge, knn: nearest class means, linear discriminant analysis, ridge regression, nearest neighbours.

    When: `mmn` learns from how the other classes scatter, which takes some 30 classes with 8 examples or more. With fewer, logit adjustment
    is the safer choice; `diagnose` compares both.

    Cost of the default, on two cores (docs/speed.md): 29 s for 5,106 × 384 features of 46 classes, 1,040 s and 7.1 GB for 116,828 × 768 of
    1,000 classes. Most of the time goes into heads, in proportion to n · d · C. verbose=1 shows how far it is.

    The hyperparameters of the method (its ridge, the strength of its correction, ..) are chosen in `fit`, by mean per-class accuracy on
    stratified folds of the training set, or on X_val and y_val if they are given. Where every class has a single example, nothing can be
    chosen: each hyperparameter has the value that its search starts from, and scores are not calibrated.

    `score` is scikit-learn's, the share of examples that are classified correctly; for mean per-class accuracy use
    scoring="balanced_accuracy". There is no sample_weight in `fit`: every method uses the number of examples of each class, which is
    undefined with weights.

    Args:
      method: a name in the table of results, such as "mmn"; or a `Method`, such as one of your own (`mmn_jax.methods`).
      l2: number or sequence of numbers; the ridges ℓ to search over, for the mean loss and features at unit mean square norm.
      budget: int; the largest number of settings that are tried, each on every fold.
      folds: int; the number of folds of the training set that choose.
      prior: the class prior in use: "uniform", "train" (that of the training set), or C numbers from 0 up, in the order of `classes_`, or
        by label as a mapping or a pandas Series, such as y.value_counts(normalize=True). Its logarithm is added to the calibrated scores,
        which are those of a uniform prior. It takes effect when scores are computed: set_params(prior=..) needs no new fit.
      random_state: int, RandomState or None; determines the folds and what a method draws.
      verbose: int; 1 reports on the standard error what `fit` and `diagnose` are doing, with the seconds since they began: a line for each
        setting that is tried. 0 is silent.

    Attributes:
      classes_: array [C] of sorted labels; text in Unicode's composed form (NFC).
      n_features_in_: d.
      counts_: array [C], training examples of each class.
      normalise_: the `Normalisation` of features, x̂ = (x − mean) · scale.
      method_: the method that was fitted: for "mmn", the one of its family that uses what `fit` was given.
      arrays_, logits_: logits_(arrays_, x̂) scores normalised features; arrays_["theta"] [C, d+1] are the rows [W b] (not for knn).
      temperature_: scores are divided by it to be calibrated.
      record_: dict of the chosen setting, all settings tried with their accuracy, and the gradient norm of the final head (`Record`).
      statistics_: the `ClassStatistics` that `add_class` needs. No training example is kept, except by knn.
      descriptions_: array [C, m], the descriptions of the classes that the method used, or None.

    Raises:
      BadInput: a ValueError with a message of one line, for parameters or data that can't be used.
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
        verbose=0,
    ):
        self.method = method
        self.l2 = l2
        self.budget = budget
        self.folds = folds
        self.prior = prior
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, *, X_val=None, y_val=None, class_embeddings=None, X_unlabelled=None):
        """Fits the method, its hyperparameters chosen on folds or on a validation set.

        Descriptions of the classes and examples without labels, where they are given, make "mmn" the one of "mmn_names", "mmn_unlabelled"
        and "mmn_all" that uses them. "mmn_names" without class_embeddings describes classes by their labels, if these are text.

        Args:
          X: array-like [n, d] of numbers, or a data frame.
          y: array-like [n] of labels: integers, other numbers without fractions, or text.
          X_val: array-like [m, d]; examples that choose hyperparameters in place of folds.
          y_val: array-like [m] of labels that are in y, not necessarily all of them.
          class_embeddings: a description of each class in any space, such as an embedding of its name: a mapping from label to vector, or
            a data frame indexed by label, or array-like [C, m] in the order of the sorted labels; zeros for a class without one.
          X_unlabelled: array-like [u, d]; examples without labels.

        Returns:
          The classifier itself. A final head that did not converge is reported by a `ConvergenceWarning`, and examples that are repeated by
          a `UserWarning`.

        Raises:
          BadInput: a parameter or the data can't be used.
        """
        self._method(self.method)  # refuses bad parameters before the work, not after
        say = _progress(self.verbose)
        check_rows(X, y=y)
        check_labelled(y)
        X, y = self._checked(X, y, reset=True)
        check_classification_targets(y)
        y = spelled(y)
        self.classes_, codes, self.counts_ = np.unique(y, return_inverse=True, return_counts=True)
        if len(self.classes_) < 2:
            raise BadInput(f"y: only one class, {self.classes_.tolist()[0]!r}; a classifier needs at least two")
        if len(self.classes_) > 2 and -1 in self.classes_.tolist():
            warnings.warn("y: -1 is taken for a class; leave examples without labels out, and give them as X_unlabelled", stacklevel=2)
        self._gain()  # refuses a bad prior before the work, not after
        devices.start()
        seed = _seed(self.random_state)
        codes = codes.astype(np.int32)
        with renamed(ARRAYS):
            self.normalise_ = normalisation(Examples(X, codes))
        train = Normalised(self._normalised(X), codes)
        val = self._validation(X_val, y_val)
        others = {} if val is None else {"X_val": val}
        tell_repeats(train, others, lambda label: repr(self.classes_.tolist()[label]), partial(warnings.warn, stacklevel=3), "X")
        known = self._knowledge(class_embeddings, X_unlabelled)
        self.method_ = informed_name(known) if isinstance(self.method, str) and self.method == "mmn" else self.method
        method = self._informed(self.method_, known)
        say(f"{len(codes)} examples of {len(self.classes_)} classes in {train.x.shape[1]} dimensions")
        with renamed(ARRAYS):
            tuned = fit_method(
                method, jax.random.key(seed), train, val, folds=self.folds, budget=self.budget, tell=_by_setting(say), knowledge=known
            )
        _warn_unless_converged(tuned.record)
        self.arrays_, self.logits_, self.record_ = tuned.arrays, method.logits, tuned.record._asdict()
        self.temperature_, self.statistics_ = tuned.record.temperature, class_statistics(train)
        self.descriptions_, self._by_label = known.descriptions, class_embeddings is None
        say(f"fitted {self.method_ if isinstance(self.method_, str) else 'the method'}")
        return self

    def _checked(self, X, *y, reset=False):
        """Returns X, and y if it is given, as arrays; refuses other columns than those of the last fit, unless `reset` begins a new one."""
        arrays = validate_data(self, X, *y, reset=reset, dtype=(np.float64, np.float32))  # centred before it is rounded
        if reset:
            self._columns = other_columns(X)
        check_columns(X, getattr(self, "_columns", None))
        return arrays

    def _normalised(self, X, name="X"):
        """Returns normalised features [n, d]; name: of the argument X, for messages."""
        with renamed({"features": name}):
            return self.normalise_(X)

    def _method(self, method):
        """Returns the Method of a name, or the Method itself, after checking the parameters that it depends on."""
        for name, least in (("budget", 1), ("folds", 2)):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < least:
                raise BadInput(f"{name}: must be an integer from {least} up, it is {value!r}")
        if isinstance(method, Method):
            return method
        methods = every_method(_grid(self.l2))
        if method not in methods:
            hint = did_you_mean(str(method), methods)
            raise BadInput(f"method: must be one of {', '.join(methods)}, or a `Method` (mmn_jax.methods), it is {method!r}{hint}")
        return methods[method]

    def _knowledge(self, class_embeddings, X_unlabelled):
        """Returns what is known of the classes beside X and y, as Knowledge."""
        known = Knowledge()
        if class_embeddings is not None or "descriptions" in self._method(self.method).needs:
            known = known._replace(descriptions=_descriptions(class_embeddings, self.classes_))
        if X_unlabelled is not None:
            known = known._replace(unlabelled=self._normalised(self._checked(X_unlabelled), "X_unlabelled"))
        return known

    def _informed(self, method, known):
        """Returns the Method, after checking that it uses what is known, and that what it needs is."""
        made = self._method(method)
        if misfit := made.misfit(known):
            field, there = misfit
            says = "doesn't use it; leave it out" if there else "needs it; give it to fit"
            raise BadInput(f"{GIVEN_BY[field]}: {method!r} {says}, or take method='mmn'")
        return made

    def _validation(self, X_val, y_val):
        """Returns the validation examples as Normalised, or None if none are given."""
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise BadInput("X_val and y_val: give both or neither")
        check_rows(X_val, "X_val", y_val=y_val)
        X_val, y_val = self._checked(X_val, y_val)
        return Normalised(self._normalised(X_val, "X_val"), codes_among(self.classes_, y_val, "y_val"))

    def _gain(self):
        """Returns what calibrated scores gain under the prior, as an array [C]."""
        if self.prior is None or isinstance(self.prior, str):
            if self.prior not in NAMED:
                raise BadInput(f"prior: must be uniform, train or {len(self.classes_)} numbers, it is {self.prior!r}")
            shares = NAMED[self.prior](self.counts_)
        else:
            shares = _numbers(by_label(self.prior, self.classes_.tolist(), "prior"), "prior")
        return gain(class_shares(shares, len(self.classes_), "prior"))

    def _scores(self, X):
        """Returns calibrated logits under the prior [n, C], in float64, so that they don't depend on the other rows of X."""
        check_is_fitted(self)
        X = self._normalised(self._checked(X)).astype(np.float64)
        return self.logits_(self.arrays_, X) / self.temperature_ + self._gain()

    def decision_function(self, X):
        """Returns the calibrated scores under the prior.

        Args:
          X: array-like [n, d] of numbers, or a data frame with the columns of `fit`.

        Returns:
          Array [n, C]; for two classes [n], the score of the second minus that of the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Predicts labels.

        Args:
          X: array-like [n, d] of numbers, or a data frame with the columns of `fit`.

        Returns:
          Array [n] of labels from `classes_`.
        """
        best = self._scores(X).argmax(1)  # first, as it refuses a classifier that isn't fitted
        return self.classes_[best]

    def predict_proba(self, X):
        """Predicts the probabilities of the classes under the prior.

        Args:
          X: array-like [n, d] of numbers, or a data frame with the columns of `fit`.

        Returns:
          Array [n, C], in the order of `classes_`.
        """
        return softmax(self._scores(X), axis=1)

    def predict_log_proba(self, X):
        """Predicts the logarithms of the probabilities of the classes.

        Args:
          X: array-like [n, d] of numbers, or a data frame with the columns of `fit`.

        Returns:
          Array [n, C], in the order of `classes_`.
        """
        return log_softmax(self._scores(X), axis=1)

    def score(self, X, y, sample_weight=None):
        """Computes the share of examples that are classified correctly.

        Args:
          X: array-like [n, d] of numbers, or a data frame with the columns of `fit`.
          y: array-like [n] of labels.
          sample_weight: array-like [n] of numbers; the weight of each example, by default the same.

        Returns:
          A float from 0 to 1.
        """
        check_rows(X, y=y, sample_weight=sample_weight)
        return super().score(X, spelled(y), sample_weight)

    def add_class(self, X_few, label, *, class_embedding=None):
        """Adds a class from a few examples, its description, or both, without a new fit; the rows of the other classes don't change.

            model.add_class(X_few, "okapi")
            model.add_class(None, "okapi")  # from its name alone, by a classifier that describes classes by their labels
            model.add_class(None, 17, class_embedding=encode("okapi"))  # by one that was fitted with class_embeddings

        The class's row is computed from `statistics_` in closed form (`linear.added_class.added_row`), without examples of the other
        classes. Where the classes have descriptions (`descriptions_`), that of the new class says what it has in common with them. Classes
        stay sorted; a prior given as numbers needs a number for the new class, too, and the prior "train" never predicts one without
        examples. Fit again once many classes have been added.

        Args:
          X_few: array-like [k, d] of numbers, or a data frame with the columns of `fit`; the examples of the class. None if its description
            has to do.
          label: its label, of the type of the others.
          class_embedding: array-like [m]; the description of the class, made as class_embeddings in `fit`.

        Returns:
          The classifier itself.

        Raises:
          BadInput: the label is known, or of another type than the others; the method has no rows (knn); there are neither examples nor a
            description; or the description can't be used.
        """
        check_is_fitted(self)
        if "theta" not in self.arrays_:
            raise BadInput("add_class: the method has no rows; fit again with the new examples")
        classes = _with_label(self.classes_, label)
        descriptions = self._with_description(classes, class_embedding, X_few is not None)
        x = np.empty((0, self.n_features_in_)) if X_few is None else self._normalised(self._checked(X_few), "X_few")
        old, order = self.statistics_, np.argsort(classes)
        theta = np.vstack([self.arrays_["theta"], added_row(old, self.arrays_["theta"], x, descriptions).astype(np.float32)])
        mean = x.mean(0, dtype=float) if len(x) else np.zeros(x.shape[1])
        self.arrays_ = {"theta": theta[order]}
        self.classes_, self.counts_ = classes[order], np.append(self.counts_, len(x))[order]
        self.statistics_ = ClassStatistics(self.counts_, np.vstack([old.means, mean])[order], old.within)
        self.descriptions_ = None if descriptions is None else descriptions[order]
        return self

    def _with_description(self, classes, given, has_examples):
        """Returns the descriptions of the classes, of which the last is new, or None if the others have none."""
        new = repr(classes.tolist()[-1])
        if self.descriptions_ is None:
            if given is not None:
                raise BadInput("class_embedding: the other classes have none; fit with class_embeddings, or leave it out")
            if not has_examples:
                raise BadInput(
                    f"X_few: {new} needs an example, as nothing describes the classes; fit with class_embeddings to add by these"
                )
            return None
        if self._by_label:
            if given is not None:
                raise BadInput("class_embedding: the classes are described by their labels; fit with class_embeddings, or leave it out")
            found = describe_names(classes.tolist())
        else:
            size = self.descriptions_.shape[1]
            added = np.zeros(size) if given is None else checked_description(np.asarray(given), size, "class_embedding")
            found = np.vstack([self.descriptions_, added])
        if not (has_examples or found[-1].any()):
            what = "class_embedding: is missing or all zeros" if not self._by_label else f"label: {new} has no letters or digits"
            raise BadInput(f"{what}, and X_few is None; give a description, examples, or both")
        return found

    def diagnose(self, X, y, cuts=5, *, class_embeddings=None, X_unlabelled=None):
        """Estimates the gain of mmn over logit adjustment on data like these, and what more knowledge of the classes adds.

        It needs no fit and changes none. l2 and budget are the defaults, whatever this classifier's are. Print the result to read it, with
        advice on the method and on the classes that need more examples.

        Args:
          X: array-like [n, d] of numbers, or a data frame.
          y: array-like [n] of labels.
          cuts: int; number of long-tailed subsamples that the gain is measured on.
          class_embeddings: descriptions of the classes, as for `fit`; without them, labels that are text describe their classes.
          X_unlabelled: array-like [u, d]; examples without labels.

        Returns:
          A `Diagnosis`.

        Raises:
          BadInput: fewer than 3 classes have 8 examples, or `cuts` is less than 2.
        """
        say = _progress(self.verbose)
        check_rows(X, y=y)
        X, y = check_X_y(X, y, dtype=(np.float64, np.float32))
        classes, codes = np.unique(spelled(y), return_inverse=True)
        known = Knowledge(_descriptions(class_embeddings, classes))
        if X_unlabelled is not None:
            known = known._replace(unlabelled=check_array(X_unlabelled, dtype=(np.float64, np.float32), input_name="X_unlabelled"))
            check_dimensions(known.unlabelled, X.shape[1], "X_unlabelled", "X")
        with renamed(ARRAYS):
            return diagnosis.diagnose(
                Examples(X, codes.astype(np.int32)), _seed(self.random_state), cuts, classes.astype(str).tolist(), say, known
            )
