"""TailClassifier: scikit-learn's own checks, and what its users rely on beyond them."""

import pickle
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import partial

import numpy as np
import pandas
import pytest
from conftest import blobs
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import mmn_jax
from mmn_jax.config import default
from mmn_jax.errors import BadInput
from mmn_jax.estimator import TailClassifier
from mmn_jax.linear import weighting
from mmn_jax.linear.solve import fit_one
from mmn_jax.methods import catalogue
from mmn_jax.methods.contract import Method
from mmn_jax.methods.head_methods import head_axes, solved
from mmn_jax.pipeline import sources, stages

COUNTS = np.array([60, 40, 25, 15, 10, 6, 4, 3, 2, 1])
POOL = blobs(3, [100] * len(COUNTS), 8, spread=1.5)
RANK = np.tile(np.arange(100), len(COUNTS))
USED = COUNTS[POOL[1]] > RANK
NAMES = np.array([f"kind {c}" for c in range(len(COUNTS))])
X, Y = POOL[0][USED], NAMES[POOL[1][USED]]
TEST_X, TEST_Y = POOL[0][~USED], NAMES[POOL[1][~USED]]


def quick(method="logit_adjustment", **parameters):
    return TailClassifier(method, **{"l2": 1e-2, "budget": 1, "folds": 2, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted():
    """Only read; `copied` makes one to change."""
    return quick(l2=(1e-2, 1e-3), budget=6).fit(X, Y)


def mean_recall(model, x, y):
    right = model.predict(x) == y
    return np.mean([right[y == name].mean() for name in np.unique(y)])


def copied(model):
    return pickle.loads(pickle.dumps(model))


@parametrize_with_checks([quick("ncm")])
def test_it_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mmn", "logit_adjustment", "lda", "knn", "ridge", "crt"])
def test_so_it_is_with_other_methods(method):
    check_estimator(quick(method), on_skip=None)


def test_importing_the_package_loads_no_jax():
    code = "import sys, mmn_jax; assert not {'jax', 'sklearn', 'numpy'} & set(sys.modules); mmn_jax.TailClassifier"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_reports_every_setting_on_the_standard_error_if_it_is_asked_to(capsys):
    model = quick(l2=(1e-2, 1e-3), budget=4, verbose=1).fit(X, Y)
    out, err = capsys.readouterr()
    assert out == "" and all(re.match(r"\[TailClassifier\] +\d+\.\d s  \w", line) for line in err.splitlines())
    told = [float(figure) for figure in re.findall(r"setting \d+ of 4 \(.*\): (\d+\.\d)%", err)]
    assert told == [pytest.approx(trial["val_accuracy"], abs=0.051) for trial in model.record_["trials"]] and len(told) == 4
    assert f"{len(Y)} examples of 10 classes in 8 dimensions" in err and "setting 1 of 4, fold 2 of 2\n" in err
    assert "setting 2 of 4, fold" not in err
    assert "4 of 4 settings tried; the best (" in err and f"is fitted to all {len(Y)} examples" in err
    assert model.set_params(verbose=0).fit(X, Y) and capsys.readouterr().err == ""


@pytest.mark.parametrize("verbose", [-1, "yes", None])
def test_a_bad_verbose_is_refused(verbose):
    with pytest.raises(BadInput, match="verbose: must be 0"):
        quick("ncm", verbose=verbose).fit(X, Y)


def test_help_lists_every_method_and_no_other():
    listed = re.search(r"The methods:\n(.*?)\n\n", TailClassifier.__doc__, flags=re.S)[1]
    names = [name for names in re.findall(r"(?:^ *|\. )([a-z_, \n]+):", listed, flags=re.M) for name in re.split(r"[,\s]+", names)]
    assert sorted(names) == sorted(catalogue.every_method((1e-2,)))


def test_help_of_the_package_names_everything_public():
    for name in mmn_jax.__all__:
        assert re.search(rf"\b{name}\b", mmn_jax.__doc__), f"add {name} to the docstring of mmn_jax"


def test_labels_are_those_it_was_given(fitted):
    assert fitted.classes_.tolist() == sorted(NAMES) and fitted.counts_.sum() == len(Y)
    assert set(fitted.predict(TEST_X)) <= set(NAMES) and fitted.score(TEST_X, TEST_Y) > 0.5


def test_data_frames_go_in(fitted):
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(8)])
    model = clone(fitted).fit(frame, pandas.Series(Y))
    np.testing.assert_array_equal(model.predict(frame), fitted.predict(X))
    assert model.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])


