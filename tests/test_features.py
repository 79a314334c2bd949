"""Own features: what is read, and one line for each way a file can be wrong."""

import zipfile

import numpy as np
import pytest

from mmn_jax.data.feature_files import fingerprint, load
from mmn_jax.errors import BadInput


def good():
    rng = np.random.default_rng(0)
    return {
        "train_x": rng.normal(size=(12, 4)).astype(np.float16),
        "train_y": np.repeat([0, 1, 2], 4),
        "test_x": rng.normal(size=(6, 4)).astype(np.float32),
        "test_y": np.repeat([0, 1, 2], 2),
        "class_names": np.array(["a", "b", "c"]),
    }


def save(tmp_path, arrays):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return path


def test_a_good_file_is_read_as_it_is(tmp_path):
    arrays = good()
    features = load(save(tmp_path, arrays))
    np.testing.assert_array_equal(features.train.x, arrays["train_x"].astype(np.float32))
    np.testing.assert_array_equal(features.test.y, arrays["test_y"])
    assert features.val is None and features.class_names == ("a", "b", "c") and features.name == "mine"


def test_names_are_optional_and_validation_is_used_where_given(tmp_path):
    arrays = good() | {"val_x": good()["test_x"], "val_y": good()["test_y"]}
    del arrays["class_names"]
    features = load(save(tmp_path, arrays))
    assert features.class_names == ("0", "1", "2") and len(features.val.y) == 6


def at(array, index, value):
    array = np.array(array, dtype=np.float32 if isinstance(value, float) else None)
    array[index] = value
    return array


BAD = {
    "train_x missing": (lambda a: a.pop("train_x"), "train_x is missing"),
    "test_y missing": (lambda a: a.pop("test_y"), "test_y is missing"),
    "val_y without val_x": (lambda a: a.update(val_y=a["test_y"]), "val_x is missing"),
    "x of rank 3": (lambda a: a.update(train_x=np.zeros((12, 2, 2))), r"train_x must be \[n, d\]"),
    "y of rank 2": (lambda a: a.update(test_y=np.zeros((6, 1), int)), r"test_y must be \[n\] integers or names, it is int64 \[6, 1\]"),
    "lengths differ": (lambda a: a.update(train_y=a["train_y"][:-1]), "train_x has 12 rows, train_y 11"),
    "dims differ": (lambda a: a.update(test_x=np.zeros((6, 5))), "train_x has 4 dimensions, test_x 5"),
    "empty": (lambda a: a.update(test_x=np.zeros((0, 4)), test_y=np.zeros(0, int)), "test_x is empty"),
    "no dimensions": (lambda a: a.update(train_x=np.zeros((12, 0))), "train_x is empty"),
    "NaN": (lambda a: a.update(train_x=at(a["train_x"], (3, 1), np.nan)), "NaN, infinite .* in row 3"),
    "infinite": (lambda a: a.update(test_x=at(a["test_x"], (5, 0), np.inf)), "test_x has a value .* in row 5"),
    "beyond float32": (lambda a: a.update(train_x=np.full((12, 4), 1e300)), "beyond float32 in row 0"),
    "negative label": (lambda a: a.update(train_y=at(a["train_y"], 2, -1)), "negative label -1 in row 2"),
    "float labels": (lambda a: a.update(train_y=a["train_y"] + 0.5), r"train_y must be \[n\] integers"),
    "string labels": (lambda a: a.update(train_y=a["train_y"].astype(str)), "train_y has the name '0', which class_names doesn't have"),
    "text features": (lambda a: a.update(train_x=a["train_x"].astype(str)), r"train_x must be \[n, d\] numbers"),
    "label beyond names": (lambda a: a.update(test_y=at(a["test_y"], 0, 3)), "test_y has label 3, but there are 3 classes"),
    "class without training examples": (lambda a: a.update(train_y=np.minimum(a["train_y"], 1)), r"class 2 \(c\) has no example"),
    "label beyond any index": (lambda a: a.update(test_y=at(a["test_y"], 1, 2**40)), "test_y has label 1099511627776 in row 1"),
    "one class": (lambda a: a.update(train_y=a["train_y"] * 0, test_y=a["test_y"] * 0, class_names=np.array(["a"])), "only one class"),
    "names of rank 2": (lambda a: a.update(class_names=np.array([["a"]])), r"class_names must be \[C\]"),
    "pickled": (lambda a: a.update(train_x=np.array([{}] * 12, dtype=object)), "Python objects, which are never loaded"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_give_one_line_with_the_file_and_the_array(tmp_path, case):
    spoil, message = BAD[case]
    arrays = good()
    spoil(arrays)
    path = save(tmp_path, arrays)
    with pytest.raises(BadInput, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        load(tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("not a zip")
    with pytest.raises(BadInput, match="not an npz file"):
        load(text)
    whole = save(tmp_path, good())
    content = bytearray(whole.read_bytes())
    content[60:120] = bytes(60)
    whole.write_bytes(content)
    with pytest.raises(BadInput, match=str(whole)):
        load(whole)


def test_a_damaged_compressed_file_is_refused(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **good())
    content = bytearray(path.read_bytes())
    content[100:160] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        load(path)


def test_a_zip_of_something_else_is_refused(tmp_path):
    path = save(tmp_path, good())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(BadInput, match=r"notes.txt is not an array"):
        load(path)


def test_names_in_bytes_are_text(tmp_path):
    assert load(save(tmp_path, good() | {"class_names": np.array([b"a", b"b", b"c"])})).class_names == ("a", "b", "c")


def test_the_fingerprint_sees_every_value(tmp_path):
    arrays = good()
    first = fingerprint(load(save(tmp_path, arrays)))
    assert fingerprint(load(save(tmp_path, arrays))) == first
    arrays["test_x"][5, 3] += 1
    assert fingerprint(load(save(tmp_path, arrays))) != first


def test_a_column_that_float32_cannot_tell_apart_is_said(tmp_path):
    arrays = good()
    arrays["train_x"] = arrays["train_x"] + np.array([0, 1.6e9, 0, 0])
    with pytest.warns(UserWarning, match=r"mine\.npz: train_x: column 1 lies around 1\.6e\+09 and varies by "):
        load(save(tmp_path, arrays))
    arrays["train_x"][:, 1] = 1.6e9 + 1e6 * good()["train_x"][:, 1].astype(float)
    arrays["train_x"][:, 2] = 0.1  # a constant differs from its mean by rounding
    assert load(save(tmp_path, arrays)).train.x[:, 1].std() > 1e5
