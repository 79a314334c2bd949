"""Whatever comes in: a result that holds together, or BadInput in one line; never another exception.

FUZZ_EXAMPLES=2000 python -m pytest tests/test_fuzz.py tries more than the few of every day.
"""

import io
import math
import os

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmn_jax import config
from mmn_jax.cli import predict
from mmn_jax.data import feature_files, longtail
from mmn_jax.errors import BadInput
from mmn_jax.estimator import TailClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what comes in is doubtful as often as not
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
FUZZ = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
NUMBERS = st.one_of(arrays_of.integer_dtypes(), arrays_of.floating_dtypes(), arrays_of.unsigned_integer_dtypes())
DTYPES = st.one_of(NUMBERS, arrays_of.scalar_dtypes())
SIZES = st.integers(0, 6)


@st.composite
def features(draw):
    """x [n, d] and y [n], mostly of the right shape and type."""
    n, d = draw(SIZES), draw(SIZES)
    good = draw(st.integers(0, 9)) > 0
    shape = (n, d) if good else tuple(draw(st.lists(SIZES, max_size=3)))
    x = draw(arrays_of.arrays(draw(NUMBERS if good else DTYPES), shape))
    if draw(st.booleans()) and x.dtype.kind == "f":
        x = np.nan_to_num(x, nan=0.5, posinf=3.0, neginf=-2.0)
    labels = st.integers(0, 3) if draw(st.integers(0, 3)) else st.integers(-2, 2**33)
    y = np.array(draw(st.lists(labels, min_size=n, max_size=n)), int)
    y = y if good else y.astype(draw(st.sampled_from(["i1", "u8", "f4", "U3"])))
    return x, y


def one_line(error):
    return str(error) and "\n" not in str(error)


@FUZZ
@given(features(), features(), st.none() | features(), st.none() | st.lists(st.text(max_size=3), max_size=5))
def test_arrays_are_a_feature_set_or_refused(train, test, val, names):
    try:
        made = feature_files.from_arrays(*train, *test, *(val or (None, None)), names and np.array(names, str))
    except BadInput as error:
        assert one_line(error)
        return
    classes = len(made.class_names)
    for part in (made.train, made.test, made.val):
        if part is not None:
            assert part.x.dtype == np.float32 and np.isfinite(part.x).all() and len(part.x) == len(part.y) > 0
            assert part.x.shape[1] == made.train.x.shape[1] and 0 <= part.y.min() <= part.y.max() < classes
    assert (np.bincount(made.train.y, minlength=classes) > 0).all()


def content(save, *arrays):
    stream = io.BytesIO()
    save(stream, *arrays)
    return stream.getvalue()


X = np.arange(12, dtype=float).reshape(6, 2)
ARRAYS = {"train_x": X, "train_y": np.arange(6) % 2, "test_x": X, "test_y": np.arange(6) % 2}
WHOLE = {
    "npz": content(lambda stream: np.savez(stream, **ARRAYS)),
    "compressed.npz": content(lambda stream: np.savez_compressed(stream, **ARRAYS)),
    "npy": content(np.save, X),
}