def test_pipelines_and_grid_search_take_it():
    search = GridSearchCV(make_pipeline(StandardScaler(), quick("ncm")), {"tailclassifier__method": ["ncm", "lda"]}, cv=2)
    many = np.isin(Y, NAMES[:6])
    assert search.fit(X[many], Y[many]).best_params_["tailclassifier__method"] in ("ncm", "lda")


def test_an_integer_seed_gives_the_classifier_of_a_run(tmp_path):
    y = np.searchsorted(NAMES, Y)
    np.savez(tmp_path / "features.npz", train_x=X, train_y=y, test_x=X, test_y=y)
    config = default()
    config.data.source, config.data.path, config.data.validation = "npz", str(tmp_path / "features.npz"), "train"
    config.heads.l2, config.tuning.budget = (1e-2, 1e-3), 6
    features = sources.load_features(config)
    run = stages.Run(config, 5, tmp_path, features, "x", stages.Terminal(lambda line: None, lambda items, name: items))
    data = stages.split(run)
    methods = {"logit_adjustment": catalogue.every_method((1e-2, 1e-3))["logit_adjustment"]}
    theirs = stages.tune_methods(run, data, stages.tasks_of(run, data), methods)["logit_adjustment"]
    ours = quick(l2=(1e-2, 1e-3), budget=6, folds=3, random_state=5).fit(X, y)
    np.testing.assert_array_equal(ours.arrays_["theta"], theirs.arrays["theta"])
    assert ours.temperature_ == theirs.temperature and ours.record_["val_accuracy"] == theirs.val_accuracy


def test_probabilities_are_those_of_the_calibrated_scores(fitted):
    probs = fitted.predict_proba(TEST_X)
    np.testing.assert_allclose(probs.sum(1), 1)
    x = fitted.normalise_(TEST_X).astype(float)
    np.testing.assert_allclose(probs, softmax(fitted.logits_(fitted.arrays_, x) / fitted.temperature_, axis=1))
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(TEST_X)), probs)
    confidence = probs[np.arange(len(TEST_Y)), np.searchsorted(NAMES, TEST_Y)]
    raw = softmax(fitted.logits_(fitted.arrays_, x), axis=1)[np.arange(len(TEST_Y)), np.searchsorted(NAMES, TEST_Y)]
    assert -np.log(confidence).mean() < -np.log(raw).mean()


def test_a_prior_moves_the_odds_by_itself_and_needs_no_new_fit(fitted):
    model, uniform = copied(fitted), fitted.predict_proba(TEST_X)
    for prior, shares in (("train", COUNTS), (COUNTS * 7, COUNTS), ([0, *[1] * 9], [0, *[1] * 9])):
        expected = uniform * shares / (uniform * shares).sum(1, keepdims=True)
        np.testing.assert_allclose(model.set_params(prior=prior).predict_proba(TEST_X), expected, atol=1e-12)
    assert NAMES[0] not in model.predict(TEST_X)


LABELS = pandas.Series(Y)
SHUFFLED = LABELS.value_counts(normalize=True).sample(frac=1, random_state=0)
LABELLED = [SHUFFLED, SHUFFLED[::-1], SHUFFLED.to_dict(), Counter(Y.tolist()), LABELS.astype("category").value_counts(normalize=True)]


@pytest.mark.parametrize("prior", LABELLED, ids=["series", "reversed", "mapping", "counter", "categories"])
def test_a_prior_with_labels_goes_by_them(fitted, prior):
    model = copied(fitted)
    expected = model.set_params(prior="train").predict_proba(TEST_X)
    np.testing.assert_allclose(clone(model).set_params(prior=prior).fit(X, Y).predict_proba(TEST_X), expected, atol=1e-12)
    model.set_params(prior=prior).add_class(TEST_X[:3], "kind new")
    with pytest.raises(BadInput, match="'kind new' is missing"):
        model.predict(TEST_X)


