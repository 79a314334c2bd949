"""Scores against scikit-learn and by hand, and the intervals against their meaning."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import balanced_accuracy_score, log_loss

from mmn_jax.evaluation import calibration, metrics
from mmn_jax.evaluation.bootstrap import bootstrap, interval, student_interval
from mmn_jax.evaluation.calibration import best_temperature, calibration_error, class_mean_nll, reliability
from mmn_jax.linear.rows import predict_logits

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(5), [9, 3, 6, 12, 4])
LOGITS = RNG.normal(size=(len(Y), 5)) + 1.5 * np.eye(5)[Y]


def test_mean_class_accuracy_is_balanced_accuracy():
    expected = 100 * balanced_accuracy_score(Y, LOGITS.argmax(1))
    assert metrics.mean_class_accuracy(LOGITS, Y) == pytest.approx(expected)


def test_a_class_without_test_examples_counts_nowhere():
    kept = Y != 2
    per_class = metrics.per_class_accuracy(LOGITS[kept], Y[kept])
    assert np.isnan(per_class[2]) and np.isfinite(per_class[[0, 1, 3, 4]]).all()
    assert metrics.mean_class_accuracy(LOGITS[kept], Y[kept]) == pytest.approx(np.mean(per_class[[0, 1, 3, 4]]))
    assert metrics.prior_accuracy(per_class, np.full(5, 0.2)) == pytest.approx(np.nanmean(per_class))


def test_accuracy_at_the_test_set_s_own_prior_is_plain_accuracy():
    per_class = metrics.per_class_accuracy(LOGITS, Y)
    assert metrics.prior_accuracy(per_class, np.bincount(Y) / len(Y)) == pytest.approx(100 * np.mean(LOGITS.argmax(1) == Y))


def test_groups_partition_the_classes_at_the_stated_counts():
    groups = metrics.shot_groups(np.array([19, 20, 100, 101]), 20, 100)
    np.testing.assert_array_equal(groups["few"], [True, False, False, False])
    np.testing.assert_array_equal(groups["medium"], [False, True, True, False])
    np.testing.assert_array_equal(groups["many"], [False, False, False, True])


def test_terciles_are_thirds_by_count():
    thirds = metrics.terciles(np.array([5, 50, 1, 7, 9, 3, 2]))
    assert [np.flatnonzero(mask).tolist() for mask in thirds.values()] == [[1, 3, 4], [0, 5], [2, 6]]


def test_calibration_error_by_hand():
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]]))
    # bin of 0.9: confidence 1.8, one right; bin of 0.6: confidence 1.2, two right
    y = np.array([0, 1, 0, 1])
    assert calibration_error(logits, y, bins=10) == pytest.approx(100 * (abs(1.8 - 1) + abs(1.2 - 2)) / 4)


def test_the_likelihood_is_scikit_learn_s_with_balanced_weights():
    probs = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    expected = log_loss(Y, probs, sample_weight=1 / np.bincount(Y)[Y])
    assert class_mean_nll(LOGITS, Y) == pytest.approx(expected)


def test_of_many_scores_some_of_every_class_are_enough_for_the_temperature(monkeypatch):
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(40), np.geomspace(2000, 20, 40).astype(int))
    logits = 3 * (np.eye(40)[y] + rng.normal(size=(len(y), 40))) * np.linspace(2, 0.5, 40)[y][:, None]  # rare classes need another one
    every = best_temperature(logits, y)
    monkeypatch.setattr(calibration, "ENOUGH_FLOATS", 40 * 4000)
    some = calibration._of_every_class(y, 4000)
    assert len(set(some)) == 4000 and np.ptp(np.bincount(y[some])[:20]) <= 1 and np.bincount(y[some])[-1] == 20
    assert best_temperature(logits, y) == pytest.approx(every, rel=0.05)


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
def test_the_best_temperature_undoes_a_scale(scale):
    best = best_temperature(LOGITS, Y)
    assert best_temperature(scale * LOGITS, Y) == pytest.approx(scale * best, rel=1e-2)
    around = [class_mean_nll(LOGITS / (best * factor), Y) for factor in (0.95, 1.0, 1.05)]
    assert np.argmin(around) == 1


def everything(classes, seeds=1):
    return np.ones((seeds, 1, classes), bool)


def two(difference):
    """Two methods [seeds, 2, n] whose rights differ by `difference` in {-1, 0, 1}."""
    return np.stack([difference > 0, difference < 0], 1)


def test_the_interval_agrees_with_scipy_where_there_is_one_class():
    difference = RNG.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(1, 400))
    draws = bootstrap(two(difference), np.zeros(400, int), everything(1), np.random.default_rng(1), 10000)
    mean, low, high = interval(draws[:, 0, 0] - draws[:, 1, 0], 100 * difference.mean())
    expected = scipy.stats.bootstrap((100 * difference[0],), np.mean, method="percentile", random_state=1).confidence_interval
    assert mean == pytest.approx(100 * difference.mean())
    np.testing.assert_allclose([low, high], expected, atol=0.6)


def test_groups_are_resampled_as_their_own_classes():
    right = RNG.random((1, 1, len(Y))) < 0.6
    masks = np.array([[[True] * 5, [True, True, False, False, False], [False] * 5]])
    both = bootstrap(right, Y, masks, np.random.default_rng(2), 300)
    own = bootstrap(right, Y, masks[:, 1:2], np.random.default_rng(2), 300)
    np.testing.assert_allclose(both[:, :, 1], own[:, :, 0], rtol=1e-5)
    assert np.isnan(both[:, :, 2]).all()
    expected = np.mean([100 * right[0, 0, c == Y].mean() for c in range(5)])
    assert both[:, 0, 0].mean() == pytest.approx(expected, abs=1.5)


def coverage(truth, seed_spread, seeds, repeats=400, classes=8, each=25):
    """Share of repeats whose 95% interval holds the planted difference in mean per-class accuracy."""
    y = np.repeat(np.arange(classes), each)
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(repeats):
        gain = truth + seed_spread * rng.normal(size=(seeds, 1))
        u = rng.random((1, len(y))) + 0.05 * rng.normal(size=(seeds, len(y)))  # seeds share their test examples
        difference = np.where(u < 0.3 + gain / 2, 1.0, np.where(u > 0.7 + gain / 2, -1.0, 0.0))
        draws = bootstrap(two(difference), y, everything(classes, seeds), rng, 400)
        _, low, high = interval(draws[:, 0, 0] - draws[:, 1, 0], 0.0)
        hits += low <= 100 * truth <= high
    return hits / repeats


@pytest.mark.parametrize("truth", [0.0, 0.1])
@pytest.mark.parametrize(
    ("seed_spread", "seeds"),
    [(0.0, 1), (0.5, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0.0, 5), (0.03, 5), (0.5, 5)))],
)
def test_intervals_hold_the_planted_difference_as_often_as_they_say(truth, seed_spread, seeds):
    """Equal by construction, and better by a known amount; with little, some and nearly all of the spread from the seeds."""
    assert 0.92 <= coverage(truth, seed_spread, seeds) <= 0.985


def test_a_method_against_itself_is_exactly_zero():
    right = np.stack([LOGITS.argmax(1) == Y] * 2)[None]
    draws = bootstrap(right, Y, everything(5), np.random.default_rng(0), 50)
    assert not (draws[:, 0] - draws[:, 1]).any()


def test_what_is_always_right_has_100_percent_in_every_draw():
    right = np.stack([np.ones(len(Y), bool), np.zeros(len(Y), bool)])[None].repeat(3, 0)
    draws = bootstrap(right, Y, everything(5, 3), np.random.default_rng(0), 50)
    np.testing.assert_allclose(draws, np.broadcast_to([[[100.0], [0.0]]], draws.shape), rtol=1e-4)


def test_draws_spread_as_the_unbiased_variance_says():
    right = np.array([[[True, False, False]]])
    draws = bootstrap(right, np.zeros(3, int), everything(1), np.random.default_rng(0), 10000)
    assert draws.std() == pytest.approx(100 * np.sqrt(1 / 9), rel=0.03)


def test_three_seeds_spread_by_students_t():
    right = np.stack([np.ones((1, 4), bool), np.zeros((1, 4), bool), np.zeros((1, 4), bool)])
    draws = bootstrap(right, np.zeros(4, int), everything(1, 3), np.random.default_rng(0), 2000)
    factor = scipy.stats.t.ppf(0.975, 2) / scipy.stats.norm.ppf(0.975)
    shares = np.array([0.0, 0.5, 1.0])  # of the two draws of three seeds
    np.testing.assert_allclose(np.unique(draws.round(3)), 100 * (1 / 3 + factor * (shares - 1 / 3)), rtol=1e-4)


def test_two_seeds_are_not_resampled_as_students_t_of_two_says_nothing():
    right = np.stack([np.ones((1, 4), bool), np.zeros((1, 4), bool)])
    draws = bootstrap(right, np.zeros(4, int), everything(1, 2), np.random.default_rng(0), 200)
    np.testing.assert_allclose(draws, 50.0)  # no spread over examples within these seeds


def test_the_interval_of_two_seeds_is_that_over_their_test_examples():
    rng = np.random.default_rng(3)
    right = rng.random((2, 1, 400)) < np.array([0.5, 0.8])[:, None, None]
    draws = bootstrap(right, np.zeros(400, int), everything(1, 2), rng, 4000)
    expected = 100 * right.mean(0)[0].std(ddof=1) / np.sqrt(400)
    assert draws.std() == pytest.approx(expected, rel=0.05) and draws.mean() == pytest.approx(100 * right.mean(), abs=0.2)


def test_logits_are_rows_times_features_plus_bias():
    x, theta = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 4))
    expected = [[row[:3] @ one + row[3] for row in theta] for one in x]
    np.testing.assert_allclose(predict_logits(theta, x), expected)


def test_classes_that_nobody_has_or_is_given_keep_their_place():
    logits = np.eye(4)[[0, 0, 1]]  # predictions 0, 0, 1
    np.testing.assert_array_equal(metrics.per_class_accuracy(logits, np.array([0, 1, 1])), [100, 50, np.nan, np.nan])


def test_an_accuracy_under_a_prior_that_no_tested_class_has_is_none():
    per_class = np.array([50.0, np.nan, 100.0])
    assert np.isnan(metrics.prior_accuracy(per_class, np.array([0.0, 1.0, 0.0])))
    assert metrics.prior_accuracy(per_class, np.array([0.3, 0.6, 0.1])) == pytest.approx((0.3 * 50 + 0.1 * 100) / 0.4)


def test_tied_counts_go_by_class():
    thirds = metrics.terciles(np.full(30, 7))
    assert [np.flatnonzero(mask).tolist() for mask in thirds.values()] == [list(range(10)), list(range(10, 20)), list(range(20, 30))]


def test_there_are_fifteen_bins_and_certainty_is_in_the_last():
    parts = reliability(np.array([[800.0, 0.0], [0.1, 0.0]]), np.array([0, 1]))
    assert parts["count"].tolist() == [0] * 7 + [1] + [0] * 6 + [1]
    np.testing.assert_allclose(parts["confidence"][[7, 14]], [100 / (1 + np.exp(-0.1)), 100])
    assert parts["accuracy"][[7, 14]].tolist() == [0, 100]
    assert calibration_error(LOGITS, Y) == pytest.approx(calibration_error(LOGITS, Y, 15))


def test_the_likelihood_passes_over_classes_without_examples():
    y = np.array([0, 3, 3])
    losses = log_loss(y, np.full((3, 5), 0.2), labels=range(5))
    assert class_mean_nll(np.zeros((3, 5)), y) == pytest.approx(losses)


def test_the_temperature_stays_within_a_hundredth_and_a_hundred():
    right = np.eye(5)[Y]
    assert best_temperature(0.05 * right, Y) == pytest.approx(0.01, rel=0.05)
    assert best_temperature(-10 * right, Y) == pytest.approx(100, rel=0.05)


def test_a_few_values_have_student_s_interval():
    values = [1.0, 2.5, 4.0, 4.5]
    expected = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    np.testing.assert_allclose(student_interval(values), [3.0, *expected])
    assert student_interval([2.0]) == (2.0, -np.inf, np.inf)
    assert np.isfinite(student_interval([1.0, 2.0])).all()


def test_an_interval_leaves_as_much_out_below_as_above():
    assert interval(np.arange(1001.0), 500.0) == pytest.approx((500.0, 25.0, 975.0))


def test_one_good_seed_of_three_draws_upwards():
    right = np.repeat([[[True]], [[False]], [[False]]], 4, axis=2)
    draws = bootstrap(right, np.zeros(4, int), np.ones((3, 1, 1), bool), np.random.default_rng(0))
    assert draws.shape == (2000, 1, 1)
    assert draws.max() - 100 / 3 > 100 / 3 - draws.min() > 0
