"""Sources of features and of images, on small files of the real layouts, by the functions that users call."""

import importlib.util
import io
import json
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmn_jax.config import default
from mmn_jax.data import longtail
from mmn_jax.data.feature_files import from_arrays, load, load_training
from mmn_jax.data.parquet_files import Columns
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import sources, stages
from mmn_jax.types import Examples, FeatureSet
from mmn_jax.vision import features, folders, images, lists
from mmn_jax.vision.tfds import tfds_source


def said(call):
    """The message of the BadInput that a call raises, which is one line."""
    with pytest.raises(BadInput) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# features


def arrays():
    rng = np.random.default_rng(0)
    parts = {"train": np.repeat([0, 1, 2], 4), "val": np.array([0, 1, 2]), "test": np.array([0, 1, 2, 2])}
    x = {f"{part}_x": rng.normal(size=(len(y), 3)).astype(np.float32) for part, y in parts.items()}
    return x | {f"{part}_y": y for part, y in parts.items()} | {"class_names": np.array(["a", "b", "c"])}


def table(part, labels=None, metadata=None, kind=None):
    x, y = arrays()[f"{part}_x"], arrays()[f"{part}_y"]
    made = pa.table({"features": pa.array(list(x), kind or pa.list_(pa.float32())), "label": labels if labels is not None else y})
    return made.replace_schema_metadata(metadata)


def write_npz(root):
    np.savez(root / "mine.npz", **arrays())
    return root / "mine.npz"


def write_npy(root):
    for name, array in arrays().items():
        np.save(root / f"{name}.npy", array)
    return root


def class_label(*names):
    """What Hugging Face keeps in a file's metadata of a column of class labels."""
    return {"huggingface": json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}})}


def write_shards(root):
    """As a Hugging Face data set is exported."""
    metadata = class_label("a", "b", "c")
    whole = table("train", metadata=metadata)
    pq.write_table(whole.slice(0, 5), root / "train-00000-of-00002.parquet")
    pq.write_table(whole.slice(5), root / "train-00001-of-00002.parquet")
    for part, file in (("val", "validation-00000-of-00001"), ("test", "test-00000-of-00001")):
        pq.write_table(table(part, metadata=metadata, kind=pa.list_(pa.float32())), root / f"{file}.parquet")
    return root


def write_one_parquet(root):
    """One file with names as labels and fixed-size lists, its parts mixed up."""
    parts = {part: table(part, np.array(["a", "b", "c"])[arrays()[f"{part}_y"]], kind=pa.list_(pa.float32(), 3)) for part in PARTS}
    tables = [parts[part].append_column("split", pa.array([name] * len(parts[part]))) for part, name in PARTS.items()]
    order = np.argsort(np.arange(19) % 2, kind="stable")
    pq.write_table(pa.concat_tables(tables).take(order), root / "all.parquet")
    return root / "all.parquet"


PARTS = {"train": "train", "val": "validation", "test": "test"}


@pytest.mark.parametrize("write", [write_npz, write_npy, write_shards, write_one_parquet])
def test_every_form_of_features_gives_the_same_set(tmp_path, write):
    path, wanted = write(tmp_path), from_arrays(**{k: v for k, v in arrays().items() if k != "class_names"}, class_names=("a", "b", "c"))
    config = default()
    config.data.source, config.data.path = "npz", str(path)
    features = sources.load_features(config)
    assert features.class_names == wanted.class_names == ("a", "b", "c")
    for part, expected in zip(features[1:4], wanted[1:4], strict=True):
        order = [np.lexsort((*examples.x.T, examples.y)) for examples in (part, expected)]
        np.testing.assert_array_equal(part.x[order[0]], expected.x[order[1]])
        np.testing.assert_array_equal(part.y[order[0]], expected.y[order[1]])
        assert part.x.dtype == np.float32 and part.y.dtype == np.int32
    np.testing.assert_array_equal(load_training(path).y, features.train.y)


def test_npy_features_stay_on_the_disk(tmp_path):
    assert isinstance(load(write_npy(tmp_path)).train.x, np.memmap)


