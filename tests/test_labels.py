"""What labels mean where those of several parts, files and arguments meet: they go by their names, or are refused in one line."""

import itertools
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_sources import class_label, said

from mmn_jax.data.feature_files import from_arrays, load, load_training
from mmn_jax.data.labels import told_apart

pytestmark = pytest.mark.filterwarnings("ignore:.* rows of t:UserWarning")  # small sets repeat their rows
ANIMALS = ["ant", "bee", "cat"]
SHORT, LONG = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def write(root, file, labels, names=None, kind=None):
    """A Parquet file whose features say the class of each row: its place in `names`, or its integer."""
    x = [[float(i), 1.0] for i in range(len(labels))]
    made = pa.table({"features": x, "label": pa.array(labels, kind)})
    (root / file).parent.mkdir(exist_ok=True)
    pq.write_table(made.replace_schema_metadata(class_label(*names) if names else None), root / file)


def classes(features):
    """The names of the labels of each part."""
    return [[features.class_names[c] for c in part.y] for part in (features.train, features.test)]


def test_parts_with_other_lists_of_names_go_by_the_names(tmp_path):
    write(tmp_path, "train.parquet", [0, 1, 2], ANIMALS)
    write(tmp_path, "test.parquet", [0, 1], ["bee", "cat"])
    assert classes(load(tmp_path)) == [ANIMALS, ["bee", "cat"]]


def test_shards_of_one_part_go_by_their_own_names(tmp_path):
    write(tmp_path, "train-00000-of-00003.parquet", [1, 0], ["bee", "ant"])
    write(tmp_path, "train-00001-of-00003.parquet", [0, 1], ["cat", "bee"])
    write(tmp_path, "train-00002-of-00003.parquet", ["dog", "ant"])
    write(tmp_path, "test.parquet", pa.array(["cat", "dog"]).dictionary_encode())
    found = load(tmp_path)
    assert classes(found) == [["ant", "bee", "cat", "bee", "dog", "ant"], ["cat", "dog"]]
    assert found.class_names == ("bee", "ant", "cat", "dog")


TWELVE = list(range(12))


@pytest.mark.parametrize(
    ("train", "test"), list(itertools.product([TWELVE, list(map(str, TWELVE)), (TWELVE, list(map(str, TWELVE)))], repeat=2))
)
def test_numbers_are_the_same_as_text_and_as_integers(tmp_path, train, test):
    for part, labels in (("train", train), ("test", test)):
        write(tmp_path, f"{part}.parquet", *(labels if isinstance(labels, tuple) else (labels,)))
    assert classes(load(tmp_path)) == [list(map(str, TWELVE))] * 2


@pytest.mark.parametrize("train", [TWELVE, list(map(str, TWELVE))], ids=["integers", "text"])
def test_arrays_may_have_names_for_labels(tmp_path, train):
    x = np.eye(12)
    np.savez(tmp_path / "a.npz", train_x=x, train_y=train, test_x=x, test_y=list(map(str, TWELVE)))
    assert classes(load(tmp_path / "a.npz")) == [list(map(str, TWELVE))] * 2
    assert sorted(load_training(tmp_path / "a.npz").y.tolist()) == TWELVE


def test_labels_that_are_names_go_by_class_names_where_they_are_given():
    found = from_arrays(np.eye(3), np.array(ANIMALS), np.eye(3)[:2] + 5, np.array([0, 1]), class_names=("cat", "bee", "ant"))
    assert classes(found) == [ANIMALS, ["cat", "bee"]]
    found = from_arrays(np.eye(3), np.array(ANIMALS, object), np.eye(3) + 5, np.array(ANIMALS, "S"))
    assert classes(found) == [ANIMALS, ANIMALS] and found.class_names == tuple(ANIMALS)


