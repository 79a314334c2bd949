"""What the report says of single classes and of groups, held against small cases counted by hand, and the estimate of more examples."""

import numpy as np
import pytest
from conftest import blobs

from mmn_jax.data.normalisation import normalisation
from mmn_jax.evaluation.bootstrap import wilson_interval
from mmn_jax.report import classes, more_examples
from mmn_jax.types import Examples

Y = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
AFTER = np.array([0, 1, 1, 2, 1, 0, 2, 2, 2])


def test_wilson_interval_of_textbook_cases():
    low, high = wilson_interval(np.array([0, 5, 10, 0]), np.array([10, 10, 10, 0]))
    np.testing.assert_allclose(low[:3], [0, 0.2366, 0.7225], atol=1e-4)
    np.testing.assert_allclose(high[:3], [0.2775, 0.7634, 1], atol=1e-4)
    assert np.isnan(low[3]) and np.isnan(high[3])


def test_results_of_every_class():
    found = classes.results_by_class(Y, (np.zeros(9, int), AFTER), np.array([9, 5, 3, 1]))
    np.testing.assert_allclose(found.before, [100, 0, 0, np.nan])
    np.testing.assert_allclose(found.after, [25, 50, 100, np.nan])
    assert found.tested.tolist() == [4, 2, 3, 0] and found.confused.tolist() == [1, 0, -1, -1]
    np.testing.assert_allclose(found.share, [50, 50, 0, np.nan])
    assert classes.worst(found, 5).tolist() == [0, 1]


def test_pairs_are_counted_in_both_directions():
    found = classes.confused_pairs(classes.mistakes(Y, AFTER), np.array([4, 2, 3, 0]), 5)
    assert [tuple(map(int, pair)) for pair in zip(*found, strict=True)] == [(0, 1, 2, 1), (0, 2, 1, 0)]
    assert len(classes.confused_pairs(classes.mistakes(Y, Y), np.array([4, 2, 3]), 5).first) == 0


def test_accuracy_under_a_prior_and_its_interval():
    right, prior = AFTER == Y, np.array([0.5, 0.3, 0.1, 0.1])
    mean, low, high = classes.weighted_accuracy(right, Y, prior)
    assert mean == pytest.approx(100 * (0.5 * 0.25 + 0.3 * 0.5 + 0.1) / 0.9)
    rng = np.random.default_rng(0)
    draws = [np.mean([rng.random(400) < p for p in (0.2, 0.6)], axis=1) @ [0.3, 0.7] for _ in range(2000)]
    y = np.repeat([0, 1], 400)
    mean, low, high = classes.weighted_accuracy(np.arange(800) % 400 < np.where(y, 240, 80), y, np.array([0.3, 0.7]))
    np.testing.assert_allclose([mean, high - low], [48, 100 * np.ptp(np.quantile(draws, [0.025, 0.975]))], rtol=0.05)


def test_calibration_of_a_group_weights_true_classes_alike():
    made = classes.Predictions(AFTER, np.linspace(10, 90, 9), AFTER)
    found = classes.calibration_of(made, Y, np.array([False, True, False]))
    assert found.number == 3 and found.right == pytest.approx(100 * (1 / 2) / (1 / 4 + 1 / 4 + 1 / 2))
    assert found.probability == pytest.approx((20 / 4 + 30 / 4 + 50 / 2) / (1 / 4 + 1 / 4 + 1 / 2))
    assert classes.calibration_of(made, Y, np.zeros(3, bool)) is None


def test_less_is_unknown_of_a_class_with_more_examples():
    spread = np.array([3.0, 1.0, 0.1])
    unknown = more_examples.unknown_share(spread, np.array([0, 1, 2, 10, 10**6]))
    assert unknown[0] == pytest.approx(1) and (np.diff(unknown) < 0).all() and unknown[-1] < 1e-5
    np.testing.assert_allclose(unknown[1], (3 / 4 + 1 / 2 + 0.1 / 1.1) / 4.1)


def simulated(slope, number=2000, tested=20):
    """Test results of classes whose accuracy follows the curve of this slope."""
    rng, spread = np.random.default_rng(0), np.array([2.0, 1.0, 0.5])
    counts = rng.integers(1, 60, number)
    rate = [1 / (1 + np.exp(-(2 - slope * more_examples.unknown_share(spread, n)))) for n in (counts, counts + 10)]
    return spread, counts, rng.binomial(tested, rate[0]), np.full(number, tested), rate


def test_gains_of_classes_that_follow_the_curve_are_found():
    spread, counts, right, tested, (now, then) = simulated(4.0)
    found = more_examples.gains(spread, counts, right, tested, 10)
    np.testing.assert_allclose(found.now, 100 * now, atol=15)
    np.testing.assert_allclose((found.then - found.now).mean(), 100 * (then - now).mean(), rtol=0.1)
    assert np.corrcoef(found.then - found.now, then - now)[0, 1] > 0.95


def test_gains_are_not_estimated_without_evidence():
    spread, counts, right, tested, _ = simulated(-4.0)
    assert more_examples.gains(spread, counts, right, tested, 10) is None  # rare classes are recognised better
    spread, counts, right, tested, _ = simulated(4.0, number=10)
    assert more_examples.gains(spread, counts, right, tested, 10) is None
    spread, counts, right, tested, _ = simulated(4.0)
    for same in (tested, 0 * tested):
        assert more_examples.gains(spread, counts, same, tested, 10) is None
    untested = np.where(np.arange(2000) < 5, 0, tested)
    found = more_examples.gains(spread, counts, np.minimum(right, untested), untested, 10)
    assert np.isnan(found.now[:5]).all() and np.isfinite(found.then[5:]).all()


def test_the_model_of_classes_gives_the_variances():
    x, y = blobs(0, [30] * 8, 5)
    spread = more_examples.between_class_variances(normalisation(Examples(x, y)).of(Examples(x, y)))
    assert spread.shape == (5,) and (spread > 0).all() and (np.diff(spread) <= 0).all()