def test_columns_go_by_the_names_that_settings_give_them(tmp_path):
    for part in ("train", "test"):
        pq.write_table(table(part).rename_columns(["embedding", "fine_label"]), tmp_path / f"{part}.parquet")
    config = default()
    config.data.source, config.data.path = "npz", str(tmp_path)
    config.data.columns.features, config.data.columns.label = "embedding", "fine_label"
    assert sources.load_features(config).class_names == ("0", "1", "2")
    assert load(tmp_path, Columns("embedding", "fine_label")).val is None


@pytest.mark.parametrize("kind", [pa.list_(pa.float16()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3)], ids=str)
@pytest.mark.parametrize("label", [pa.uint8(), pa.int64(), pa.dictionary(pa.int32(), pa.string()), pa.large_string()], ids=str)
def test_all_kinds_of_lists_and_labels(tmp_path, kind, label):
    text = not pa.types.is_integer(label)
    for part in ("train", "test"):
        x, y = arrays()[f"{part}_x"].astype(np.float16), arrays()[f"{part}_y"]
        values = pa.array(np.array(["a", "b", "c"])[y] if text else y, pa.string() if text else None).cast(label)
        column = pa.array(list(x.astype(kind.value_type.to_pandas_dtype())), kind)
        pq.write_table(pa.table({"features": column, "label": values}), tmp_path / f"{part}.parquet")
    found = load(tmp_path)
    np.testing.assert_array_equal(found.train.x, arrays()["train_x"].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found.test.y, arrays()["test_y"])
    assert found.class_names == (("a", "b", "c") if text else ("0", "1", "2"))


def spoil(column, values, part="train"):
    """A folder of Parquet files in which one column of a part holds these values."""

    def write(root):
        write_shards(root)
        for file in root.glob(f"{part}-*"):
            file.unlink()
        spoiled = table(part).drop_columns([column]).append_column(column, values)
        pq.write_table(spoiled.replace_schema_metadata(class_label("a", "b", "c")), root / f"{part}.parquet")
        return root

    return write


def in_lists(change):
    rows = [list(map(float, row)) for row in arrays()["train_x"]]
    change(rows)
    return rows


def put(name, content):
    def write(root):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
        return root

    return write


def below(name, write):
    return lambda root: write(root) and root / name


def pickled(root):
    np.save(root / "train_x.npy", np.array([{}], object), allow_pickle=True)
    return root


def without_split(root):
    pq.write_table(table("train"), root / "train.parquet")
    return root / "train.parquet"


def strange_split(root):
    pq.write_table(table("train").append_column("split", pa.array(["train"] * 11 + ["extra"])), root / "a.parquet")
    return root / "a.parquet"