def test_numbers_as_names_in_another_order_are_ambiguous():
    x, numbers = np.eye(3), np.array([0, 1, 2])
    message = (
        "arrays: train_y has integers, which are places in class_names (2, 1, 0), test_y the same as text;"
        " they can't be matched, write all labels in one type"
    )
    assert said(lambda: from_arrays(x, numbers, x + 5, numbers.astype(str), class_names=("2", "1", "0"))) == message
    found = from_arrays(x, numbers.astype(str), x + 5, numbers.astype(str), class_names=("2", "1", "0"))
    assert found.train.y.tolist() == found.test.y.tolist() == [2, 1, 0]


def test_names_that_differ_by_unicode_alone_are_the_same(tmp_path):
    assert SHORT != LONG
    write(tmp_path, "train.parquet", [LONG, "tea", SHORT])
    write(tmp_path, "test.parquet", [1, 0], ["tea", LONG])
    found = load(tmp_path)
    assert found.class_names == (SHORT, "tea") and found.train.y.tolist() == [0, 1, 0] and found.test.y.tolist() == [0, 1]
    found = from_arrays(np.eye(3), np.array([LONG, "tea", SHORT]), np.eye(2, 3) + 5, np.array([SHORT, "tea"]))
    assert found.train.y.tolist() == [0, 1, 0] and found.test.y.tolist() == [0, 1]


REFUSED = {
    "a test part without names": (
        ([0, 1, 2], ANIMALS),
        ([0, 1],),
        "{}: column label of test (test.parquet) has integers without names, column label of train (train.parquet) names (ant, bee, cat); "
        "they can't be matched, write names in both",
    ),
    "a training part without names": (
        ([0, 1, 2],),
        (["bee", "cat"],),
        "{}: column label of test (test.parquet) has names (bee, cat), column label of train (train.parquet) integers without names; "
        "they can't be matched, write names in both",
    ),
    "a list whose names are other numbers": (
        ([0, 1, 2], ["1", "2", "3"]),
        ([1, 2],),
        "{}: column label of test (test.parquet) has integers without names, column label of train (train.parquet) names (1, 2, 3); "
        "they can't be matched, write names in both",
    ),
    "a class that train has not": (
        ([0, 1, 2], ANIMALS),
        ([1, 0], ["dog", "cat"]),
        "{}: column label of test (test.parquet) has the name 'dog', which train doesn't have",
    ),
    "a label without a name": (
        ([0, 1, 2], ANIMALS),
        ([0, 3], ANIMALS),
        "{}: column label of test (test.parquet) has label 3 in row 1, but names for 0 to 2 (ant, bee, cat)",
    ),
    "two classes of one name": (
        ([0, 1, 2], ["crane", "crane", "bee"]),
        (["bee", "crane"],),
        "{}: column label of test (test.parquet) has the name 'crane', which two classes have; "
        "give labels as integers, or each class its own",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_cannot_be_matched_are_refused_by_both_names(tmp_path, case):
    train, test, message = REFUSED[case]
    write(tmp_path, "train.parquet", *train)
    write(tmp_path, "test.parquet", *test)
    assert said(lambda: load(tmp_path)) == message.format(tmp_path)


def test_classes_of_one_name_are_told_apart(tmp_path):
    lines = []
    assert told_apart(("crane", "bee", "crane"), "x", lines.append) == ("crane (class 0)", "bee", "crane (class 2)")
    assert lines == ["x: classes 0, 2 have one name, 'crane'; they are called 'crane (class 0)', .."]
    assert len(set(told_apart(("a", "a", "a (class 0)", "a (class 1)"), "x", lines.append))) == 4
    for part in ("train", "test"):
        write(tmp_path, f"{part}.parquet", [0, 1, 2], ["crane", SHORT, "crane"])
    assert load(tmp_path, say=lines.append).class_names == ("crane (class 0)", SHORT, "crane (class 2)")
    with_both = from_arrays(np.eye(2), [0, 1], np.eye(2) + 5, [0, 1], class_names=(SHORT, LONG), say=lines.append)
    assert with_both.class_names == (f"{SHORT} (class 0)", f"{SHORT} (class 1)") and len(lines) == 5
