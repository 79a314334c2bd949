"""Choosing on validation data: normalisation, scaling folded back, ties, and the trace."""

import numpy as np
import pytest
from conftest import blobs

from mmn_jax import tuning
from mmn_jax.evaluate import mean_class_accuracy, predict_logits
from mmn_jax.types import BadInput, Examples
from mmn_jax.weighting import Weighting

X, Y = blobs(0, [20, 10, 6], 5)
TRAIN = Examples(X, Y)
VAL = Examples(*blobs(0, [8, 8, 8], 5))
UNIFORM = Weighting(np.ones(len(Y), np.float32), np.zeros(3, np.float32))
ZEROS = np.zeros((3, 6), np.float32)


def test_normalised_features_are_centred_at_unit_mean_square_norm():
    raw = 1e4 + 37.0 * X.astype(np.float32)
    x = tuning.normalisation(raw)(raw)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    assert (x.astype(float) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-4)


def test_a_single_point_cannot_be_normalised():
    with pytest.raises(BadInput, match="same point"):
        tuning.normalisation(np.ones((5, 3), np.float32))


def test_standardising_is_folded_back_into_the_rows():
    stretched = X * np.array([1, 10, 0.1, 1, 0], np.float32)
    metric = tuning.standard_metric(stretched)
    assert np.isfinite(metric).all()
    folded, _ = tuning.fit_weighted(Examples(stretched, Y), UNIFORM, 1e-3, ZEROS, 1e-6, metric)
    direct, _ = tuning.fit_weighted(Examples(stretched * metric, Y), UNIFORM, 1e-3, ZEROS, 1e-6)
    np.testing.assert_allclose(predict_logits(folded, stretched), predict_logits(direct, stretched * metric), atol=1e-3)


def test_examples_of_weight_zero_are_left_out():
    weight = (np.arange(len(Y)) % 2 == 0).astype(np.float32)
    masked, _ = tuning.fit_weighted(TRAIN, Weighting(weight, UNIFORM.offset), 1e-2, ZEROS, 1e-6)
    kept = weight > 0
    cut, _ = tuning.fit_weighted(Examples(X[kept], Y[kept]), Weighting(weight[kept], UNIFORM.offset), 1e-2, ZEROS, 1e-6)
    np.testing.assert_allclose(masked, cut, atol=1e-4)


def test_the_choice_is_the_best_of_its_trace_and_solved_to_the_final_norm():
    head = tuning.tune_head(TRAIN, VAL, UNIFORM, (1e-4, 1e-1, 1e-2, 1e-3), 1e-4, 1e-6)
    assert [trial.l2 for trial in head.trials[:4]] == [1e-1, 1e-2, 1e-3, 1e-4]
    assert {trial.standardised for trial in head.trials[4:]} == {True}
    best = max(trial.val_accuracy for trial in head.trials)
    first = next(trial for trial in head.trials if trial.val_accuracy == best)
    assert (head.chosen.l2, head.chosen.standardised) == (first.l2, first.standardised)
    assert head.chosen.gradient_norm <= 1e-6
    assert head.chosen.val_accuracy == pytest.approx(mean_class_accuracy(predict_logits(head.theta, VAL.x), VAL.y))