BAD_FEATURES = {
    "nothing there": (lambda root: root / "none.parquet", "{}: no such file"),
    "an empty folder": (
        lambda root: root,
        "{}: neither npy nor Parquet files in it; it must hold train_x.npy, train_y.npy, test_x.npy and test_y.npy",
    ),
    "half a folder": (
        lambda root: np.save(root / "train_x.npy", np.zeros((2, 2))) or root,
        "{}: array train_y is missing; it has train_x",
    ),
    "one npy file": (
        below("train_x.npy", write_npy),
        "{}: a single npy file; give the folder with train_x.npy, train_y.npy, test_x.npy and test_y.npy",
    ),
    "a damaged npy": (
        put("train_x.npy", b"\x93NUMPY"),
        "{}/train_x.npy: not an npy file of plain numbers or strings, or damaged; write it with numpy.save",
    ),
    "a pickled npy": (pickled, "{}/train_x.npy: not an npy file of plain numbers or strings, or damaged; write it with numpy.save"),
    "no parquet": (below("a.parquet", put("a.parquet", b"PAR1 or not")), "{}: not a Parquet file, or damaged"),
    "another name": (
        put("extra.parquet", b""),
        "{}/extra.parquet: its name must be train, validation, test or unlabelled, or one of these and -00000-of-00002",
    ),
    "no split column": (
        without_split,
        "{}: column split is missing, it has features, label; name it by columns.split, or rename it",
    ),
    "a strange split": (strange_split, "{}: column split has 'extra', it must say train, validation, test or unlabelled"),
    "no label column": (
        lambda root: pq.write_table(table("train").drop_columns(["label"]), root / "train.parquet") or root,
        "{}/train.parquet: column label is missing, it has features; name it by columns.label, or rename it",
    ),
    "no test part": (
        lambda root: pq.write_table(table("train"), root / "train.parquet") or root,
        "{}: array test_x is missing; it has train_x, train_y",
    ),
    "numbers for lists": (
        spoil("features", pa.array(np.zeros(12))),
        "{}: column features of train must hold lists of numbers, it holds double",
    ),
    "lists of text": (
        spoil("features", pa.array([["a"]] * 12)),
        "{}: column features of train must hold lists of numbers, it holds list<element: string>",
    ),
    "ragged lists": (
        spoil("features", pa.array(in_lists(lambda rows: rows[7].append(1.0)))),
        "{}: column features of train has lists of different lengths: 3 in row 0, 4 in row 7",
    ),
    "no list in a row": (
        spoil("features", pa.array(in_lists(lambda rows: rows.__setitem__(5, None)))),
        "{}: column features of train has no value in row 5",
    ),
    "a hole in a list": (
        spoil("features", pa.array(in_lists(lambda rows: rows[6].__setitem__(1, None)))),
        "{}: column features of train has a list with an empty value in row 6",
    ),
    "a hole in the labels": (spoil("label", pa.array([0] * 11 + [None])), "{}: column label of train has no value in row 11"),
    "labels that are fractions": (
        spoil("label", pa.array(np.zeros(12))),
        "{}: column label of train must hold integers or names, it holds double",
    ),
    "a name that train has not": (
        spoil("label", pa.array(["a", "b", "c", "d"]), "test"),
        "{}: column label of test (test.parquet) has the name 'd', which train doesn't have",
    ),
    "a negative label": (
        spoil("label", pa.array([-1, 0, 1, 2], pa.int64()), "test"),
        "{}: column label of test (test.parquet) has the negative label -1 in row 0",
    ),
    "NaN": (
        spoil("features", pa.array(in_lists(lambda rows: rows[3].__setitem__(0, float("nan"))))),
        "{}: train_x has a value that is NaN, infinite or beyond float32 in row 3",
    ),
    "no rows": (
        lambda root: [pq.write_table(table(part).slice(0, 0), root / f"{part}.parquet") for part in ("train", "test")] and root,
        "{}: train_x is empty",
    ),
}


@pytest.mark.parametrize("case", BAD_FEATURES)
def test_bad_features_give_one_line(tmp_path, case):
    write, message = BAD_FEATURES[case]
    path = write(tmp_path)
    assert said(lambda: load(path)) == message.format(path)


