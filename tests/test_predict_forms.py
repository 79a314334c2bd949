"""The prediction command on every form of features that a run reads, with ids, several labels, and all probabilities."""

import csv
import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax
from test_predict import CELLS, MODEL, NAMES, SCORES, X, run

from mmn_jax.cli import predict

IDS = [f"row {i}" for i in range(len(X))]
PROBABILITIES = softmax(SCORES / MODEL["temperature"], axis=1)
ORDER = np.argsort(-SCORES, axis=1)


def table(x=X, first=0, column="features", **others):
    ids = {"ids": IDS[first : first + len(x)]} | others
    return pa.table({column: x.tolist(), **ids})


def write_parts(folder, test, name="{}.parquet"):
    for part, x in (("train", X[:3]), ("test", test)):
        path = folder / name.format(part)
        path.parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(table(x), path)


def mixed(path):
    parts = np.tile(["test", "train", "test", "validation"], 20)
    x, ids = np.zeros((80, 5)), np.array(["other row"] * 80, object)
    x[parts == "test"], ids[parts == "test"] = X, IDS
    pq.write_table(table(x, ids=ids, split=parts), path)


def npy_folder(names):
    def write(folder):
        folder.mkdir()
        for name, array in names.items():
            np.save(folder / f"{name}.npy", array)

    return write


def shards(folder):
    folder.mkdir()
    for i in range(3):
        pq.write_table(table(X[15 * i : 15 * i + 15], 15 * i), folder / f"new-0000{i}-of-00003.parquet", row_group_size=4)


