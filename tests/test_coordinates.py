"""Coordinates of a metric, and of features with fewer examples than dimensions: every method's classifier is the same in their span."""

import jax
import numpy as np
import pytest
from conftest import blobs

from mmn_jax.linear.coordinates import PAD, coordinates, is_wide, span_basis, span_coordinates
from mmn_jax.methods import rivals, tasks
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.mmn import INFORMED
from mmn_jax.methods.tasks import make_task
from mmn_jax.types import Knowledge, Normalised

COUNTS = np.array([14, 12, 9, 7, 6, 4, 3, 2, 1])
DIM = 200
X, Y = blobs(0, 3 * COUNTS, DIM, spread=1.5)
FIRST = np.concatenate([np.flatnonzero(c == Y)[:n] for c, n in enumerate(COUNTS)])
TRAIN, REST = Normalised(X[FIRST], Y[FIRST]), X[np.setdiff1d(np.arange(len(Y)), FIRST)]
KNOWN = Knowledge(np.random.default_rng(0).normal(size=(len(COUNTS), DIM)), REST[::3])  # for the methods that use it
METHODS = every_method((1e-2, 1e-4, 1e-6))


def test_examples_that_are_few_but_not_by_far_stay_as_they_are():
    assert is_wide(np.zeros((PAD, PAD + 1))) and not is_wide(np.zeros((PAD + 1, 2 * PAD))) and not is_wide(np.zeros((PAD, PAD)))


@pytest.mark.parametrize("diagonal", [True, False])
def test_rows_go_into_coordinates_and_out_again(diagonal):
    rng = np.random.default_rng(1)
    metric = np.exp(rng.normal(size=DIM)) if diagonal else np.eye(DIM) + 0.1 * rng.normal(size=(DIM, DIM))
    metric = metric.astype(np.float32)
    theta = rng.normal(size=(4, DIM + 1)).astype(np.float32)
    place = coordinates(metric)
    np.testing.assert_allclose(place.out(place.into(theta)), theta, atol=1e-4)
    np.testing.assert_allclose(place.features(X) @ place.into(theta)[:, :-1].T, X @ theta[:, :-1].T, atol=1e-3)
    span = span_basis(TRAIN.x)
    inside = span_coordinates(metric if diagonal else (metric @ span).astype(np.float32), TRAIN.x, span)
    assert inside.x.shape == (len(TRAIN.x), PAD)
    back = inside.out(np.pad(theta[:, : len(TRAIN.x)], ((0, 0), (0, PAD + 1 - len(TRAIN.x)))))
    np.testing.assert_allclose(inside.out(inside.into(back)), back, atol=1e-3 * np.abs(back).max())
    np.testing.assert_allclose(inside.x, inside.features(TRAIN.x), atol=1e-4)


QUICK = ("plain", "crt", "ncm", "lda", "knn", "mmn")  # one of every kind
SAME = [name for name in METHODS if name not in INFORMED]  # these fit a prior to the coordinates that there are, empty ones among them


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SAME])
def test_a_method_scores_new_examples_the_same_whether_it_works_in_the_span_or_not(name, monkeypatch):
    method = METHODS[name]
    settings = [{axis.name: axis.start for axis in method.axes}]
    settings += [{**settings[0], "standardised": True}] if "standardised" in settings[0] else []
    for setting in settings:
        scores = []
        for wide in (is_wide, lambda x: False):
            for module in (tasks, rivals):
                monkeypatch.setattr(module, "is_wide", wide)
            task = make_task(TRAIN, jax.random.key(0), 3e-7, knowledge=KNOWN)
            with jax.numpy_dtype_promotion("standard"):
                found = method.logits(method.fit(task, setting).arrays, REST)
            scores.append(found - found.mean(1, keepdims=True))
        np.testing.assert_allclose(*scores, atol=2e-3 * np.abs(scores[1]).max())
