"""The split: counts by the formula, nothing in two places, the same seed the same split."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmn_jax.data import glyphs, manifest
from mmn_jax.data.longtail import TEST, TRAIN, UNUSED, VAL, exponential_counts, hold_out_test, long_tail_split, stratified_folds, take
from mmn_jax.errors import BadInput
from mmn_jax.types import Examples, FeatureSet


def feature_set(counts, own_val=False):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    part = Examples(np.arange(len(y), dtype=np.float32)[:, None], y)
    return FeatureSet("toy", part, part if own_val else None, part, tuple(map(str, range(len(counts)))))


@pytest.mark.parametrize(
    ("classes", "largest", "imbalance", "ends"), [(250, 200, 100, (200, 2)), (100, 480, 96, (480, 5)), (150, 80, 80, (80, 1))]
)
def test_counts_fall_from_the_largest_to_the_stated_smallest(classes, largest, imbalance, ends):
    counts = exponential_counts(classes, largest, imbalance)
    assert (counts[0], counts[-1]) == ends and (np.diff(counts) <= 0).all()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=8), st.integers(1, 30), st.integers(0, 99))
def test_validation_takes_at_most_a_third_and_none_from_the_smallest(counts, per_class, seed):
    features = feature_set(counts)
    if max(counts) < 3:
        with pytest.raises(BadInput, match="val_per_class"):
            long_tail_split(features, seed, val_per_class=per_class)
        return
    part = long_tail_split(features, seed, val_per_class=per_class)
    held = np.bincount(features.train.y[part == VAL], minlength=len(counts))
    np.testing.assert_array_equal(held, np.minimum(per_class, np.array(counts) // 3))
    assert (part != UNUSED).all()


def test_a_made_tail_has_the_counts_over_a_seeded_order_of_classes():
    features = feature_set([100] * 10)
    tails = [take(features, long_tail_split(features, seed, imbalance=20, max_per_class=60)) for seed in (0, 0, 1)]
    for tail in tails:
        np.testing.assert_array_equal(np.sort(tail.counts)[::-1], exponential_counts(10, 60, 20))
    np.testing.assert_array_equal(tails[0].train.x, tails[1].train.x)
    assert (tails[0].counts != tails[2].counts).any()
    assert not set(tails[0].train.x.ravel()) & set(tails[0].val.x.ravel())


def test_an_imbalance_below_one_is_its_inverse():
    features = feature_set([50] * 5)
    np.testing.assert_array_equal(long_tail_split(features, 0, imbalance=0.1), long_tail_split(features, 0, imbalance=10))


def test_no_class_gets_more_than_it_has_and_natural_counts_stand():
    features = feature_set([50, 8, 30], own_val=True)
    assert take(features, long_tail_split(features, 0, max_per_class=20)).counts.tolist() == [20, 8, 20]
    part = long_tail_split(features, 0)
    assert (part == TRAIN).all() and take(features, part).counts.tolist() == [50, 8, 30]


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"imbalance": 0.0}, "imbalance"),
        ({"imbalance": -3.0}, "imbalance"),
        ({"imbalance": float("nan")}, "imbalance"),
        ({"max_per_class": 0}, "max_per_class"),
        ({"val_per_class": 0}, "val_per_class"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings_, named):
    with pytest.raises(BadInput, match=named):
        long_tail_split(feature_set([9, 9]), 0, **settings_)


def test_the_embedded_glyphs_are_whole():
    features = glyphs.load()
    assert [len(part.y) for part in (features.train, features.val, features.test)] == [49081, 5000, 7500]
    assert features.train.x.shape[1] == 128 and len(set(features.class_names)) == 250
    tail = take(features, long_tail_split(features, 0, 100, 200))
    assert tail.counts.min() == 2 and 190 < tail.counts.max() <= 200
    np.testing.assert_array_equal(np.bincount(tail.test.y), 30)


def test_packed_features_come_back_within_half_a_step():
    features = feature_set([9, 4], own_val=True)
    back = glyphs.unpacked(glyphs.packed(*features[1:5]))
    assert back.class_names == features.class_names
    largest = np.abs(np.concatenate([features.train.x, features.val.x, features.test.x])).max(0)
    for made, kept in zip(features[1:4], back[1:4], strict=True):
        assert (np.abs(made.x - kept.x) <= 0.5001 * largest / 127).all()
        np.testing.assert_array_equal(made.y, kept.y)


def test_folds_are_stratified_and_never_leave_out_a_class_s_only_example():
    y = np.repeat(np.arange(4), [9, 4, 2, 1])
    fold = stratified_folds(jax.random.key(0), y, 3)
    assert fold[y == 3] == -1
    for c, sizes in ((0, [3, 3, 3]), (1, [2, 1, 1]), (2, [1, 1, 0])):
        np.testing.assert_array_equal(np.bincount(fold[y == c], minlength=3), sizes)
    assert all(len(np.unique(y[fold != i])) == 4 for i in range(3))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=8), st.floats(0.05, 0.95), st.integers(0, 99))
def test_test_examples_are_a_share_of_every_class_and_leave_each_one_to_train_on(counts, share, seed):
    features = feature_set(counts)._replace(test=None)
    if max(counts) < 2:
        with pytest.raises(BadInput, match="test_share: every class has a single example"):
            hold_out_test(features.train.y, share, seed)
        return
    held = hold_out_test(features.train.y, share, seed)
    of_class = np.bincount(features.train.y[held], minlength=len(counts))
    assert all(1 <= taken <= n - 1 if n > 1 else taken == 0 for taken, n in zip(of_class, counts, strict=True))
    assert all(abs(taken - share * n) < 1 or n * share < 1 or taken == n - 1 for taken, n in zip(of_class, counts, strict=True))
    np.testing.assert_array_equal(held, hold_out_test(features.train.y, share, seed))
    tails = [take(features, long_tail_split(features, draw, val_per_class=None, max_per_class=9, test=held)) for draw in (0, 1)]
    for tail in tails:  # the seed of the tail changes nothing for the test set
        np.testing.assert_array_equal(tail.test.x, features.train.x[held])
        assert not set(tail.train.x.ravel()) & set(tail.test.x.ravel())
        np.testing.assert_array_equal(tail.counts, np.minimum(9, np.array(counts) - of_class))


def test_validation_takes_a_third_of_what_the_test_examples_leave():
    features = feature_set([40, 12])._replace(test=None)
    held = hold_out_test(features.train.y, 0.25, 0)
    part = long_tail_split(features, 0, test=held)
    assert [np.bincount(features.train.y[part == which]).tolist() for which in (TEST, VAL, TRAIN)] == [[10, 3], [10, 3], [20, 6]]


def test_a_manifest_keeps_the_test_examples(tmp_path):
    features = feature_set([40, 12, 1])._replace(test=None)
    part = long_tail_split(features, 0, test=hold_out_test(features.train.y, 0.25, 0))
    document = manifest.describe(features, part, 0, {})
    assert document["test"] == np.flatnonzero(part == TEST).tolist()
    (tmp_path / "split.json").write_text(json.dumps(document))
    np.testing.assert_array_equal(manifest.read(tmp_path / "split.json", features), part)
    with pytest.raises(BadInput, match="it tests on rows of train_x, these have a test set"):
        manifest.read(tmp_path / "split.json", features._replace(test=features.train))
    (tmp_path / "split.json").write_text(json.dumps(document | {"test": document["test"][:-1]}))
    with pytest.raises(BadInput, match="checksum differs"):
        manifest.read(tmp_path / "split.json", features)
