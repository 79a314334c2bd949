"""A run on features without test examples, by the command: some of train is held out for testing, or folds evaluate everything."""

import json

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import in_process

from mmn_jax.cli import predict
from mmn_jax.data.feature_files import assemble, fingerprint
from mmn_jax.methods.folds import in_order, training_folds
from mmn_jax.types import Normalised

COUNTS = np.array([40, 30, 20, 12, 9, 6, 4, 2, 1, 1])
NAMES = np.array([f"Größe {c}" for c in range(10)])
Y = np.random.default_rng(1).permutation(np.repeat(np.arange(10), COUNTS))
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(10, 6))[Y] * 1.5 + RNG.normal(size=(len(Y), 6))).astype(np.float32)
QUICK = [
    "--config.heads.l2=1e-2,1e-3", "--config.tuning.budget=2", "--config.eval.draws=50", "--config.kshot.top=0",
    "--config.kshot.subsets=2", "--config.meta.steps=5", "--config.meta.task_weight=0.1", "--config.meta.width=4",
]  # fmt: skip
FOLDS = "--config.data.validation=train"


def npy_folder(path):
    path.mkdir()
    np.save(path / "train_x.npy", X)
    np.save(path / "train_y.npy", NAMES[Y])


FORMS = {
    "text.npz": lambda path: np.savez(path, train_x=X, train_y=NAMES[Y]),
    "npy": npy_folder,
    "undivided.parquet": lambda path: pq.write_table(pa.table({"features": X.tolist(), "label": NAMES[Y]}), path),
}


def split(capsys, path, workdir, *flags):
    """Runs the stage `split`; returns its output and the manifest."""
    assert in_process("--stage=split", f"--config.data.path={path}", f"--workdir={workdir}", *flags) == 0
    return capsys.readouterr().out, json.loads((workdir / "seed-0" / "split.json").read_text())


@pytest.mark.parametrize("form", FORMS)
def test_a_share_of_train_is_held_out_from_every_form_with_text_labels(tmp_path, capsys, form):
    FORMS[form](tmp_path / form)
    said, manifest = split(capsys, tmp_path / form, tmp_path / "run", "--config.data.test_share=0.25", FOLDS)
    assert "30 test examples are held out of the training set, the same for all seeds; 2 classes have none" in said
    assert np.bincount(Y[manifest["test"]], minlength=10).tolist() == [10, 7, 5, 3, 2, 1, 1, 1, 0, 0]
    assert sorted(manifest["train"] + manifest["test"]) == list(range(len(Y)))
    assert manifest["rule"]["test_share"] == 0.25 and manifest["rule"]["test_seed"] == 0


def test_the_seed_of_the_test_examples_is_their_own_and_a_manifest_repeats_them(tmp_path, capsys):
    FORMS["text.npz"](tmp_path / "x.npz")
    share = ["--config.data.test_share=0.25", FOLDS]
    first = split(capsys, tmp_path / "x.npz", tmp_path / "a", *share)[1]
    assert (
        in_process(*share, "--stage=split", f"--config.data.path={tmp_path / 'x.npz'}", f"--workdir={tmp_path / 'b'}", "--config.seed=5")
        == 0
    )
    assert json.loads((tmp_path / "b" / "seed-5" / "split.json").read_text())["test"] == first["test"]
    assert split(capsys, tmp_path / "x.npz", tmp_path / "c", *share, "--config.data.test_seed=1")[1]["test"] != first["test"]
    repeated = f"--config.data.manifest={tmp_path / 'a' / 'seed-0' / 'split.json'}"
    again = split(capsys, tmp_path / "x.npz", tmp_path / "d", repeated, FOLDS)[1]
    assert (again["train"], again["test"]) == (first["train"], first["test"])


def with_test(path):
    np.savez(path, train_x=X, train_y=Y, test_x=X[:30] + 1, test_y=Y[:30])


def test_test_examples_that_are_there_are_used_and_the_share_is_not(tmp_path, capsys):
    with_test(tmp_path / "x.npz")
    said, manifest = split(capsys, tmp_path / "x.npz", tmp_path / "run", "--config.data.test_share=0.25", FOLDS)
    assert f"--config.data.test_share: not used, as {tmp_path / 'x.npz'} has test examples" in said and "test" not in manifest


