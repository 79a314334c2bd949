"""Rivals that get descriptions of the classes or examples without labels."""

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import Ridge
from sklearn.semi_supervised import LabelSpreading
from test_mean_prior import CLASSES, COUNTS, described_classes, draw

from mmn_jax.errors import BadInput
from mmn_jax.linear import weighting
from mmn_jax.linear.rows import centred, predict_logits, subtract_log_prior, unit
from mmn_jax.methods import informed_rivals
from mmn_jax.methods.tasks import make_task, unscaled
from mmn_jax.types import Knowledge, Normalised

DESCRIPTIONS, MEANS = described_classes()
TRAIN, TEST, POOL = draw(MEANS, COUNTS), draw(MEANS, np.full(CLASSES, 25), seed=2), draw(MEANS, np.full(CLASSES, 20), seed=4)
TASK = make_task(TRAIN, jax.random.key(0), 1e-5, knowledge=Knowledge(DESCRIPTIONS, POOL.x))
METHODS = informed_rivals.methods((1e-2, 1e-4))
SETTING = {"l2": 1e-4, "tau": 1.0, "threshold": 0.8}


def theta(name, **setting):
    method = METHODS[name]
    return method.fit(TASK, {axis.name: axis.start for axis in method.axes} | {"l2": 1e-4} | setting).arrays["theta"]


def accuracy(rows):
    return 100 * (predict_logits(rows, TEST.x).argmax(1) == TEST.y).mean()


def adjusted(task):
    return centred(subtract_log_prior(task.head(weighting.plain, 1e-4, unscaled).theta, 1.0, task.counts))


def test_described_rows_are_a_mixture_with_ridge_regression():
    rows = adjusted(TASK)
    np.testing.assert_allclose(theta("described_rows", share=0.0), rows, atol=1e-5)
    unit = DESCRIPTIONS / np.linalg.norm(DESCRIPTIONS, axis=1, keepdims=True)
    predicted = Ridge(alpha=0.1 * COUNTS.mean()).fit(unit, rows, sample_weight=COUNTS).predict(unit)
    np.testing.assert_allclose(theta("described_rows", share=0.5, alpha=0.1), (rows + predicted) / 2, atol=1e-4)
    assert accuracy(theta("described_rows", share=0.5, alpha=0.01)) > accuracy(rows)


@pytest.mark.parametrize("threshold", [0.3, 0.95])
def test_pseudo_labels_are_those_that_the_head_is_sure_of(threshold):
    scores = predict_logits(adjusted(TASK), POOL.x)
    probability = np.exp(scores - scores.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    sure = probability.max(1) >= threshold
    assert 0.02 < sure.mean() < 0.98
    y = np.concatenate([TRAIN.y, probability[sure].argmax(1).astype(np.int32)])
    again = make_task(Normalised(np.concatenate([TRAIN.x, POOL.x[sure]]), y), jax.random.key(0), 1e-5)
    np.testing.assert_allclose(theta("pseudo_labels", threshold=threshold), adjusted(again), atol=1e-3 * np.abs(adjusted(again)).max())


def test_self_training_repeats_pseudo_labels_until_they_stay():
    def again(rows):
        probability = softmax(predict_logits(rows, POOL.x), axis=1)
        sure = probability.max(1) >= 0.8
        y = np.concatenate([TRAIN.y, probability[sure].argmax(1).astype(np.int32)])
        return adjusted(make_task(Normalised(np.concatenate([TRAIN.x, POOL.x[sure]]), y), jax.random.key(0), 1e-5))

    rows = again(again(adjusted(TASK)))
    np.testing.assert_allclose(informed_rivals._self_trained(2, TASK, SETTING).arrays["theta"], rows, atol=1e-3 * np.abs(rows).max())
    assert accuracy(theta("self_training", threshold=0.8)) > accuracy(adjusted(TASK))


def test_label_spreading_is_scikit_learn_s_and_classifies_new_examples_by_their_neighbours():
    method = METHODS["label_spreading"]
    arrays = method.fit(TASK, {"neighbours": 10, "alpha": 0.5, "tau": 0.0}).arrays
    x, y = unit(np.concatenate([TRAIN.x, POOL.x])), np.concatenate([TRAIN.y, np.full(len(POOL.x), -1)])
    model = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.5).fit(x, y)
    np.testing.assert_allclose(arrays["shares"], model.label_distributions_, atol=1e-5)
    logits = method.logits(arrays, TEST.x)
    expected = model.predict_proba(unit(TEST.x))
    np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=1e-4)
    even = method.logits(method.fit(TASK, {"neighbours": 10, "alpha": 0.5, "tau": 1.0}).arrays, TEST.x)
    rare = TEST.y >= 30
    assert (even.argmax(1) == TEST.y)[rare].mean() > (logits.argmax(1) == TEST.y)[rare].mean()


def test_label_spreading_takes_a_part_of_a_large_pool(monkeypatch):
    monkeypatch.setattr(informed_rivals, "SPREAD", 300)  # of 800
    task = TASK._replace(once=lambda name, make: make())
    assert len(METHODS["label_spreading"].fit(task, {"neighbours": 5, "alpha": 0.5, "tau": 0.0}).arrays["x"]) == len(TRAIN.x) + 267


def test_zero_shot_rows_are_descriptions_in_the_space_of_the_features():
    near = MEANS + 0.02 * np.random.default_rng(0).normal(size=MEANS.shape)
    task = make_task(TRAIN, jax.random.key(0), 1e-5, knowledge=Knowledge(3.0 * near))
    rows = METHODS["zero_shot"].fit(task, {}).arrays["theta"]
    np.testing.assert_allclose(rows[:, :-1], near / np.linalg.norm(near, axis=1, keepdims=True), rtol=1e-5)
    assert accuracy(rows) > accuracy(adjusted(TASK))
    with pytest.raises(
        BadInput, match=r"^class_embeddings: zero_shot needs .* space of the features, it has 4 dimensions, the features 24"
    ):
        METHODS["zero_shot"].fit(TASK, {})


def test_they_need_what_they_use():
    assert not METHODS["pseudo_labels"].applies(Knowledge(DESCRIPTIONS)) and METHODS["described_rows"].applies(Knowledge(DESCRIPTIONS))
