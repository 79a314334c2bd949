"""The parts of a data set in every spelling, wherever they are named; what lies beside them is said, what is ambiguous refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_sources import arrays, class_label, fill, red, said, table, write_lists

from mmn_jax.data import feature_files, parquet, parquet_files, parts
from mmn_jax.vision import folders, lists
from mmn_jax.vision.arrays import image_file

PARTS = ("train", "val", "test")
EITHER = " there, and either could be {}; keep one of them"
SPELLED = [("train", "Val", "test"), ("Training", "valid", "testing"), ("TRAIN", "Validation", "TEST"), ("train", "dev", "Test")]


def test_every_usual_spelling_is_known():
    for part, spellings in parts.SPELLINGS.items():
        for spelling in spellings:
            assert parts.part_of(spelling) == parts.part_of(spelling.upper()) == parts.part_of(spelling.title()) == part
    assert parts.part_of("bus") is parts.part_of("trains") is None


def said_by(load, *given, **more):
    lines = []
    return load(*given, **more, say=lines.append), lines


# image folders


@pytest.mark.parametrize("names", SPELLED)
def test_image_folders_of_any_spelling(tmp_path, names):
    for name, count in zip(names, (3, 2, 1), strict=True):
        fill(tmp_path / name, {"ant": count, "bee": count})
    found, lines = said_by(folders.image_folder, tmp_path)
    assert [len(part.y) for part in found[1:4]] == [6, 4, 2] and lines == []


def test_a_class_called_train_is_a_class(tmp_path):
    fill(tmp_path, {"bus": 4, "car": 4, "test": 4, "train": 4})
    found, lines = said_by(folders.image_folder, tmp_path, test_share=0.25)
    assert found.class_names == ("bus", "car", "test", "train") and len(found.train.y) == 12
    assert (red(found.train) == found.train.y).all()
    assert lines == [f"{tmp_path}: taken for classes, as they hold images and no class folders: test, train"]


def test_a_class_called_train_in_a_part_is_a_class(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part, {"bus": 2, "train": 2})
    assert folders.image_folder(tmp_path).class_names == ("bus", "train")


def test_what_lies_beside_the_parts_is_said(tmp_path):
    for part in ("train", "test", "extra"):
        fill(tmp_path / part, {"bus": 2, "car": 2})
    for name in ("notes.txt", ".DS_Store", "train/labels.csv", "train/bus/._0.jpg", "train/car/Thumbs.db"):
        (tmp_path / name).write_text("?")
    fill(tmp_path / "__MACOSX", {"bus": 1})
    found, lines = said_by(folders.image_folder, tmp_path, test_share=0.2)
    assert [len(part.y) for part in (found.train, found.test)] == [4, 4]
    assert lines == [
        f"{tmp_path}: not used beside its parts: extra, notes.txt",
        f"{tmp_path / 'train'}: not used, as not in a class folder: labels.csv",
        f"--config.data.test_share: not used, as {tmp_path / 'test'} holds the test images",
    ]


BAD_FOLDERS = {
    "two spellings": (
        ("train", "val", "valid", "test"),
        "{}: val and valid are both" + EITHER.format("val"),
    ),
    "two cases": (("Train", "train", "test"), "{}: Train and train are both" + EITHER.format("train")),
    "no train": (("valid", "test"), "{0}: has test, but no train folder with class folders; images lie in {0}/train/CLASS"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_folders_that_are_ambiguous_are_refused(tmp_path, case):
    names, message = BAD_FOLDERS[case]
    for name in names:
        fill(tmp_path / name, {"ant": 2, "bee": 2})
    assert said(lambda: folders.image_folder(tmp_path)) == message.format(tmp_path)


def test_parts_without_classes_are_refused(tmp_path):
    fill(tmp_path, {"test": 2, "train": 2})
    message = f"{tmp_path}: test and train hold no class folders; images lie in {tmp_path}/train/CLASS/IMAGE.jpg"
    assert said(lambda: folders.image_folder(tmp_path, test_share=0.5)) == message


def test_a_test_folder_without_classes_is_refused(tmp_path):
    fill(tmp_path / "train", {"ant": 2, "bee": 2})
    fill(tmp_path, {"test": 2})
    message = f"{tmp_path}/test: no class folders in it; images lie in {tmp_path}/test/CLASS/IMAGE.jpg"
    assert said(lambda: folders.image_folder(tmp_path, test_share=0.5)) == message


def test_class_folders_go_by_their_names_in_any_unicode_form(tmp_path):
    fill(tmp_path / "train", {"cafe\u0301": 1, "caf\u00e9": 1, "tea": 2}, start=0)
    fill(tmp_path / "test", {"cafe\u0301": 1, "tea": 1})
    found, lines = said_by(folders.image_folder, tmp_path)
    assert found.class_names == ("caf\u00e9", "tea") and found.train.y.tolist() == [0, 0, 1, 1] and found.test.y.tolist() == [0, 1]
    assert lines == [f"{tmp_path}/train: 3 folders are 2 classes, as some names differ only in how Unicode encodes them"]


# lists


def test_a_validation_list_beside_is_said(tmp_path):
    given = write_lists(tmp_path, lines={"dev.txt": ["ant/2.jpg 0"]})
    (tmp_path / "._val.txt").write_text("?")
    assert said_by(lists.list_files, *given)[1] == [
        f"{tmp_path}/dev.txt: not used; to validate on it, give --config.data.lists.val={tmp_path}/dev.txt"
    ]
    assert said_by(lists.list_files, given[0], given[1], tmp_path / "dev.txt", given[3])[1] == []


def test_labels_mean_the_same_in_all_lists(tmp_path):
    given = write_lists(tmp_path, lines={"test.txt": ["bee fly/1.jpg 0", "ant/2.jpg 1"]})
    message = f"{tmp_path}/test.txt: images in ant have label 1, but 0 in {tmp_path}/train.txt; labels must mean the same in all lists"
    assert said(lambda: lists.list_files(*given)) == message


# Parquet


def with_split(names):
    tables = [table(part).append_column("split", pa.array([name] * len(table(part)))) for part, name in zip(PARTS, names, strict=True)]
    return pa.concat_tables(tables)


def check_parquet(path):
    found, lines = said_by(feature_files.load, path)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(found, part).x, arrays()[f"{part}_x"])
        np.testing.assert_array_equal(getattr(found, part).y, arrays()[f"{part}_y"])
    return lines


@pytest.mark.parametrize("names", SPELLED)
@pytest.mark.parametrize("rows", [1, 5, 1024])
def test_parquet_of_any_spelling_in_batches_of_any_size(tmp_path, monkeypatch, names, rows):
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", rows)
    pq.write_table(with_split(names), tmp_path / "one.parquet", row_group_size=4)
    assert check_parquet(tmp_path / "one.parquet") == []
    for part, name in zip(PARTS, names, strict=True):
        for layout, file in (
            ("files", f"{name}.parquet"),
            ("shards", f"mine_{name}-00000-of-00001.PARQUET"),
            ("folders", f"{name}/0000.parquet"),
        ):
            (tmp_path / layout / file).parent.mkdir(exist_ok=True, parents=True)
            pq.write_table(table(part), tmp_path / layout / file)
    for layout in ("files", "shards", "folders"):
        for name in ("._train.parquet", ".DS_Store", f"{names[0]}/._0000.parquet"):
            if (tmp_path / layout / name).parent.is_dir():
                (tmp_path / layout / name).write_text("?")
        assert check_parquet(tmp_path / layout) == []


def test_rows_of_all_parts_may_be_mixed_in_a_batch(tmp_path, monkeypatch):
    whole = with_split(("train", "dev", "test"))
    pq.write_table(whole.take(np.argsort(np.arange(19) % 3, kind="stable")), tmp_path / "a.parquet")
    for rows in (2, 7, 1024):
        monkeypatch.setattr(parquet_files, "BATCH_ROWS", rows)
        found = feature_files.load(tmp_path / "a.parquet")
        for part in PARTS:
            wanted = np.argsort(arrays()[f"{part}_x"][:, 0])
            order = np.argsort(getattr(found, part).x[:, 0])
            np.testing.assert_array_equal(getattr(found, part).x[order], arrays()[f"{part}_x"][wanted])
            np.testing.assert_array_equal(getattr(found, part).y[order], arrays()[f"{part}_y"][wanted])


def test_rows_are_counted_over_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 4)
    x, y = [[1.0, 2.0]] * 12, [0, 1] * 6
    for bad, message in (
        (None, "column features of train has no value in row 9"),
        ([1.0], "column features of train has lists of different lengths: 2 in row 0, 1 in row 9"),
        ([1.0, None], "column features of train has a list with an empty value in row 9"),
    ):
        pq.write_table(pa.table({"features": [*x[:9], bad, *x[10:]], "label": y}), tmp_path / "train.parquet")
        assert said(lambda: feature_files.load(tmp_path)) == f"{tmp_path}: {message}"


@pytest.mark.parametrize("group", [1000, 20_000])
def test_memory_holds_batches_and_not_the_file(tmp_path, monkeypatch, group):
    x = np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float32)
    pq.write_table(pa.table({"features": list(x), "label": np.arange(20_000) % 3}), tmp_path / "train.parquet", row_group_size=group)
    held, add, before = [], parquet._PartRows.add, pa.total_allocated_bytes()
    monkeypatch.setattr(parquet._PartRows, "add", lambda *given: add(*given) or held.append(pa.total_allocated_bytes() - before))
    monkeypatch.setattr(parquet_files, "BUFFER", 2**18)
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 128)
    np.testing.assert_array_equal(parquet.read_parquet(tmp_path)["train_x"], x)
    assert len(held) >= 150 and max(held) < x.nbytes / 4


def test_memory_that_arrow_lacks_is_one_line(tmp_path, monkeypatch):
    pq.write_table(with_split(SPELLED[0]), tmp_path / "a.parquet")

    def full(*_, **__):
        raise pa.ArrowMemoryError("malloc of size 99 failed")

    monkeypatch.setattr(parquet_files, "batches", full)
    told = f"{tmp_path / 'a.parquet'}: doesn't fit into memory; write it with smaller row groups, or fewer rows"
    assert said(lambda: feature_files.load(tmp_path / "a.parquet")) == told


def test_features_beyond_memory_are_one_line(tmp_path, monkeypatch):

    pq.write_table(with_split(SPELLED[0]), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "host_memory", lambda: 200)
    told = "19 rows of 3 float32 features take 0.0 GB, there are 0.0 GB of memory; give fewer rows, or fewer dimensions"
    assert said(lambda: feature_files.load(tmp_path / "a.parquet")) == f"{tmp_path / 'a.parquet'}: {told}"


def shards(*names):
    def write(root):
        for name in names:
            (root / name).parent.mkdir(exist_ok=True)
            pq.write_table(table("train", metadata=class_label("a", "b", "c")), root / name)
        return root

    return write


def split_column(*names):
    def write(root):
        pq.write_table(with_split(names), root / "a.parquet")
        return root / "a.parquet"

    return write


def both_kinds(root):
    np.save(root / "train_x.npy", np.eye(2))
    return shards("train.parquet")(root)


BAD_PARQUET = {
    "two spellings": (
        shards("train.parquet", "val.parquet", "dev.parquet"),
        "{}: dev and val are both" + EITHER.format("val"),
    ),
    "a folder beside a file": (
        shards("train.parquet", "train/0000.parquet"),
        "{}: train/ and train are both" + EITHER.format("train"),
    ),
    "two parts in a name": (
        shards("train-test.parquet"),
        "{}/train-test.parquet: its name says train and test; it must say one of train, validation and test",
    ),
    "a shard that is missing": (
        shards("train-00000-of-00003.parquet", "train-00002-of-00003.parquet"),
        "{}/train-00001-of-00003.parquet: is missing, but other shards of it are there",
    ),
    "two exports": (
        shards("train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
        "{}: train is there in 1 shards and in 2 shards; keep one export",
    ),
    "both kinds": (both_kinds, "{}: holds both Parquet and npy files, either of which could be meant; keep one kind"),
    "two spellings in a column": (
        lambda root: (
            pq.write_table(pa.concat_tables([with_split(SPELLED[0]), with_split(SPELLED[1])]), root / "a.parquet") or root / "a.parquet"
        ),
        "{}: column split: train and training are both" + EITHER.format("train"),
    ),
    "a split that is a number": (
        lambda root: pq.write_table(table("train").append_column("split", pa.array(range(12))), root / "a.parquet") or root / "a.parquet",
        "{}: column split holds int64, it must say train, validation, test or unlabelled",
    ),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_parquet_that_is_ambiguous_is_refused(tmp_path, case):
    write, message = BAD_PARQUET[case]
    path = write(tmp_path)
    assert said(lambda: feature_files.load(path)) == message.format(path)


def test_what_lies_beside_parquet_files_is_said(tmp_path):
    shards("train.parquet", "test.parquet", "more/0000.parquet")(tmp_path)
    (tmp_path / "README.md").write_text("?")
    np.save(tmp_path / "more.npy", np.eye(2))
    assert said_by(feature_files.load, tmp_path)[1][0] == f"{tmp_path}: not used: more, more.npy"


# npy folders and npz files


@pytest.mark.parametrize("names", SPELLED)
def test_arrays_of_any_spelling(tmp_path, names):
    every = {f"{name}_{axis}": arrays()[f"{part}_{axis}"] for part, name in zip(PARTS, names, strict=True) for axis in "xy"}
    np.savez(tmp_path / "a.npz", **every, more=np.eye(2))
    (tmp_path / "npy").mkdir()
    for name, array in every.items():
        np.save(tmp_path / "npy" / f"{name}.npy", array)
        (tmp_path / "npy" / f"._{name}.npy").write_text("?")
    np.save(tmp_path / "npy" / "more.npy", np.eye(2))
    (tmp_path / "npy" / ".DS_Store").write_text("?")
    assert check_parquet(tmp_path / "a.npz") == [f"{tmp_path}/a.npz: not used: more"]
    assert check_parquet(tmp_path / "npy") == [f"{tmp_path}/npy: not used: more.npy"]


def test_two_arrays_of_one_part_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(), valid_x=np.eye(3))
    told = "val_x and valid_x are both" + EITHER.format("val_x")
    assert said(lambda: feature_files.load(tmp_path / "a.npz")) == f"{tmp_path}/a.npz: {told}"
    for name in ("val_x", "valid_x"):
        np.save(tmp_path / f"{name}.npy", np.eye(3))
    assert said(lambda: feature_files.load(tmp_path)) == f"{tmp_path}: {told}"


def test_images_in_arrays_of_any_spelling(tmp_path):
    x, y = np.zeros((4, 5, 5), np.uint8), np.array(["b", "a", "b", "a"])
    every = {"Training_x": x, "Training_y": y, "valid_x": x, "valid_y": y, "testing_x": x, "testing_y": y[::-1]}
    np.savez(tmp_path / "a.npz", **every, base_x=x, base_y=["u", "v"] * 2, z=x)
    found, lines = said_by(image_file, tmp_path / "a.npz")
    assert found.images.class_names == ("a", "b")
    assert [part.y.tolist() for part in (found.images.val, found.images.test)] == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert found.base.y.tolist() == [0, 1, 0, 1] and lines == [f"{tmp_path}/a.npz: not used: z"]
    assert found.images.train.load(0).shape == (5, 5, 3)
