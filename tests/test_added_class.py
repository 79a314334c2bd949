"""Classes that are added to a fitted classifier by their descriptions, against the dense Gaussian formula and through `TailClassifier`."""

import pickle

import numpy as np
import pytest
from test_mean_prior import CLASSES, COUNTS, described_classes, draw, whitened

from mmn_jax import TailClassifier
from mmn_jax.errors import BadInput
from mmn_jax.linear.added_class import expected_means
from mmn_jax.linear.mean_prior import fit_mean_prior
from mmn_jax.linear.relations import relations

DESCRIPTIONS, MEANS = described_classes()
TRAIN, TEST = draw(MEANS, COUNTS), draw(MEANS, np.full(CLASSES, 25), seed=2)
NEW = np.array([5, 17, 33])
OLD = np.setdiff1d(np.arange(CLASSES), NEW)
FEW = draw(MEANS, np.full(CLASSES, 2), seed=8)
NUMBERS = np.arange(CLASSES)
NAMES = np.array([f"{('left', 'right')[c % 2]} side {'abcdefghij'[c % 10] * 4} {c}" for c in NUMBERS])


@pytest.mark.parametrize("examples", [0, 2])
def test_the_mean_of_a_class_is_the_dense_formula_s(examples):
    model, statistics, means = whitened(TRAIN)
    counts = np.append(statistics.counts, examples)
    related = relations(np.vstack([DESCRIPTIONS, DESCRIPTIONS[3] + 0.1]))
    kernel = related.kernel()
    observed = np.vstack([means, means[3] if examples else np.full(means.shape[1], 7.0)])  # without examples, any mean
    found = expected_means(model, observed, counts, np.vstack([DESCRIPTIONS, DESCRIPTIONS[3] + 0.1]))
    there = counts > 0
    prior = fit_mean_prior(model.spread, observed[there], counts[there].astype(float), related.at(np.flatnonzero(there)))
    for j in (0, 9, means.shape[1] - 1):
        covariance = prior.variance[j] * ((1 - prior.share[j]) * np.eye(CLASSES + 1) + prior.share[j] * kernel)
        noisy = covariance[np.ix_(there, there)] + np.diag(1 / counts[there])
        np.testing.assert_allclose(found[:, j], covariance[:, there] @ np.linalg.solve(noisy, observed[there, j]), atol=1e-6)


def fitted(labels=NUMBERS, method="logit_adjustment", **known):
    old = np.isin(TRAIN.y, OLD)
    return TailClassifier(method, l2=1e-4, budget=1, folds=2, random_state=0).fit(TRAIN.x[old], labels[TRAIN.y[old]], **known)


@pytest.fixture(scope="module")
def described():
    return pickle.dumps(fitted(method="mmn_names", class_embeddings=DESCRIPTIONS[OLD]))


def accuracy(model, labels=NUMBERS, classes=NEW):
    some = np.isin(TEST.y, classes)
    return 100 * (model.predict(TEST.x[some]) == labels[TEST.y[some]]).mean()


def test_a_description_places_a_class_without_examples_and_helps_one_with_few(described):
    by_name, by_both, by_examples = (pickle.loads(described) for _ in range(3))
    before = accuracy(by_name, classes=OLD)
    for c in NEW:
        assert by_name.add_class(None, int(c), class_embedding=DESCRIPTIONS[c]) is by_name
        by_both.add_class(FEW.x[FEW.y == c][:1], int(c), class_embedding=DESCRIPTIONS[c])
        by_examples.add_class(FEW.x[FEW.y == c][:1], int(c))
    assert by_name.classes_.tolist() == list(range(CLASSES)) and by_name.counts_[NEW].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(by_name.descriptions_, DESCRIPTIONS)
    assert accuracy(by_name) > 45 and accuracy(by_both) > accuracy(by_examples) + 5
    assert accuracy(by_name, classes=OLD) > before - 8
    with pytest.raises(BadInput, match=r"^add_class: label 5 is known"):
        by_name.add_class(None, 5, class_embedding=DESCRIPTIONS[5])
    assert by_name.set_params(prior="train").predict_proba(TEST.x)[:, NEW].max() == 0


def test_classes_that_are_described_by_their_labels_are_added_by_them():
    model = fitted(NAMES, "described_rows")
    assert model.add_class(None, "left side 40").classes_.tolist().count("left side 40") == 1 and len(model.descriptions_) == len(OLD) + 1
    assert np.isfinite(model.predict_proba(TEST.x[:9])).all()
    with pytest.raises(BadInput, match=r"^class_embedding: the classes are described by their labels; fit with class_embeddings"):
        model.add_class(None, "right side 41", class_embedding=DESCRIPTIONS[0])
    with pytest.raises(BadInput, match=r"^label: '\?' has no letters or digits, and X_few is None; give a description, examples, or both"):
        model.add_class(None, "?")


BAD = {
    "nothing": ({}, r"^class_embedding: is missing or all zeros, and X_few is None; give a description, examples, or both"),
    "zeros": ({"class_embedding": np.zeros(4)}, r"^class_embedding: is missing or all zeros"),
    "size": ({"class_embedding": np.ones(3)}, r"^class_embedding: must be \[4\] numbers, as those of the other .*, it is float64 \[3\]"),
    "text": ({"class_embedding": ["a"] * 4}, r"^class_embedding: must be \[4\] numbers, .*, it is <U1 \[4\]"),
    "NaN": ({"class_embedding": [1, np.nan, 0, 0]}, r"^class_embedding: has a value that is NaN or infinite; leave it out"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_description_that_cannot_be_used_is_refused_in_a_line(described, case):
    given, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        pickle.loads(described).add_class(None, 5, **given)


def test_a_classifier_without_descriptions_needs_examples():
    model = fitted()
    with pytest.raises(BadInput, match=r"^X_few: 5 needs an example, as nothing describes the classes; fit with class_embeddings"):
        model.add_class(None, 5)
    with pytest.raises(BadInput, match=r"^class_embedding: the other classes have none; fit with class_embeddings, or leave it out"):
        model.add_class(FEW.x[:2], 5, class_embedding=DESCRIPTIONS[5])