@pytest.mark.parametrize(
    ("prior", "reason"),
    [
        (SHUFFLED.reset_index(drop=True), "0 is not a class"),
        (SHUFFLED.drop("kind 3"), "'kind 3' is missing"),
        (SHUFFLED.rename({"kind 3": "kind three"}), "'kind three' is not a class"),
        (pandas.concat([SHUFFLED, SHUFFLED[:1]]), "some labels are repeated"),
        (SHUFFLED.to_frame(), "'proportion' is not a class"),
        (pandas.DataFrame({name: [1.0] * 10 for name in NAMES}), "must be numbers"),
        ({}, "'kind 0' is missing"),
    ],
    ids=str,
)
def test_a_prior_with_other_labels_is_refused(fitted, prior, reason):
    with pytest.raises(BadInput, match=f"^prior: .*{reason}") as caught:
        copied(fitted).set_params(prior=prior).predict(TEST_X)
    assert "\n" not in str(caught.value)


FRAME = pandas.DataFrame(X, columns=[f"f{i}" for i in range(8)])
ELSEWHERE = LABELS.sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("y", lambda model: model.fit(FRAME, ELSEWHERE)),
        ("y", lambda model: model.fit(FRAME, ELSEWHERE.to_frame())),
        ("y", lambda model: model.fit(FRAME[1:], LABELS[:-1])),
        ("y_val", lambda model: model.fit(FRAME, LABELS, X_val=FRAME, y_val=ELSEWHERE)),
        ("y", lambda model: model.score(FRAME, ELSEWHERE)),
        ("sample_weight", lambda model: model.score(FRAME, LABELS, pandas.Series(1.0, index=ELSEWHERE.index))),
        ("y", lambda model: model.diagnose(FRAME, ELSEWHERE)),
    ],
)
def test_labels_of_other_rows_are_refused(name, call):
    with pytest.raises(BadInput, match=f"^{name}: its index isn't that of X") as caught:
        call(quick().fit(FRAME, LABELS))
    assert "\n" not in str(caught.value)


def test_rows_with_the_same_index_in_any_order_and_labels_without_one_go_together(fitted):
    x = FRAME.loc[ELSEWHERE.index]
    models = [clone(fitted).fit(x, y) for y in (ELSEWHERE, ELSEWHERE.to_numpy(), ELSEWHERE.tolist())]
    assert len({model.score(FRAME, LABELS) for model in models}) == 1 and models[0].score(FRAME, LABELS) > 0.8


@pytest.mark.parametrize("names", [FRAME.columns, range(8), [f"{i}" for i in range(8)], pandas.date_range("2026", periods=8)], ids=str)
def test_columns_in_another_order_are_refused_whatever_names_they_have(names):
    frame = FRAME.set_axis(names, axis=1)
    model, turned = quick().fit(frame, LABELS), frame[frame.columns[::-1]]
    model.predict(frame)
    for call in (
        lambda: model.predict(turned),
        lambda: model.predict_proba(turned),
        lambda: model.score(turned, LABELS),
        lambda: model.add_class(turned[:3], "kind new"),
        lambda: clone(model).fit(frame, LABELS, X_val=turned, y_val=LABELS),
    ):
        with pytest.raises(ValueError, match=r"feature names|in the order of fit"):
            call()
    model.fit(turned, LABELS).predict(turned)


@pytest.mark.parametrize("prior", ["often", [1.0, 2.0], [-1.0, *[1.0] * 9], [0.0] * 10])
def test_a_prior_that_is_none_is_refused(fitted, prior):
    with pytest.raises(BadInput, match="prior: "):
        copied(fitted).set_params(prior=prior).predict(TEST_X)


def test_mmn_is_ahead_of_the_plain_head_on_a_long_tail():
    accuracy = {}
    for method in ("plain", "mmn"):
        model = TailClassifier(method, l2=(1e-1, 1e-2, 1e-3), budget=4, folds=2, random_state=0).fit(X, Y)
        accuracy[method] = mean_recall(model, TEST_X, TEST_Y)
    assert accuracy["mmn"] > accuracy["plain"] + 0.02


