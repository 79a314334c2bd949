"""Labels for examples that have none: whose they are, how many there are, and what they do for a mixture."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from test_mean_prior import CLASSES, COUNTS, accuracy, described_classes, draw

from mmn_jax.linear.rows import predict_logits
from mmn_jax.methods import mmn, pseudo_labelling
from mmn_jax.methods.pseudo_labelling import Labelled, label, level_within, up_to, with_labelled
from mmn_jax.methods.tasks import make_task
from mmn_jax.types import Knowledge

_, MEANS = described_classes()
TRAIN, TEST, POOL = draw(MEANS, COUNTS), draw(MEANS, np.full(CLASSES, 50), seed=2), draw(MEANS, np.full(CLASSES, 40), seed=4)
ROWS = np.random.default_rng(0).normal(size=(CLASSES, TRAIN.x.shape[1] + 1)).astype(np.float32)


def test_labels_are_the_most_probable_classes_of_the_examples_that_are_sure(monkeypatch):
    monkeypatch.setattr(pseudo_labelling, "CHUNK_FLOATS", 100 * CLASSES)  # several chunks, the last one smaller
    probability = softmax(predict_logits(ROWS, POOL.x), axis=1)
    new = label(ROWS, POOL.x, 0.3)
    np.testing.assert_array_equal(new.sure, probability.max(1) >= 0.3)
    assert 0 < new.sure.sum() < len(POOL.x)
    np.testing.assert_array_equal(new.y, probability[new.sure].argmax(1))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.integers(1, 12))
def test_classes_are_filled_up_and_no_further(seed, most):
    rng = np.random.default_rng(seed)
    counts, sure = rng.integers(1, 15, 6), rng.random(80) < 0.7
    new = Labelled(sure, rng.integers(0, 6, sure.sum()))
    kept = up_to(new, counts, most, jax.random.key(seed))
    of_class, there = np.bincount(kept.y, minlength=6), np.bincount(new.y, minlength=6)
    np.testing.assert_array_equal(of_class, np.minimum(there, np.maximum(most - counts, 0)))
    every = np.full(80, -1)
    every[sure] = new.y
    np.testing.assert_array_equal(every[kept.sure], kept.y)  # each keeps its label


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.integers(0, 60), st.integers(1, 40))
def test_classes_are_filled_up_as_far_as_labels_go(seed, total, largest):
    rng = np.random.default_rng(seed)
    counts, new = rng.integers(1, 15, 6), Labelled(np.ones(80, bool), rng.integers(0, 6, 80))

    def added(most):
        return len(up_to(new, counts, most, jax.random.key(0)).y)

    most = level_within(new, counts, largest, total)
    assert added(most) <= total and (most == largest or added(most + 1) > total)


def test_a_mixture_of_all_examples_does_more_for_rare_classes():
    task = make_task(TRAIN, jax.random.key(0), 1e-4, knowledge=Knowledge(None, POOL.x))
    method = mmn.methods((1e-3,))["mmn_unlabelled"]
    first, second = (method.fit(task, {"kappa": 1.0, "alone": None, "labels": labels}).arrays["theta"] for labels in (False, True))
    assert accuracy(second, TEST) > accuracy(first, TEST) and accuracy(second, TEST, 30) > accuracy(first, TEST, 30)
    new = label(first, POOL.x, mmn.SURE)
    assert len(with_labelled(TRAIN, POOL.x, new).y) == len(TRAIN.y) + new.sure.sum()
    assert (new.y == POOL.y[new.sure]).mean() > 0.8
