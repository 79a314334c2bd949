"""Common units: neither the unit nor the offset of a column moves a result; a network's features keep the scales that they have."""

import numpy as np
import pytest
from conftest import blobs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmn_jax.data import glyphs
from mmn_jax.data.normalisation import normalisation
from mmn_jax.errors import BadInput
from mmn_jax.estimator import TailClassifier
from mmn_jax.methods.catalogue import every_method
from mmn_jax.types import Examples

COUNTS = np.array([40, 25, 15, 8, 4])
DIM = 6
X, Y = blobs(1, COUNTS + 300, DIM, spread=0.8)
FIRST = np.concatenate([np.flatnonzero(c == Y)[:n] for c, n in enumerate(COUNTS)])
UNIT = X / X[FIRST].std(0)
REST = np.setdiff1d(np.arange(len(Y)), FIRST)
METHODS = {name: method for name, method in every_method((1e-2, 1e-4)).items() if not method.same_space}  # descriptions have units, too


def test_features_in_one_unit_are_centred_at_unit_mean_square_norm():
    raw = Examples(1e4 + 37.0 * X.astype(np.float32), Y)
    found = normalisation(raw)
    x = found(raw.x)
    assert not found.by_column
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    assert (x.astype(float) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-4)


def test_a_single_point_cannot_be_normalised():
    with pytest.raises(BadInput, match="same point"):
        normalisation(Examples(np.ones((5, 3), np.float32), np.arange(5)))


def test_the_features_of_a_network_and_their_principal_components_keep_their_scales():
    train = glyphs.load().train
    some = train.at(np.arange(len(train.y)) % 20 == 0)
    assert not normalisation(some).by_column
    few = some.at(np.arange(60))
    centred = few.x.astype(np.float32) - few.x.mean(0, dtype=np.float32)
    components = centred @ np.linalg.svd(centred)[2].T  # more of them than there are examples: the rest is rounding
    assert components.std(0).min() < 1e-5 * components.std(0).max() and not normalisation(Examples(components, few.y)).by_column


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM), st.lists(st.floats(-3, 3), min_size=DIM, max_size=DIM))
def test_units_and_offsets_leave_the_same_features(powers, offsets):
    assume(len(set(powers)) > 1)
    moved = (UNIT.astype(float) + np.array(offsets)) * 100.0 ** np.array(powers)
    found = normalisation(Examples(moved[FIRST], Y[FIRST]))
    assert found.by_column
    np.testing.assert_allclose(found(moved), normalisation(Examples(UNIT[FIRST], Y[FIRST]))(UNIT), atol=1e-5)


def accuracy(name, x):
    known = {
        "descriptions": {"class_embeddings": np.random.default_rng(0).normal(size=(len(COUNTS), 3))},
        "unlabelled": {"X_unlabelled": x[REST[::4]]},
    }
    given = {argument: value for need in METHODS[name].needs for argument, value in known[need].items()}
    model = TailClassifier(name, l2=(1e-2, 1e-4), budget=4, random_state=0).fit(x[FIRST], Y[FIRST], **given)
    found = model.predict(x[REST])
    return 100 * np.mean([(found[Y[REST] == c] == c).mean() for c in range(len(COUNTS))])


QUICK = ("plain", "logit_adjustment", "ncm", "lda", "knn", "mmn")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS])
def test_no_method_depends_on_the_units_of_columns(name):
    powers, offsets, plain = np.array([6, 0, -6, 3, -3, 1]), np.array([5, -3, 100, 0, 1, 2]), accuracy(name, UNIT)
    assert plain > 55
    assert accuracy(name, (UNIT.astype(float) + offsets) * 10.0**powers) == pytest.approx(plain, abs=1.0)


def test_a_large_column_that_tells_nothing_rules_no_method():
    noise = np.random.default_rng(3).normal(size=(len(Y), 1))
    for name in ("mmn", "logit_adjustment"):
        beside = accuracy(name, np.hstack([UNIT, noise]))
        for size in (1e4, 1e6, 1e8):
            assert accuracy(name, np.hstack([UNIT, size * noise])) == pytest.approx(beside, abs=1.0)


def test_a_column_far_from_0_keeps_what_it_tells():
    far = UNIT + np.array([1e9, 0, 0, 0, 0, 0])
    assert accuracy("plain", far) == pytest.approx(accuracy("plain", UNIT), abs=1.0)


@pytest.mark.parametrize("factor", [1e-9, 1e-6])
def test_the_columns_that_tell_are_found_in_small_units(factor):
    noise = np.random.default_rng(5).normal(size=(len(Y), 2))
    beside = accuracy("plain", np.hstack([UNIT, noise]))
    assert accuracy("plain", np.hstack([factor * UNIT.astype(float), noise])) == pytest.approx(beside, abs=1.5)


def test_a_float32_column_far_from_0_rules_no_other():
    rng = np.random.default_rng(6)
    far = (1.6e9 + 200 * rng.normal(size=(len(Y), 1))).astype(np.float32)
    found = normalisation(Examples(np.hstack([UNIT, far])[FIRST].astype(np.float32), Y[FIRST]))
    spread = found(np.hstack([UNIT, far])[FIRST].astype(np.float32)).std(0)
    assert spread.max() < 2 * spread.min()


def test_columns_that_hardly_vary_are_an_answer_and_no_traceback():
    x = np.full((20, 2), 1e6, np.float32)
    x[3:9, 0] += 0.0625
    assert np.isfinite(normalisation(Examples(x, np.arange(20) % 2))(x)).all()


def test_integers_are_centred_before_they_are_rounded():
    whole = np.rint(100 * UNIT).astype(np.int64)
    assert accuracy("plain", whole + 1_600_000_000) == pytest.approx(accuracy("plain", whole), abs=1.0)