def test_validation_examples_choose_in_place_of_folds():
    held = TEST_X[NAMES[9] == TEST_Y], TEST_Y[NAMES[9] == TEST_Y]  # on the rarest class alone, the strongest correction is best
    model = quick(l2=(1e-2, 1e-3), budget=12).fit(X, Y, X_val=held[0], y_val=held[1])
    assert model.record_["setting"]["tau"] == 2.0
    assert model.record_["val_accuracy"] == pytest.approx(100 * (model.predict(held[0]) == held[1]).mean())
    with pytest.raises(BadInput, match="both or neither"):
        quick().fit(X, Y, X_val=X)
    with pytest.raises(BadInput, match="y_val: label"):
        quick().fit(X, Y, X_val=X[:1], y_val=["another"])


def test_with_one_example_a_class_it_starts_and_stays():
    model = quick().fit(X[:: len(X) // 5][:5], np.arange(5))
    assert model.record_["trials"] == [] and model.temperature_ == 1
    np.testing.assert_array_equal(model.predict(X[:: len(X) // 5][:5]), np.arange(5))


@pytest.mark.parametrize(
    ("method", "x", "y"),
    [
        ("lda", np.repeat(np.eye(3), 4, 0), np.repeat(np.arange(3), 4)),
        ("lda", [[1.0], [2.0]], [0, 1]),
        ("mmn", [[0.0], [1.0], [0.0]], [0, 0, 1]),
    ],
)
@pytest.mark.filterwarnings("ignore:2 of 3 rows of X have the features of another row")
def test_alike_and_tiny_data_have_an_answer(method, x, y):
    model = quick(method).fit(x, y)
    assert np.isfinite(model.add_class([[*x[0]]], 7).predict_proba(x)).all()


def test_a_class_added_later_is_recognised_and_the_others_keep_their_rows():
    new = NAMES[5]
    model = quick(l2=(1e-2, 1e-3), budget=6).fit(X[new != Y], Y[new != Y])
    before, others = model.arrays_["theta"], new != TEST_Y
    old = mean_recall(model, TEST_X[others], TEST_Y[others])
    assert model.add_class(X[new == Y], new) is model
    np.testing.assert_array_equal(np.delete(model.arrays_["theta"], 5, axis=0), before)
    assert model.classes_.tolist() == NAMES.tolist() and model.counts_.tolist() == COUNTS.tolist()
    assert (model.predict(TEST_X[~others]) == new).mean() > 0.4
    assert mean_recall(model, TEST_X[others], TEST_Y[others]) > old - 0.05


@pytest.mark.parametrize(
    ("label", "reason"), [(NAMES[2], "is known"), (3, "of the type"), ([["a"]], "of the type"), (["a", "b"], "of the type")]
)
def test_a_label_that_cannot_be_added_is_refused(fitted, label, reason):
    with pytest.raises(BadInput, match=reason):
        copied(fitted).add_class(X[:2], label)


def test_a_method_without_rows_adds_no_class():
    with pytest.raises(BadInput, match="the method has no rows"):
        quick("knn").fit(X, Y).add_class(X[:2], "new")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"method": "magic"}, "method: must be one of plain"),
        ({"l2": 0.0}, "l2"),
        ({"l2": ()}, "l2"),
        ({"l2": "strong"}, "l2"),
        ({"budget": 0}, "budget"),
        ({"folds": 1}, "folds"),
    ],
)
def test_a_parameter_of_no_use_is_one_line(parameters, named):
    with pytest.raises(BadInput, match=named) as caught:
        quick(**parameters).fit(X, Y)
    assert "\n" not in str(caught.value)


def test_the_diagnosis_is_that_of_the_command():
    with pytest.raises(BadInput, match="at least 3 must"):
        quick().diagnose(X[:16], Y[:16])


def test_a_final_head_that_did_not_converge_is_reported(monkeypatch):
    monkeypatch.setattr("mmn_jax.methods.tasks.fit_one", partial(fit_one, max_steps=1))
    with pytest.warns(ConvergenceWarning, match=r"^l2: the final head stopped at a gradient norm of .*, before it converged; leave out"):
        quick("plain").fit(X, Y)
    quick("ncm").fit(X, Y)  # a closed form


def test_messages_call_arrays_by_the_names_of_arguments(monkeypatch):
    monkeypatch.setattr("mmn_jax.methods.tasks.device_memory", lambda: 1000)
    with pytest.raises(BadInput, match=r"^X: a head of \d+ examples and 10 classes takes .* GB of memory"):
        quick("plain").fit(X, Y)


def test_a_method_of_ones_own_is_tuned_like_the_named_ones():
    """As plain heads given by hand; scikit-learn can clone it."""
    x, y = blobs(0, [30, 10, 5], 4)
    mine = Method("rival", head_axes((1e-2, 1e-3)), solved(lambda: weighting.plain))
    own, named = (TailClassifier(method, l2=(1e-2, 1e-3), random_state=0) for method in (mine, "plain"))
    np.testing.assert_array_equal(clone(own).fit(x, y).arrays_["theta"], named.fit(x, y).arrays_["theta"])


def test_labels_of_a_validation_set_go_by_what_they_are():
    numbers = POOL[1][USED]
    half = len(TEST_Y) // 2
    with pytest.raises(BadInput) as caught:
        quick().fit(X, numbers, X_val=TEST_X, y_val=POOL[1][~USED].astype(str))
    message = "y_val: its labels are text, such as '0', those of y are numbers, such as 0; give both in one type"
    assert str(caught.value) == message
    with pytest.raises(BadInput, match="y_val: its labels are numbers, such as 0, those of y are text, such as '0'; give both in one type"):
        quick().fit(X, numbers.astype(str), X_val=TEST_X, y_val=POOL[1][~USED])
    composed, split = (np.array([unicodedata.normalize(form, f"é{c}") for c in range(10)]) for form in ("NFC", "NFD"))
    mixed = np.where(np.arange(len(X)) % 2, composed[numbers], split[numbers])
    model = quick().fit(X, mixed, X_val=TEST_X[:half], y_val=split[POOL[1][~USED][:half]])
    same = quick().fit(X, composed[numbers], X_val=TEST_X[:half], y_val=composed[POOL[1][~USED][:half]])
    assert model.classes_.tolist() == sorted(composed)
    np.testing.assert_array_equal(model.predict(TEST_X), same.predict(TEST_X))
    assert model.score(TEST_X, split[POOL[1][~USED]]) == same.score(TEST_X, composed[POOL[1][~USED]]) > 0.5


def test_repeated_examples_are_reported():
    y = Y.copy()
    y[1] = NAMES[1]
    x = X.copy()
    x[1] = x[0]
    with pytest.warns(
        UserWarning,
        match=r"2 of \d+ rows of X have .* a different label, .*row 0 \('kind 0'\) and row 1 \('kind 1'\)",
    ):
        quick("ncm").fit(x, y)
    with pytest.warns(UserWarning, match=r"3 of 3 rows of X_val are also in X, with the same features; accuracy on them says little"):
        quick("ncm").fit(X, Y, X_val=X[-3:], y_val=Y[-3:])


@pytest.mark.parametrize(("y", "row"), [([0, 1, None, 1, 0, 2], 2), (np.array(["a", None, "b", "b", "a", "c"], object), 1)])
def test_examples_without_labels_are_sent_elsewhere(y, row):
    x = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(BadInput, match=f"y: row {row} has no label; leave such examples out, and give them as X_unlabelled"):
        TailClassifier("plain").fit(x, y)


def test_a_label_that_marks_examples_without_one_elsewhere_is_pointed_out():
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.repeat([-1, 0, 1], 4)
    with pytest.warns(UserWarning, match="y: -1 is taken for a class; leave examples without labels out, and give them as X_unlabelled"):
        TailClassifier("lda", random_state=0).fit(x, y)
    TailClassifier("lda", random_state=0).fit(x[:8], y[:8])  # two classes may be -1 and 0: a warning would be an error here


def test_names_in_the_place_of_descriptions_are_sent_to_mmn_names():
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.repeat(["a", "b", "c"], 4)
    with pytest.raises(BadInput, match=r"class_embeddings: must be numbers, .* if method is 'mmn_names'"):
        TailClassifier().fit(x, y, class_embeddings=["a", "b", "c"])
    with pytest.raises(BadInput, match="it is 'mmn_nmes', did you mean mmn_names"):
        TailClassifier("mmn_nmes").fit(x, y)