WAYS = "--config.data.test_share=0.2 holds some of train out, --config.data.test=none trains on all and evaluates on folds"
BAD = {
    "nothing said": ([], f"PATH: has no test examples, test_x and test_y; add them, or {WAYS}"),
    "a share of 2": (["--config.data.test_share=2"], "--config.data.test_share: must be above 0 and below 1, it is 2.0"),
    "another word": (["--config.data.test=some"], "--config.data.test: must be auto or none, it is some"),
    "no folds": (
        ["--config.data.test=none"],
        "--config.data.test=none: trains on all examples and evaluates on folds; add --config.data.validation=train",
    ),
    "a list": (
        ["--config.data.test_share=0.2", "--config.data.longtail.indices=rows.txt"],
        "--config.data.test_share: not with data.longtail.indices=rows.txt; give the test examples that belong to this list",
    ),
    "images": (
        ["--config.data.test=none", FOLDS, "--config.data.source=images"],
        "--config.data.test=none: not for images; give test images, or --config.data.test_share with a folder",
    ),
    "seeds that evaluate other examples": (
        ["--config.data.test=none", FOLDS, "--config.seeds=0,1", "--config.data.longtail.max_per_class=5"],
        "--config.seeds: with data.test=none all seeds must evaluate the same examples, and each draws others; give one seed",
    ),
}


def test_folds_give_their_examples_back_in_the_order_of_the_training_set():
    train = Normalised(X, Y.astype(np.int32))
    held = COUNTS[Y] > 1
    for seed in (0, 1):
        folds = training_folds("toy", train, jax.random.key(seed), 3)
        np.testing.assert_array_equal(in_order([fold.val.y for fold in folds], folds), Y[held])
        np.testing.assert_array_equal(in_order([fold.val.x for fold in folds], folds), X[held])


def test_test_examples_that_are_not_used_are_said(tmp_path, capsys):
    with_test(tmp_path / "x.npz")
    said, manifest = split(capsys, tmp_path / "x.npz", tmp_path / "run", "--config.data.test=none", FOLDS)
    assert "the 30 test examples are not used, by --config.data.test=none" in said and len(manifest["train"]) == len(Y)


def test_a_validation_set_is_not_taken_for_a_test_set():
    arrays, others = {"train_x": X, "train_y": Y}, (X[:9] + 1, Y[:9])
    given = [arrays | dict(zip((f"{part}_x", f"{part}_y"), others, strict=True)) for part in ("val", "test")]
    found = [assemble(each, "toy", "toy", needs_test=False) for each in given]
    assert found[0].test is None and found[1].val is None and fingerprint(found[0]) != fingerprint(found[1])


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_evaluated_is_one_line(tmp_path, capsys, case):
    flags, message = BAD[case]
    FORMS["text.npz"](tmp_path / "x.npz")
    assert in_process("--stage=split", f"--config.data.path={tmp_path / 'x.npz'}", f"--workdir={tmp_path / 'run'}", *flags) == 2
    assert capsys.readouterr().err.replace(str(tmp_path / "x.npz"), "PATH") == f"{message}\n"


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory):
    """A run that trains on everything and is evaluated on folds."""
    folder = tmp_path_factory.mktemp("cross-validated")
    FORMS["undivided.parquet"](folder / "x.parquet")
    paths = ["--stage=meta", f"--config.data.path={folder / 'x.parquet'}", f"--workdir={folder / 'run'}"]
    assert in_process(*paths, "--config.data.test=none", FOLDS, *QUICK) == 0
    return folder


def test_without_a_test_set_everything_is_trained_on_and_folds_evaluate(cross_validated):
    table = json.loads((cross_validated / "run" / "results.json").read_text())
    assert table["evaluated_on"] == "folds" and table["class_names"] == NAMES.tolist() and table["counts"] == [COUNTS.tolist()]
    for name, method in table["methods"].items():
        of_class = np.array(table["per_class"][name][0])
        assert np.isnan(of_class).tolist() == [False] * 8 + [True] * 2  # a single example is in every fold's training set
        np.testing.assert_allclose(method["accuracy"], np.nanmean(of_class))
        np.testing.assert_allclose(method["accuracy"], method["val_accuracy"], rtol=1e-6)  # the same examples, the same fits
        right = of_class[:8] / 100 * COUNTS[:8]
        np.testing.assert_allclose(right, right.round(), atol=1e-6)  # every example of the class counts once
    assert table["methods"]["plain"]["accuracy"] < 99  # heads that had seen these examples would separate nearly all


def test_the_classifier_of_everything_predicts_by_name(cross_validated, tmp_path, capsys):
    np.savez(tmp_path / "new.npz", x=X, truth=NAMES[Y])
    assert predict.main([f"--model={cross_validated / 'run'}", f"--features={tmp_path / 'new.npz'}", "--id=truth"]) == 0
    lines = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    assert {line[2] for line in lines} <= set(NAMES) and np.mean([line[0] == line[2] for line in lines]) > 0.7
