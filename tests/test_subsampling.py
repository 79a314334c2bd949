"""Subsamples: what they keep, what they hold out, and which classes are reduced."""

import jax
import numpy as np
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from mmn_jax.methods.subsampling import HELD, draw_shots, make_subsample
from mmn_jax.types import Normalised


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 40), min_size=2, max_size=12))
def test_a_subsample_splits_the_examples_and_leaves_every_class_one(seed, counts):
    x, y = blobs(0, counts, 3)
    train = Normalised(x + np.arange(len(y), dtype=np.float32)[:, None], y)  # no two alike
    parts = make_subsample(jax.random.key(seed), train)
    kept, held = (np.bincount(part.y, minlength=len(counts)) for part in parts)
    assert (kept >= 1).all() and (held <= HELD).all() and (kept + held <= counts).all()
    assert ((held >= 1) == (np.array(counts) > 1)).all()
    rows = {tuple(row) for row in train.x.tolist()}
    found = [tuple(row) for part in parts for row in part.x.tolist()]
    assert len(set(found)) == len(found) and set(found) <= rows


def test_a_third_of_the_classes_are_reduced():
    train = Normalised(*blobs(0, [40] * 300 + [2] * 300, 2))
    kept = np.bincount(make_subsample(jax.random.key(0), train).train.y)[:300]
    assert 0.25 < (kept < 32).mean() < 0.42 and set(kept[kept < 32]) <= {2, 20} and (kept[kept >= 32] == 32).all()


def test_shots_are_those_of_other_classes_and_at_most_half_of_ones_own():
    own = np.array([4, 9, 50, 200])
    drawn = draw_shots(np.random.default_rng(0), np.array([1, 3, 30, 200]), np.tile(own, 50)).reshape(50, 4)
    assert (drawn <= own // 2).all() and set(drawn[:, 3]) == {1, 3, 30, 100}


def test_with_many_classes_fewer_examples_of_each_are_held_out(monkeypatch):
    train = Normalised(np.zeros((200, 1), np.float32), np.repeat(np.arange(20, dtype=np.int32), 10))
    every = make_subsample(jax.random.key(0), train).held
    monkeypatch.setattr("mmn_jax.methods.subsampling.LOGITS", 20 * 30)
    some = make_subsample(jax.random.key(0), train).held
    assert len(some.y) == 30 < len(every.y)
    counts, before = np.bincount(some.y, minlength=20), np.bincount(every.y, minlength=20)
    assert (counts <= before).all() and (counts >= np.minimum(before, 1)).all() and counts.max() <= 2
