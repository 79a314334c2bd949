"""Rivals that get descriptions of the classes or examples without labels."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from test_mean_prior import CLASSES, COUNTS, described_classes, draw

from mmn_jax.linear import weighting
from mmn_jax.linear.rows import centred, predict_logits, subtract_log_prior
from mmn_jax.methods import informed_rivals
from mmn_jax.methods.tasks import make_task, unscaled
from mmn_jax.types import Knowledge, Normalised

DESCRIPTIONS, MEANS = described_classes()
TRAIN, TEST, POOL = draw(MEANS, COUNTS), draw(MEANS, np.full(CLASSES, 25), seed=2), draw(MEANS, np.full(CLASSES, 20), seed=4)
TASK = make_task(TRAIN, jax.random.key(0), 1e-5, knowledge=Knowledge(DESCRIPTIONS, POOL.x))
METHODS = informed_rivals.methods((1e-2, 1e-4))


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


def test_they_need_what_they_use():
    assert not METHODS["pseudo_labels"].applies(Knowledge(DESCRIPTIONS)) and METHODS["described_rows"].applies(Knowledge(DESCRIPTIONS))
