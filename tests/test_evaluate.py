"""Scores against scikit-learn, by hand, and the interval against its meaning."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import balanced_accuracy_score

from mmn_jax import evaluate

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(5), [9, 3, 6, 12, 4])
LOGITS = RNG.normal(size=(len(Y), 5)) + 1.5 * np.eye(5)[Y]


def test_mean_class_accuracy_is_balanced_accuracy():
    expected = 100 * balanced_accuracy_score(Y, LOGITS.argmax(1))
    assert evaluate.mean_class_accuracy(LOGITS, Y) == pytest.approx(expected)


def test_a_class_without_test_examples_counts_nowhere():
    kept = Y != 2
    per_class = evaluate.per_class_accuracy(LOGITS[kept], Y[kept])
    assert np.isnan(per_class[2]) and np.isfinite(per_class[[0, 1, 3, 4]]).all()
    assert evaluate.mean_class_accuracy(LOGITS[kept], Y[kept]) == pytest.approx(np.mean(per_class[[0, 1, 3, 4]]))


def test_groups_partition_the_classes_at_the_stated_counts():
    groups = evaluate.shot_groups(np.array([19, 20, 100, 101]))
    np.testing.assert_array_equal(groups["few"], [True, False, False, False])
    np.testing.assert_array_equal(groups["medium"], [False, True, True, False])
    np.testing.assert_array_equal(groups["many"], [False, False, False, True])


def test_calibration_error_by_hand():
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]]))
    # bin of 0.9: confidence 1.8, one right; bin of 0.6: confidence 1.2, two right
    y = np.array([0, 1, 0, 1])
    assert evaluate.calibration_error(logits, y, bins=10) == pytest.approx(100 * (abs(1.8 - 1) + abs(1.2 - 2)) / 4)


def test_the_interval_agrees_with_scipy_where_there_is_one_class():
    difference = RNG.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(1, 400))
    mean, low, high = evaluate.paired_interval(difference, np.zeros(400, int), np.random.default_rng(1), draws=10000)
    reference = bootstrap(
        (difference[0],), np.mean, method="percentile", n_resamples=10000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert mean == pytest.approx(100 * difference.mean())
    np.testing.assert_allclose([low, high], [100 * reference.low, 100 * reference.high], atol=0.7)


def test_the_interval_covers_the_planted_difference():
    """Two methods that differ by a known amount in every class: 95% of intervals hold it."""
    y, truth, hits, repeats = np.repeat(np.arange(10), 30), 0.1, 0, 300
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        difference = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=(1, len(y)))
        _, low, high = evaluate.paired_interval(difference, y, rng, draws=400)
        hits += low <= 100 * truth <= high
    assert 0.91 <= hits / repeats <= 0.985


def test_a_method_against_itself_is_exactly_zero():
    assert evaluate.paired_interval(np.zeros((2, len(Y))), Y, np.random.default_rng(0), 50) == (0.0, 0.0, 0.0)