def test_bad_arrays_are_named(tmp_path):
    x, y = np.zeros((4, 2)), np.array([0, 0, 1, 1])
    assert said(lambda: from_arrays(x, y[:3], x, y)) == "arrays: train_x has 4 rows, train_y 3"
    assert (
        said(lambda: from_arrays(x, y, x, y, val_x=x)) == "arrays: array val_y is missing; it has train_x, train_y, val_x, test_x, test_y"
    )


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    write_shards(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert said(lambda: load(tmp_path)).endswith("which is not installed; pip install 'mmn_jax[parquet]'")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert said(lambda: images.decode(b"", "x")).endswith("which is not installed; pip install 'mmn_jax[images]'")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert said(lambda: tfds_source("small", tmp_path)).endswith("which is not installed; pip install 'mmn_jax[images]'")


# images


def picture(value, size=(5, 4), mode="RGB"):
    return Image.new(mode, size, value if mode == "L" else (value, 0, 0))


def fill(root, counts, start=0):
    """JPEG files root/CLASS/i.jpg whose red says which class; start: of the colours."""
    for c, (name, count) in enumerate(counts.items(), start):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(40 * c).save(root / name / f"{i}.jpg")
    return root


def red(part):
    """[n] which class the pictures themselves say."""
    return np.array([round(float(part.load(i)[..., 0].mean()) / 40) for i in range(len(part.y))])


def test_a_folder_with_train_and_test(tmp_path):
    fill(tmp_path / "train", {"ant": 3, "bee": 2})
    fill(tmp_path / "validation", {"bee": 2}, start=1)
    fill(tmp_path / "test", {"ant": 1, "bee": 1})
    (tmp_path / "train" / "ant" / ".hidden").write_text("passed over")
    picture(0, mode="L").save(tmp_path / "train" / "ant" / "grey.png")
    found = folders.image_folder(tmp_path)
    assert found.class_names == ("ant", "bee") and found.name == tmp_path.name
    assert [part.y.tolist() for part in found[1:4]] == [[0, 0, 0, 0, 1, 1], [1, 1], [0, 1]]
    for part in found[1:4]:
        np.testing.assert_array_equal(red(pickle.loads(pickle.dumps(part))), part.y)
    assert all(found.train.load(i).shape == (4, 5, 3) and found.train.load(i).dtype == np.uint8 for i in range(6))


def test_a_folder_without_a_test_part_holds_a_seeded_share_out(tmp_path):
    fill(tmp_path, {"ant": 10, "bee": 3, "cat": 2})
    found = folders.image_folder(tmp_path, test_share=0.3)
    assert np.bincount(found.test.y).tolist() == [3, 1, 1] and np.bincount(found.train.y).tolist() == [7, 2, 1]
    assert found.val is None and (red(found.train) == found.train.y).all()
    again, other = (folders.image_folder(tmp_path, test_share=0.3, seed=seed) for seed in (0, 1))
    paths = [set(part.load.args[0]) for part in (found.test, again.test, other.test)]
    assert paths[0] == paths[1] != paths[2] and not paths[0] & set(found.train.load.args[0])


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[1] / "docs" / "your_own_features.md"
    fill(tmp_path / "photographs", {"ant": 5, "bee": 5})
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(page.read_text().split("```python\n")[-1].split("```")[0], names)
    assert names["first"].shape == (4, 5, 3)


def write_lists(root, train="train.txt", lines=None):
    fill(root / "data", {"ant": 3, "bee fly": 2})
    listed = {train: ["ant/0.jpg 0", "ant/1.jpg 0", "bee fly/0.jpg 1"], "test.txt": ["ant/2.jpg 0", "bee fly/1.jpg 1"]}
    for name, own in (listed | (lines or {})).items():
        (root / name).write_text("\n".join(own) + "\n")
    return root / "data", root / train, None, root / "test.txt"


def test_list_files(tmp_path):
    found = lists.list_files(*write_lists(tmp_path))
    assert found.class_names == ("0", "1") and found.val is None and found.train.y.tolist() == [0, 0, 1]
    assert (red(found.train) == found.train.y).all() and (red(found.test) == found.test.y).all()
    named = lists.list_files(tmp_path / "data", *(tmp_path / name for name in ("train.txt", "test.txt", "test.txt")), ("ant", "bee"))
    assert named.class_names == ("ant", "bee") and named.val.y.tolist() == [0, 1]


def with_counts(counts):
    return [f"train/{c}/{i}.JPEG {c}" for c, count in enumerate(counts) for i in range(count)]


def published(classes, total, largest, smallest):
    """Falling counts with these ends and this sum."""
    rest = total - largest - smallest
    middle = np.full(classes - 2, rest // (classes - 2))
    middle[: rest % (classes - 2)] += 1
    return [largest, *middle, smallest]


@pytest.mark.parametrize(
    ("name", "shape", "val", "test"),
    [("ImageNet_LT", (1000, 115_846, 1280, 5), 20, 50), ("Places_LT", (365, 62_500, 4980, 5), 20, 100)],
)
def test_published_lists_are_counted(tmp_path, name, shape, val, test):
    paths = [tmp_path / f"{name}_{part}.txt" for part in ("train", "val", "test")]
    parts = {"train": published(*shape), "val": [val] * shape[0], "test": [test] * shape[0]}
    for path, counts in zip(paths, parts.values(), strict=True):
        path.write_text("\n".join(with_counts(counts)))
    assert said(lambda: lists.list_files(tmp_path, *paths)) == f"{tmp_path}/train/0/0.JPEG: no such file, but {paths[0]} lists it"
    paths[2].write_text("\n".join(with_counts(parts["test"])[1:]))
    count = test * shape[0]
    message = f"{paths[2]}: {count - 1} images, the published list has {count}; a list of your own needs another name"
    assert said(lambda: lists.list_files(tmp_path, *paths)) == message
    parts["train"][0] -= 1
    parts["train"][1] += 1
    paths[0].write_text("\n".join(with_counts(parts["train"])))
    assert f"{shape[2] - 1} images in its largest class, the published list has {shape[2]};" in said(
        lambda: lists.list_files(tmp_path, *paths)
    )


def listed(**lines):
    return lambda root: lists.list_files(*write_lists(root, lines={f"{name}.txt": own for name, own in lines.items()}))


def folder(change, **given):
    def call(root):
        change(root)
        return folders.image_folder(root, **given)

    return call


def write_broken(root):
    fill(root / "train", {"a": 2, "b": 1})
    fill(root / "test", {"a": 1, "b": 1})
    for path, size in (("a/0.jpg", 200), ("a/1.jpg", 0)):
        content = (root / "train" / path).read_bytes()
        (root / "train" / path).write_bytes(content[:size])
    (root / "train" / "b" / "0.jpg").unlink()
    (root / "train" / "b" / "0.jpg").write_text("text")


def extra(name):
    def change(root):
        fill(root, {"a": 2, "b": 2})
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("?")

    return change


def foreign_class(root):
    fill(root / "train", {"a": 2, "b": 2})
    fill(root / "test", {"a": 2, "z": 2})


BAD_IMAGES = {
    "no folder": (lambda root: folders.image_folder(root / "none"), "{}/none: no such folder"),
    "no classes": (lambda root: folders.image_folder(root), "{0}: no class folders in it; images lie in {0}/CLASS/IMAGE.jpg"),
    "no test part": (
        folder(lambda root: fill(root, {"a": 2, "b": 2})),
        "{}: has no test folder; give test_share, the share of every class to hold out for testing",
    ),
    "no test part beside train": (
        folder(lambda root: fill(root / "train", {"a": 2, "b": 2})),
        "{}: has no test folder; give test_share, the share of every class to hold out for testing",
    ),
    "a share beyond 1": (
        folder(lambda root: fill(root, {"a": 2, "b": 2}), test_share=1.5),
        "test_share: must be above 0 and below 1, it is 1.5",
    ),
    "a single image": (
        folder(lambda root: fill(root, {"a": 2, "b": 1}), test_share=0.5),
        "{}: class b has a single image, none to hold out for testing",
    ),
    "one class": (folder(lambda root: fill(root, {"a": 4}), test_share=0.5), "{}: only one class; a classifier needs at least two"),
    "an empty class": (folder(lambda root: fill(root, {"a": 2, "b": 0}), test_share=0.5), "{}/b: no images in this class folder"),
    "another file": (
        folder(extra("a/notes.txt"), test_share=0.5),
        "{}/a/notes.txt: not an image (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff, .gif); a class folder holds nothing else",
    ),
    "a class that train has not": (folder(foreign_class), "{}/test/z: no such class in train"),
    "a broken JPEG": (lambda root: folder(write_broken)(root).train.load(0), "{}/train/a/0.jpg: broken, or not an image"),
    "an empty JPEG": (lambda root: folder(write_broken)(root).train.load(1), "{}/train/a/1.jpg: broken, or not an image"),
    "text for a JPEG": (lambda root: folder(write_broken)(root).train.load(2), "{}/train/b/0.jpg: broken, or not an image"),
    "no list": (lambda root: lists.list_files(root, root / "none.txt", None, root / "none.txt"), "{}/none.txt: cannot be read as text"),
    "an empty list": (listed(train=[]), "{}/train.txt, line 1: '' is not `path label`, the label an integer from 0"),
    "no label": (
        listed(train=["ant/0.jpg 0", "ant/1.jpg"]),
        "{}/train.txt, line 2: 'ant/1.jpg' is not `path label`, the label an integer from 0",
    ),
    "a negative label": (
        listed(test=["ant/0.jpg -1"]),
        "{}/test.txt, line 1: 'ant/0.jpg -1' is not `path label`, the label an integer from 0",
    ),
    "a label that train has not": (listed(test=["ant/0.jpg 0", "ant/1.jpg 2"]), "{}/test.txt, line 2: label 2, but there are 2 classes"),
    "a label beyond any index": (
        listed(train=["ant/0.jpg 99999999999"]),
        "{}/train.txt, line 1: label 99999999999 is too large; labels are 0 to C - 1, C at most 1048576",
    ),
    "a class left out": (listed(train=["ant/0.jpg 0", "ant/1.jpg 2"]), "{}/train.txt: class 1 (1) has no example in train_y"),
    "a path up": (listed(train=["../train.txt 0"]), "{}/train.txt, line 1: '../train.txt' leads out of the root folder"),
    "a path up and down": (listed(train=["ant/../../x 0"]), "{}/train.txt, line 1: 'ant/../../x' leads out of the root folder"),
    "an absolute path": (listed(train=["/etc/hosts 0"]), "{}/train.txt, line 1: '/etc/hosts' leads out of the root folder"),
    "a missing image": (listed(test=["ant/0.jpg 0", "ant/9.jpg 1"]), "{0}/data/ant/9.jpg: no such file, but {0}/test.txt lists it"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_give_one_line(tmp_path, case):
    call, message = BAD_IMAGES[case]
    assert said(lambda: call(tmp_path)) == message.format(tmp_path)


# TFDS


def png(c):
    file = io.BytesIO()
    picture(40 * c).save(file, "PNG")
    file.seek(0)
    return file


def generate(features, labels):
    """Examples of these features with these labels, a red image each."""
    for i, label in enumerate(labels):
        fixed = {"image": png(label % 3), "label": label, "coarse_label": 0, "supercategory": 0}
        yield i, {name: fixed.get(name, f"text {i}") for name in features}


def write_tfds(base, name, root, labels, **more):
    """TFDS itself writes ArrayRecord files of part → labels, by a builder with the features and the version of `base`."""

    def generators(self, _):
        return {part: generate(self.info.features, own) for part, own in labels.items()}

    members = {"name": name, "url_infos": {}, "_split_generators": generators, "_generate_examples": None, **more}
    type(name, (base,), members, skip_registration=True)(data_dir=root, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data sets whose builders are known by their files alone."""
    root = tmp_path_factory.mktemp("tfds")

    def info(self):
        image, label = tfds.features.Image(shape=(None, None, 3)), tfds.features.ClassLabel(names=["a", "b", "c"])
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"image": image, "label": label}))

    def no_image(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    labels = {"train": [0, 1, 2] * 3, "validation": [0, 1, 2], "test": [2, 1, 0] * 2}
    hidden = {"train": [0, 1, 2], "test": [-1, -1]}
    base, version = tfds.core.GeneratorBasedBuilder, tfds.core.Version("1.0.0")
    write_tfds(base, "small", root, labels, VERSION=version, _info=info)
    spelled = {"Training": [0, 1, 2] * 2, "dev": [0, 1, 2], "testing": [2, 1], "extra": [0]}
    write_tfds(base, "spelled", root, spelled, VERSION=version, _info=info)
    write_tfds(base, "twice", root, spelled | {"valid": [0]}, VERSION=version, _info=info)
    write_tfds(base, "hidden", root, hidden, VERSION=version, _info=info)
    write_tfds(base, "texts", root, labels, VERSION=version, _info=no_image)
    return root


def test_a_tfds_data_set_is_read_without_tensorflow(prepared):
    found = tfds_source("small", prepared)
    assert found.class_names == ("a", "b", "c") and [len(part.y) for part in found[1:4]] == [9, 3, 6]
    for part in found[1:4]:
        np.testing.assert_array_equal(red(pickle.loads(pickle.dumps(part))), part.y)
        np.testing.assert_array_equal(np.bincount(part.y), len(part.y) // 3)
    assert found.test.load(0).shape == (4, 5, 3) and found.test.load(0).dtype == np.uint8
    own = tfds_source("small", prepared, {"train": "train[:6]", "test": "validation"})
    assert len(own.train.y) == 6 and own.val is None and len(own.test.y) == 3
    assert "tensorflow" not in sys.modules


def test_splits_of_a_tfds_data_set_may_be_spelled_in_any_way(prepared):
    lines = []
    found = tfds_source("spelled", prepared, say=lines.append)
    assert [len(part.y) for part in found[1:4]] == [6, 3, 2] and lines == [f"{prepared}: data set spelled: splits not used: extra"]
    message = f"{prepared}: data set twice: dev and valid are both there, and either could be val; keep one of them"
    assert said(lambda: tfds_source("twice", prepared)) == message


def test_the_config_names_its_splits(prepared):
    config = default()
    config.data.source, config.data.path, config.data.tfds = "images", str(prepared), "small"
    terminal = stages.Terminal(lambda line: None, lambda items, name: items)
    whole = features.choose_source(config, terminal).open().images
    config.data.splits.train, config.data.splits.test = "train[:6]", "validation"
    part = features.choose_source(config, terminal).open().images
    assert (len(part.train.y), part.val, len(part.test.y)) == (6, None, len(whole.val.y)) and len(whole.train.y) > 6


def test_a_damaged_tfds_image_is_named(prepared):
    part = tfds_source("small", prepared).test
    key, where = part.load.args[1:]
    record = {0: {key: b"text"}}
    assert said(lambda: images.Images(partial(part.load.func, record, key, where), part.y).load(0)).endswith(
        "data set small, split test, image 0: broken, or not an image"
    )


@pytest.mark.parametrize("name", ["cifar100", "sun397", "imagenet_lt", "caltech101", "i_naturalist2018", "places365_small"])
def test_the_data_sets_of_the_recipes_are_read_by_their_names(name, tmp_path):
    advice = f"where TensorFlow is installed, run: tfds build {name} --file_format=array_record"
    message = f"{tmp_path}: data set {name} is not prepared there; {advice}"
    assert said(lambda: tfds_source(name, tmp_path)) == message
    base = tfds.core.registered.imported_builder_cls(name)
    classes = base(data_dir=tmp_path).info.features["label"].num_classes
    write_tfds(base, name, tmp_path, {"train": range(classes), "test": [2, 0]})
    found = tfds_source(name, tmp_path)
    assert len(found.class_names) == classes and sorted(found.test.y) == [0, 2] and (red(found.test) == found.test.y).all()


BAD_TFDS = {
    "no such set": (("smaller", None), "{}: data set smaller cannot be used (Dataset smaller not found.)"),
    "no name": (("../small", None), "{}: data set ../small cannot be used (Parsing builder name string ../small failed.)"),
    "no such split": (
        ("small", {"train": "train", "test": "tests"}),
        "{}: data set small, split tests (Unknown split 'tests'. Should be one of ['train', 'validation', 'test'].)",
    ),
    "no images": (("texts", None), "{}: data set texts has no image with a class label; it has text"),
    "no labels": (("hidden", None), "{}: data set hidden, split test: image 0 has no label"),
    "no test split": (("small", {"train": "train"}), "{}: data set small: splits must name train and test, perhaps val; they name train"),
}


@pytest.mark.parametrize("case", BAD_TFDS)
def test_bad_tfds_data_sets_give_one_line(prepared, case):
    (name, splits), message = BAD_TFDS[case]
    assert said(lambda: tfds_source(name, prepared, splits)) == message.format(prepared)


# long tails

SIZES = st.tuples(st.integers(2, 60), st.integers(1, 400), st.floats(1, 300))


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_pareto_counts_follow_the_formula(size):
    classes, largest, imbalance = size
    counts = longtail.pareto_counts(classes, largest, imbalance)
    smallest = largest / imbalance
    quantile = [(classes / (i + 1)) ** (1 / 6) - 1 for i in range(classes)]
    exact = np.array([smallest + (largest - smallest) * q / quantile[0] for q in quantile])
    assert (np.abs(counts - np.maximum(exact - 0.5, 1)) <= 0.5 + 1e-6).all() and (np.diff(counts) <= 0).all()
    assert counts[0] == largest and counts[-1] == max(int(smallest + 1e-9), 1)


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_step_counts_have_two_heights(size):
    classes, largest, imbalance = size
    counts = longtail.step_counts(classes, largest, imbalance)
    low = max(int(largest / imbalance + 1e-9), 1)
    assert counts.tolist() == [largest] * (classes // 2) + [low] * (classes - classes // 2)


def test_the_profiles_give_the_published_totals():
    assert [longtail.exponential_counts(100, 500, factor).sum() for factor in (10, 50, 100)] == [19_573, 12_608, 10_847]  # CIFAR-100-LT
    counts = longtail.pareto_counts(1000, 1280, 256)  # of ImageNet-LT, whose own are drawn at random; the module says both
    assert counts.sum() == 121_449 and [(counts > 100).sum(), (counts < 20).sum()] == [404, 140]


def toy(classes=4, each=30):
    y = np.tile(np.arange(classes, dtype=np.int32), each)
    part = Examples(np.arange(len(y), dtype=np.float32)[:, None], y)
    return FeatureSet("toy", part, None, part, tuple(map(str, range(classes))))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(longtail.PROFILES)), st.integers(0, 9), st.floats(1, 20))
def test_a_split_has_the_counts_of_its_profile(profile, seed, imbalance):
    part = longtail.long_tail_split(toy(), seed, imbalance, 15, profile=longtail.PROFILES[profile])
    counts = longtail.take(toy(), part).counts
    assert np.sort(counts)[::-1].tolist() == longtail.PROFILES[profile](4, 15, imbalance).tolist()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(4, 119), unique=True), st.integers(1, 30), st.integers(0, 9))
def test_a_listed_split_trains_on_the_list_and_validates_on_others(rows, per_class, seed):
    features, rows = toy(), np.array([0, 1, 2, 3, *rows])
    if len(rows) == 120:
        return
    part = longtail.listed_split(features, seed, rows, per_class)
    np.testing.assert_array_equal(np.flatnonzero(part == longtail.TRAIN), np.sort(rows))
    free = 30 - np.bincount(features.train.y[rows], minlength=4)
    held = np.bincount(features.train.y[part == longtail.VAL], minlength=4)
    np.testing.assert_array_equal(held, np.minimum(min(per_class, 10), free))


def split_of(workdir, feature_file, config=None, **settings_):
    """split.json of a run up to its split."""
    config = config or default()
    config.data.source, config.data.path = "npz", str(feature_file)
    config.data.longtail.update(settings_)
    stages.run_seeds(config, workdir, stages.Terminal(lambda line: None, lambda items, name: items), "split")
    return json.loads((Path(workdir) / "seed-0" / "split.json").read_text())


def test_every_tail_leaves_a_manifest(feature_file, tmp_path):
    for profile in ("exp", "pareto", "step"):
        manifest = split_of(tmp_path, feature_file, profile=profile, imbalance=10.0, max_per_class=40)
        assert sorted(manifest["counts"], reverse=True) == longtail.PROFILES[profile](20, 40, 10).tolist()
        assert manifest["rule"]["profile"] == profile and len(manifest["val"]) == 20 * 20
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, manifest["train"])) + "\n")
    again = split_of(tmp_path, feature_file, indices=str(listed), imbalance=5.0)
    assert again["train"] == manifest["train"] and again["rule"].keys() == {"indices", "val_per_class"}
    assert not set(again["train"]) & set(again["val"])


RECIPES = {
    "cifar100_lt": {"imbalance": 100.0, "max_per_class": 500},
    "sun397_lt": {},
    "places_lt": {},
    "imagenet_lt": {},
    "inat2018": {},
    "caltech101": {"imbalance": 30.0, "max_per_class": 30},
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_its_split(name, feature_file, tmp_path):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[1] / "configs" / f"{name}.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    rule = split_of(tmp_path, feature_file, recipe.get_config())["rule"]
    assert {key: value for key, value in rule.items() if key not in ("val_per_class", "profile") and value is not None} == RECIPES[name]
    for part in ("needs", "Published", "Not run here"):
        assert part in recipe.__doc__


BAD_TAILS = {
    "no such profile": ({"profile": "gauss"}, None, "--config.data.longtail.profile: must be exp, pareto or step, it is gauss"),
    "a profile alone": ({"profile": "step"}, None, "--config.data.longtail.profile=step: needs data.longtail.imbalance"),
    "no list": ({}, None, "--config.data.longtail.indices={}: cannot be read as text"),
    "a word": ({}, "0\n1\ntwo", "--config.data.longtail.indices={}: line 3 is 'two', it must be a row of train_x, 0 to 1199"),
    "a row beyond": ({}, "0\n\n1200", "--config.data.longtail.indices={}: line 3 is '1200', it must be a row of train_x, 0 to 1199"),
    "a row twice": ({}, "7\n5\n7", "--config.data.longtail.indices={}: row 7 is listed twice"),
    "a class left out": (
        {},
        "\n".join(map(str, range(1140))),
        "--config.data.longtail.indices={}: class class 19 has no training example in it",
    ),
    "everything listed": (
        {},
        "\n".join(map(str, range(1200))),
        "--config.data.val_per_class: the listed rows leave none to validate on; give val_x and val_y",
    ),
}


@pytest.mark.parametrize("case", BAD_TAILS)
def test_bad_tails_give_one_line(feature_file, tmp_path, case):
    given_, content, message = BAD_TAILS[case]
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content)
    settings_ = given_ or {"indices": str(path)}
    assert said(lambda: split_of(tmp_path, feature_file, **settings_)) == message.format(path)
