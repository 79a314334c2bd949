"""The prediction command by running it: what it writes, how it refuses, that it streams."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scipy.special import softmax

from mmn_jax.cli import predict

NAMES = ["=1+1", 'a,"b"', "-1", "naïve", "plain", "@x", "two\nlines"]
CELLS = ["'=1+1", 'a,"b"', "'-1", "naïve", "plain", "'@x", "two\nlines"]
RNG = np.random.default_rng(0)
MODEL = {
    "W": RNG.normal(size=(7, 5)).astype(np.float32),
    "b": RNG.normal(size=7).astype(np.float32),
    "class_names": np.array(NAMES),
    "mean": RNG.normal(size=5).astype(np.float32),
    "scale": np.full(5, 0.5, np.float32),
    "temperature": np.float32(1.7),
    "counts": np.array([100, 60, 30, 9, 5, 2, 1]),
}
X = RNG.normal(size=(40, 5)).astype(np.float32)
SCORES = ((X - MODEL["mean"]) * MODEL["scale"]) @ MODEL["W"].T + MODEL["b"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "classifier.npz", **MODEL)
    np.savez(folder / "x.npz", x=X)
    return folder


def command(workdir, features, *flags):
    return [sys.executable, "-m", "mmn_jax.predict", f"--model={workdir}", f"--features={features}", *flags]


def run(workdir, features, *flags, **options):
    return subprocess.run(command(workdir, features, *flags), capture_output=True, **options)


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_it_writes_class_probability_and_runner_up(workdir):
    done = run(workdir, workdir / "x.npz")
    assert done.returncode == 0 and done.stderr == b""
    table, order = rows(done.stdout.decode()), np.argsort(-SCORES, axis=1)
    assert list(table[0]) == ["index", "label", "probability", "runner_up"]
    assert [int(row["index"]) for row in table] == list(range(40))
    assert [row["label"] for row in table] == [CELLS[c] for c in order[:, 0]]
    assert [row["runner_up"] for row in table] == [CELLS[c] for c in order[:, 1]]
    expected = softmax(SCORES / MODEL["temperature"], axis=1).max(1)
    np.testing.assert_allclose([float(row["probability"]) for row in table], expected, rtol=1e-4)


def test_a_file_gets_what_the_standard_output_gets(workdir, tmp_path):
    done = run(workdir, workdir / "x.npz", f"--out={tmp_path / 'out.csv'}")
    assert done.returncode == 0 and done.stdout == done.stderr == b""
    assert (tmp_path / "out.csv").read_bytes() == run(workdir, workdir / "x.npz").stdout
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def labels(capsys, workdir, features):
    assert predict.main([f"--model={workdir}", f"--features={features}"]) == 0
    return [row["label"] for row in rows(capsys.readouterr().out)]


def test_a_prior_multiplies_the_odds(capsys, workdir, tmp_path):
    (tmp_path / "prior.txt").write_text("0 1 1 1 1 1 1")
    for prior, shares in (("uniform", [1] * 7), ("train", MODEL["counts"]), (tmp_path / "prior.txt", [0, *[1] * 6])):
        assert predict.main([f"--model={workdir}", f"--features={workdir / 'x.npz'}", f"--prior={prior}"]) == 0
        table = rows(capsys.readouterr().out)
        expected = softmax(SCORES / MODEL["temperature"], axis=1) * shares
        expected /= expected.sum(1, keepdims=True)
        assert [row["label"] for row in table] == [CELLS[c] for c in expected.argmax(1)]
        np.testing.assert_allclose([float(row["probability"]) for row in table], expected.max(1), rtol=1e-4)


def test_a_classifier_without_counts_predicts_under_every_other_prior(workdir, tmp_path, capsys):
    np.savez(tmp_path / "classifier.npz", **{name: array for name, array in MODEL.items() if name != "counts"})
    assert labels(capsys, tmp_path, workdir / "x.npz") == [CELLS[c] for c in SCORES.argmax(1)]
    assert predict.main([f"--model={tmp_path}", f"--features={workdir / 'x.npz'}", "--prior=train"]) == 2
    assert capsys.readouterr().err == "--prior=train: classifier.npz has no counts; repeat the command that made it\n"


def test_classes_of_one_name_are_told_apart(capsys, tmp_path):
    names = np.array(["crane", "=1", "crane", "'=1", "cafe\u0301", "caf\u00e9", "tea"])
    np.savez(tmp_path / "classifier.npz", **{**MODEL, "class_names": names})
    np.savez(tmp_path / "x.npz", x=X)
    assert predict.main([f"--model={tmp_path}", f"--features={tmp_path / 'x.npz'}"]) == 0
    out, err = capsys.readouterr()
    cells = ["crane (class 0)", "'=1 (class 1)", "crane (class 2)", "'=1 (class 3)", "caf\u00e9 (class 4)", "caf\u00e9 (class 5)", "tea"]
    assert [row["label"] for row in rows(out)] == [cells[c] for c in SCORES.argmax(1)]
    assert err.splitlines() == [
        f"--model={tmp_path}: classes 0, 2 have one name, 'crane' (and those of 1 more name); they are called 'crane (class 0)', ..",
        'classes: classes 1, 3 have one name, "\'=1"; they are called "\'=1 (class 1)", ..',
    ]


SAVERS = {
    "x.npz": lambda path, x: np.savez(path, x=x, test_x=-x),
    "compressed.npz": lambda path, x: np.savez_compressed(path, x=x),
    "test_x.npz": lambda path, x: np.savez(path, test_x=x),
    "rows.npy": np.save,
    "columns.npy": lambda path, x: np.save(path, np.asfortranarray(x)),
    "columns.npz": lambda path, x: np.savez(path, x=np.asfortranarray(x)),
    "swapped.npz": lambda path, x: np.savez(path, x=x.astype(">f8")),
}


@pytest.mark.parametrize("name", SAVERS)
@pytest.mark.parametrize("floats", [predict.CHUNK_FLOATS, 21])
def test_every_layout_gives_the_same_in_chunks_of_any_size(capsys, monkeypatch, workdir, tmp_path, name, floats):
    monkeypatch.setattr(predict, "CHUNK_FLOATS", floats)
    SAVERS[name](tmp_path / name, X)
    assert labels(capsys, workdir, tmp_path / name) == [CELLS[c] for c in SCORES.argmax(1)]


def test_half_precision_integers_and_no_rows(capsys, workdir, tmp_path):
    for x in (X.astype(np.float16), np.arange(10, dtype=np.uint8).reshape(2, 5), X[:0]):
        np.save(tmp_path / "x.npy", x)
        scores = ((x.astype(np.float32) - MODEL["mean"]) * MODEL["scale"]) @ MODEL["W"].T + MODEL["b"]
        assert labels(capsys, workdir, tmp_path / "x.npy") == [CELLS[c] for c in scores.argmax(1)]


def test_features_come_from_the_standard_input_too(workdir):
    stream = io.BytesIO()
    np.save(stream, X)
    assert run(workdir, "-", input=stream.getvalue()).stdout == run(workdir, workdir / "x.npz").stdout


def test_memory_holds_a_chunk_and_not_the_file(workdir, tmp_path, monkeypatch):
    x = np.zeros((100_000, 5))
    np.savez(tmp_path / "x.npz", x=x)
    monkeypatch.setattr(predict, "CHUNK_FLOATS", 2**14)
    tracemalloc.start()
    assert predict.main([f"--model={workdir}", f"--features={tmp_path / 'x.npz'}", f"--out={tmp_path / 'out.csv'}"]) == 0
    assert tracemalloc.get_traced_memory()[1] < x.nbytes / 2
    tracemalloc.stop()
    assert len(rows((tmp_path / "out.csv").read_text())) == 100_000


def test_a_reader_that_leaves_is_no_error(workdir, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((200_000, 5), np.float32))
    process = subprocess.Popen(command(workdir, tmp_path / "x.npy"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=30) == 0
    process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_with_130_and_leaves_nothing(workdir, tmp_path, number):
    flags = command(workdir, "-", f"--out={tmp_path / 'out.csv'}")
    with subprocess.Popen(flags, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        stream = io.BytesIO()
        np.save(stream, X)
        process.stdin.write(stream.getvalue()[:-8])
        process.stdin.flush()
        while not (tmp_path / "out.csv.part").exists():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=30) == 130 and process.stderr.read() == b"interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_it_loads_numpy_and_no_jax():
    code = "import sys, mmn_jax.predict; print([name for name in ('jax', 'scipy', 'sklearn') if name in sys.modules])"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) == []


def damaged(path):
    np.savez_compressed(path, x=X)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


def cut_short(path):
    np.save(path, X)
    path.write_bytes(path.read_bytes()[:-4])


def with_nan(path):
    x = X.copy()
    x[17, 2] = np.nan
    np.savez(path, x=x)


BAD_FEATURES = {
    "missing.npz": (lambda path: None, "No such file"),
    "text.npz": (lambda path: path.write_text("1,2,3"), "not a numpy array"),
    "empty.npy": (lambda path: path.touch(), "not a numpy array"),
    "names.npz": (lambda path: np.savez(path, features=X), "neither x nor test_x"),
    "wide.npz": (lambda path: np.savez(path, x=X[:, :4]), "must be [n, 5] for this model, it is [40, 4]"),
    "flat.npz": (lambda path: np.savez(path, x=X[0]), "it is [5]"),
    "words.npz": (lambda path: np.savez(path, x=np.full((2, 5), "a")), "must hold numbers"),
    "objects.npz": (lambda path: np.savez(path, x=np.full((2, 5), None)), "must hold numbers"),
    "nan.npz": (with_nan, "row 17"),
    "damaged.npz": (damaged, "damaged"),
    "short.npy": (cut_short, "damaged"),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
def test_bad_features_are_one_line_that_names_them(workdir, tmp_path, capsys, name):
    make, reason = BAD_FEATURES[name]
    make(tmp_path / name)
    assert predict.main([f"--model={workdir}", f"--features={tmp_path / name}", f"--out={tmp_path / 'out.csv'}"]) == 2
    error = capsys.readouterr().err
    assert "--features=" in error and name in error and reason in error and len(error.splitlines()) == 1
    assert not list(tmp_path.glob("out.csv*"))


BAD_MODELS = {
    "without": ({}, "lacks W"),
    "narrow": ({**MODEL, "mean": MODEL["mean"][:3]}, "don't fit together"),
    "flat": ({**MODEL, "W": MODEL["b"]}, "don't fit together"),
    "counts of other classes": ({**MODEL, "counts": MODEL["counts"][:3]}, "don't fit together"),
    "one class": ({**MODEL, "W": MODEL["W"][:1], "b": MODEL["b"][:1], "class_names": np.array(["a"])}, "don't fit together"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_classifier_is_one_line(workdir, tmp_path, capsys, name):
    arrays, reason = BAD_MODELS[name]
    np.savez(tmp_path / "classifier.npz", **{"temperature": np.float32(1), **arrays})
    assert predict.main([f"--model={tmp_path}", f"--features={workdir / 'x.npz'}"]) == 2
    error = capsys.readouterr().err
    assert f"--model={tmp_path}" in error and reason in error and len(error.splitlines()) == 1


def test_the_model_may_be_the_file_itself(workdir):
    by_folder, by_file = (run(model, workdir / "x.npz") for model in (workdir, workdir / "classifier.npz"))
    assert by_file.returncode == 0 and by_file.stdout == by_folder.stdout


def test_without_a_temperature_it_says_so_and_predicts_all_the_same(workdir, tmp_path):
    np.savez(tmp_path / "classifier.npz", **{name: array for name, array in MODEL.items() if name != "temperature"})
    done, usual = run(tmp_path, workdir / "x.npz"), run(workdir, workdir / "x.npz")
    assert done.returncode == 0 and b"not calibrated" in done.stderr and len(done.stderr.splitlines()) == 1
    assert [row["label"] for row in rows(done.stdout.decode())] == [row["label"] for row in rows(usual.stdout.decode())]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (
            ["--model=none", "--features=x.npz"],
            "--model=none: has no classifier.npz; make it by mmn-jax fit --features=FEATURES --out=none",
        ),
        (["--model=a/b.npz", "--features=x.npz"], "--model=a/b.npz: is no file; make it by mmn-jax fit --features=FEATURES --out=a, or"),
        (["--model=none"], "--features"),
        (["--model=none", "--features=x.npz", "--outt=a"], "--outt=a"),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(flags, named):
    done = subprocess.run([sys.executable, "-m", "mmn_jax.predict", *flags], capture_output=True, text=True)
    assert done.returncode == 2 and named in done.stderr and len(done.stderr.splitlines()) == 1 and done.stdout == ""


@pytest.mark.parametrize("place", ["none/out.csv", "file/out.csv", "folder"])
def test_an_output_that_cannot_be_written_is_one_line(workdir, tmp_path, capsys, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert predict.main([f"--model={workdir}", f"--features={workdir / 'x.npz'}", f"--out={tmp_path / place}"]) == 2
    error = capsys.readouterr().err
    assert f"--out={tmp_path / place}" in error and len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(workdir):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(workdir, workdir / "x.npz"), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and b"No space left" in done.stderr and len(done.stderr.splitlines()) == 1
