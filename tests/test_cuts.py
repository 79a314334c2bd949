"""Cuts: what they keep, what they leave out, and who plays rarer."""

import jax
import numpy as np
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from mmn_jax.methods.subsampling import HELD, draw_shots, make_cut
from mmn_jax.types import Examples


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 40), min_size=2, max_size=12))
def test_a_cut_parts_the_examples_and_leaves_every_class_one(seed, counts):
    x, y = blobs(0, counts, 3)
    train = Examples(x + np.arange(len(y), dtype=np.float32)[:, None], y)  # no two alike
    cut = make_cut(jax.random.key(seed), train)
    kept, held = (np.bincount(part.y, minlength=len(counts)) for part in cut)
    assert (kept >= 1).all() and (held <= HELD).all() and (kept + held <= counts).all()
    assert ((held >= 1) == (np.array(counts) > 1)).all()
    rows = {tuple(row) for row in train.x.tolist()}
    parts = [tuple(row) for part in cut for row in part.x.tolist()]
    assert len(set(parts)) == len(parts) and set(parts) <= rows


def test_a_third_of_the_classes_play_rarer():
    train = Examples(*blobs(0, [40] * 300 + [2] * 300, 2))
    kept = np.bincount(make_cut(jax.random.key(0), train).train.y)[:300]
    assert 0.25 < (kept < 32).mean() < 0.42 and set(kept[kept < 32]) <= {2, 20} and (kept[kept >= 32] == 32).all()


def test_shots_are_those_of_other_classes_and_at_most_half_of_ones_own():
    own = np.array([4, 9, 50, 200])
    drawn = draw_shots(np.random.default_rng(0), np.array([1, 3, 30, 200]), np.tile(own, 50)).reshape(50, 4)
    assert (drawn <= own // 2).all() and set(drawn[:, 3]) == {1, 3, 30, 100}


def test_with_many_classes_fewer_examples_of_each_judge(monkeypatch):
    train = Examples(np.zeros((200, 1), np.float32), np.repeat(np.arange(20, dtype=np.int32), 10))
    every = make_cut(jax.random.key(0), train).held
    monkeypatch.setattr("mmn_jax.methods.subsampling.LOGITS", 20 * 30)
    some = make_cut(jax.random.key(0), train).held
    assert len(some.y) == 30 < len(every.y)
    counts, before = np.bincount(some.y, minlength=20), np.bincount(every.y, minlength=20)
    assert (counts <= before).all() and (counts >= np.minimum(before, 1)).all() and counts.max() <= 2