FORMS = {
    "x.npz": lambda path: np.savez(path, x=X, ids=np.array(IDS), test_x=-X, ids_of_test=np.arange(40)),
    "test.npz": lambda path: np.savez(path, Testing_x=X, train_x=X, ids=np.array(IDS)),
    "npy": npy_folder({"x": X, "ids": np.array(IDS), "train_x": -X}),
    "npy of test": npy_folder({"TEST_x": X, "ids": np.array(IDS), "train_x": -X}),
    "one.parquet": lambda path: pq.write_table(table(), path, row_group_size=7),
    "float16 lists of one size.parquet": lambda path: pq.write_table(
        pa.table({"ids": IDS, "features": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 5)}), path
    ),
    "split.parquet": mixed,
    "shards": shards,
    "parts": lambda folder: write_parts(folder, X),
    "folders of parts": lambda folder: write_parts(folder, X, "{}/0000.parquet"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    np.savez(folder / "classifier.npz", **MODEL)
    return folder


def written(model, features, out, *flags):
    """The header and the rows that the command writes."""
    assert predict.main([f"--model={model}", f"--features={features}", f"--out={out}", *flags]) == 0
    header, *lines = csv.reader(io.StringIO(out.read_text(), newline=""))
    return header, lines


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("floats", [predict.CHUNK_FLOATS, 21])
def test_every_form_gives_the_same_rows_with_their_ids(monkeypatch, model, tmp_path, form, floats):
    monkeypatch.setattr(predict, "CHUNK_FLOATS", floats)
    FORMS[form](tmp_path / form)
    header, lines = written(model, tmp_path / form, tmp_path / "out.csv", "--id=ids")
    assert header == ["id", "index", "label", "probability", "runner_up"]
    assert [line[0] for line in lines] == IDS and [int(line[1]) for line in lines] == list(range(40))
    assert [line[2] for line in lines] == [CELLS[c] for c in ORDER[:, 0]]
    np.testing.assert_allclose([float(line[3]) for line in lines], PROBABILITIES.max(1), rtol=1e-4)
    assert [line[4] for line in lines] == [CELLS[c] for c in ORDER[:, 1]]
    assert [line[1:] for line in lines] == written(model, tmp_path / form, tmp_path / "out.csv")[1]


@pytest.mark.parametrize("top", [1, 2, 3, 7])
def test_the_best_labels_have_their_probabilities(model, tmp_path, top):
    np.save(tmp_path / "x.npy", X)
    header, lines = written(model, tmp_path / "x.npy", tmp_path / "out.csv", f"--top={top}")
    assert header == ["index", *(f"{column}_{place}" for place in range(1, top + 1) for column in ("label", "probability"))]
    for place in range(top):
        assert [line[1 + 2 * place] for line in lines] == [CELLS[c] for c in ORDER[:, place]]
        expected = np.take_along_axis(PROBABILITIES, ORDER[:, place : place + 1], 1)[:, 0]
        np.testing.assert_allclose([float(line[2 + 2 * place]) for line in lines], expected, rtol=1e-4)


@pytest.mark.parametrize("flags", [[], ["--top=3"]])
def test_every_class_has_a_column_of_probabilities_that_sum_to_one(model, tmp_path, flags):
    np.savez(tmp_path / "x.npz", x=X, number=np.arange(40) - 3)
    header, lines = written(model, tmp_path / "x.npz", tmp_path / "out.csv", "--probabilities", "--id=number", *flags)
    assert header[-7:] == [f"probability:{name}" for name in NAMES]
    np.testing.assert_allclose([[float(cell) for cell in line[-7:]] for line in lines], PROBABILITIES, rtol=1e-4, atol=1e-6)
    assert [int(line[0]) for line in lines] == list(range(-3, 37))  # numbers stay numbers
    assert [line[:-7] for line in lines] == written(model, tmp_path / "x.npz", tmp_path / "out.csv", "--id=number", *flags)[1]


def test_many_labels_are_in_the_order_of_few(tmp_path):
    rng = np.random.default_rng(0)
    wide = {"W": rng.integers(-1, 2, (60, 5)).astype(np.float32), "b": np.zeros(60, np.float32)}  # many scores are equal
    np.savez(tmp_path / "classifier.npz", **{**MODEL, **wide, "class_names": np.arange(60).astype(str), "counts": np.ones(60)})
    np.save(tmp_path / "x.npy", rng.integers(-1, 2, (20, 5)) + MODEL["mean"])
    few, many = (written(tmp_path, tmp_path / "x.npy", tmp_path / "out.csv", f"--top={top}")[1] for top in (3, 60))
    assert [line[:7] for line in many] == few
    assert all(sorted(line[1::2], key=int) == [str(c) for c in range(60)] for line in many)


def test_classes_of_prior_0_come_last_and_once(model, tmp_path):
    (tmp_path / "prior.txt").write_text("1 0 0 0 0 0 0")
    np.save(tmp_path / "x.npy", X)
    prior = f"--prior={tmp_path / 'prior.txt'}"
    lines = written(model, tmp_path / "x.npy", tmp_path / "out.csv", prior, "--top=7")[1]
    assert all(line[1::2] == CELLS and line[2::2] == ["1", *"000000"] for line in lines)
    assert written(model, tmp_path / "x.npy", tmp_path / "out.csv", prior)[1][0][3] == CELLS[1]


def test_an_id_that_a_spreadsheet_would_run_is_quoted(model, tmp_path):
    np.savez(tmp_path / "x.npz", x=X[:2], ids=np.array([b"=1+1", "caf\u00e9".encode()]))
    assert [line[0] for line in written(model, tmp_path / "x.npz", tmp_path / "out.csv", "--id=ids")[1]] == ["'=1+1", "caf\u00e9"]


def test_other_columns_are_named_by_the_flags_of_a_run(model, tmp_path):
    pq.write_table(table(column="vector", part=["test", "train"] * 20), tmp_path / "x.parquet")
    flags = ["--config.data.columns.features=vector", "--config.data.columns.split=part"]
    assert len(written(model, tmp_path / "x.parquet", tmp_path / "out.csv", *flags)[1]) == 20
    assert len(written(model, tmp_path / "x.parquet", tmp_path / "out.csv", flags[0])[1]) == 40


def test_a_file_of_parquet_without_rows_gives_a_header(model, tmp_path):
    pq.write_table(table().slice(0, 0), tmp_path / "x.parquet")
    assert written(model, tmp_path / "x.parquet", tmp_path / "out.csv") == (["index", "label", "probability", "runner_up"], [])


def test_parquet_needs_no_jax(model, tmp_path):
    pq.write_table(table(), tmp_path / "x.parquet")
    done = run(model, tmp_path / "x.parquet", "--id=ids", text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.splitlines()[1].startswith("row 0,0,")


def write_parquet(**columns):
    return lambda path: pq.write_table(pa.table(columns), path)


def holed(path):
    x = X.tolist()
    x[33][2] = float("nan")
    pq.write_table(table(np.array(x)), path)


BAD = {
    "no top": ("x.npz", ["--top=0"], "--top=0: must be from 1 to 7, the number of classes", FORMS["x.npz"]),
    "more than all": ("x.npz", ["--top=8"], "--top=8: must be from 1 to 7, the number of classes", FORMS["x.npz"]),
    "top in words": ("x.npz", ["--top=all"], "argument --top: invalid int value: 'all'; see --help", FORMS["x.npz"]),
    "ids of one array": (
        "x.npy",
        ["--id=ids"],
        "--features=DIR/x.npy: is a single array, without ids called ids; give npz, Parquet or a folder of npy files",
        lambda path: np.save(path, X),
    ),
    "no such array": (
        "x.npz",
        ["--id=name"],
        "--features=DIR/x.npz: has no array name for the ids; it has x, ids, test_x, ids_of_test",
        FORMS["x.npz"],
    ),
    "no such column": (
        "x.parquet",
        ["--id=name"],
        "DIR/x.parquet: has no column name for the ids; its columns are features, ids",
        FORMS["one.parquet"],
    ),
    "too few ids": (
        "x.npz",
        ["--id=ids"],
        "--features=DIR/x.npz: ids: ids must be [40] integers or text, they are <U1 [2]",
        lambda path: np.savez(path, x=X, ids=["a", "b"]),
    ),
    "ids that are numbers with commas": (
        "x.npz",
        ["--id=ids"],
        "--features=DIR/x.npz: ids: ids must be [40] integers or text, they are float64 [40]",
        lambda path: np.savez(path, x=X, ids=np.arange(40.0)),
    ),
    "a column of other ids": (
        "x.parquet",
        ["--id=ids"],
        "--features=DIR/x.parquet: column ids: ids must be integers or text, they are double",
        write_parquet(features=X.tolist(), ids=np.arange(40.0)),
    ),
    "a row without an id": (
        "x.parquet",
        ["--id=ids"],
        "--features=DIR/x.parquet: column ids has no value in row 1",
        write_parquet(features=X.tolist(), ids=["a", None] * 20),
    ),
    "another dimension": (
        "x.parquet",
        [],
        "--features=DIR/x.parquet: column features must hold lists of 5 numbers for this model, it holds lists of 4 (x.parquet)",
        write_parquet(features=X[:, :4].tolist()),
    ),
    "a later list too short": (
        "x.parquet",
        [],
        "--features=DIR/x.parquet: column features has lists of different lengths: 5 in row 0, 2 in row 1",
        write_parquet(features=[X[0].tolist(), [1.0, 2.0]]),
    ),
    "not a number": (
        "x.parquet",
        [],
        "--features=DIR/x.parquet: column features: row 33 has a value that is NaN, infinite or beyond float32",
        holed,
    ),
    "no features": (
        "x.parquet",
        [],
        "--features=DIR/x.parquet: column features is missing, it has vector; name it by --config.data.columns.features, or rename it",
        write_parquet(vector=X.tolist()),
    ),
    "no rows of test": (
        "x.parquet",
        [],
        "--features=DIR/x.parquet: has parts, but no test, whose rows are classified; give a file or folder of these rows alone",
        write_parquet(features=X.tolist(), split=["train"] * 40),
    ),
    "a missing shard": (
        "parts",
        [],
        "DIR/parts/new-00001-of-00002.parquet: is missing, but other shards of it are there",
        lambda folder: (folder.mkdir(), pq.write_table(table(), folder / "new-00000-of-00002.parquet")),
    ),
    "a folder of nothing": (
        "folder",
        [],
        "--features=DIR/folder: has neither x nor test_x; write it with numpy.save",
        lambda path: path.mkdir(),
    ),
    "not Parquet": ("x.parquet", [], "--features=DIR/x.parquet: not a Parquet file, or damaged", lambda path: path.write_text("no")),
    "both forms": (
        "both",
        [],
        "--features=DIR/both: holds both Parquet and npy files, either of which could be meant; keep one kind",
        lambda folder: (shards(folder), np.save(folder / "x.npy", X)),
    ),
    "nothing there": ("x.parquet", [], "--features=DIR/x.parquet: cannot be read (No such file or directory)", lambda path: None),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_line(model, tmp_path, capsys, case):
    name, flags, message, write = BAD[case]
    write(tmp_path / name)
    assert predict.main([f"--model={model}", f"--features={tmp_path / name}", f"--out={tmp_path / 'out.csv'}", *flags]) == 2
    error = capsys.readouterr().err
    assert re.sub(re.escape(str(tmp_path)), "DIR", error) in (f"{message}\n", f"--features={message}\n")
    assert not list(tmp_path.glob("out.csv*"))