@st.composite
def damaged(draw, whole):
    """The content with some bytes changed, cut off or put in; its headers come up more often than its values."""
    changed = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(changed)) | st.integers(0, min(140, len(changed))))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            changed[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 1:
            changed[at:at] = draw(st.binary(max_size=9))
        elif kind == 2:
            del changed[at : at + draw(st.integers(1, 40))]
        else:
            changed[at : at + 1] = bytes([changed[at] ^ 1 << draw(st.integers(0, 7))]) if at < len(changed) else b""
    return bytes(changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rewritten for every example."""
    path = tmp_path_factory.mktemp("fuzz")
    model = {"W": np.eye(3, 2), "b": np.zeros(3), "class_names": np.array(list("abc")), "mean": np.zeros(2), "scale": np.ones(2)}
    np.savez(path / "classifier.npz", temperature=np.float32(1), **model)
    return path


@pytest.mark.parametrize("kind", ["npz", "compressed.npz"])
@FUZZ
@given(data=st.data())
def test_a_damaged_file_of_features_is_read_or_refused(folder, kind, data):
    path = folder / f"features.{kind}"
    path.write_bytes(data.draw(damaged(WHOLE[kind])))
    try:
        made = feature_files.load(path)
    except BadInput as error:
        assert one_line(error) and str(path) in str(error)
        return
    assert np.isfinite(made.train.x).all()


@pytest.mark.parametrize("kind", WHOLE)
@FUZZ
@given(data=st.data())
def test_predictions_of_a_damaged_file_are_made_or_refused(folder, kind, data):
    path = folder / f"x.{kind}"
    path.write_bytes(data.draw(damaged(WHOLE[kind])))
    code = predict.main([f"--model={folder}", f"--features={path}", f"--out={folder / 'out.csv'}"])
    assert code in (0, 2)
    if code == 0:
        lines = (folder / "out.csv").read_text().splitlines()[1:]
        assert all(0 <= float(line.split(",")[2]) <= 1 for line in lines)


VALUES = st.one_of(
    st.integers(), st.floats(), st.text(max_size=5), st.booleans(), st.none(), st.lists(st.integers() | st.floats(), max_size=3).map(tuple)
)


@FUZZ
@given(st.data())
def test_settings_are_checked_or_refused(data):
    settings_ = config.default()
    keys = [setting.key for setting in config.SETTINGS]
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3)):
        *path, last = key.split(".")
        inside = settings_
        for part in path:
            inside = inside[part]
        with inside.unlocked(), inside.ignore_type():
            inside[last] = data.draw(VALUES)
    try:
        config.check(settings_)
    except BadInput as error:
        assert one_line(error) and str(error).startswith("--config")
        return
    assert 0 < settings_.meta.held_out <= 0.5 and all(math.isfinite(l2) and l2 > 0 for l2 in settings_.heads.l2)


@FUZZ
@given(
    st.lists(st.integers(0, 3), min_size=12, max_size=12).filter(lambda y: len(set(y)) > 1),
    st.none() | st.floats(),
    st.none() | st.integers(-3, 2**40),
    st.none() | st.integers(-3, 9),
    st.sampled_from(list(longtail.PROFILES)),
    st.integers(0, 2**31 - 1),
)
def test_a_long_tail_is_cut_or_refused(labels, imbalance, largest, held, profile, seed):
    _, y, counts = np.unique(labels, return_inverse=True, return_counts=True)
    made = feature_files.from_arrays(np.zeros((len(y), 1)), y, np.zeros((1, 1)), np.zeros(1, int))
    try:
        part = longtail.long_tail_split(made, seed, imbalance, largest, held, longtail.PROFILES[profile])
    except BadInput as error:
        assert one_line(error)
        return
    kept = np.bincount(y[part == longtail.TRAIN], minlength=len(counts))
    assert (kept >= 1).all() and (kept <= counts).all()


@pytest.mark.filterwarnings("ignore:.* rows of X have the features of another row")
@settings(FUZZ, max_examples=max(EXAMPLES // 4, 1))
@given(st.data())
def test_a_classifier_is_fitted_or_refused(data):
    n, d = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    scale = data.draw(st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]))
    elements = st.floats(-4, 4, width=16) | st.sampled_from([0.0, 1.0, np.nan, np.inf] if data.draw(st.booleans()) else [0.0, 1.0])
    x = data.draw(arrays_of.arrays(float, (n, d), elements=elements)) * scale
    y = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    method = data.draw(st.sampled_from(["plain", "ncm", "lda", "ridge", "knn", "logit_adjustment"]))
    try:
        model = TailClassifier(method, l2=(1e-2, 1e-9), budget=2, folds=2, random_state=0).fit(x, y)
    except ValueError as error:  # scikit-learn's own checks of arrays speak for themselves
        assert isinstance(error, BadInput) or not (np.isfinite(x).all() and n > 1)
        return
    probability = model.predict_proba(x)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-6)
    assert set(model.predict(x)) <= set(y.tolist())
