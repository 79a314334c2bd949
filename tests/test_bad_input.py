"""Bad input, case by case: a command says one line that names the flag or file and what to do, and ends with 2; a function raises it.

In the messages DIR stands for the folder of the case's files, and a trailing ... for what another library says.
"""

import hashlib
import json
import zipfile

import numpy as np
import pytest
from commands import in_process

from mmn_jax.cli import diagnose, predict
from mmn_jax.data import feature_files
from mmn_jax.errors import BadInput
from mmn_jax.estimator import TailClassifier

OWN = ["--config=configs/own_features.py", "--config.data.path=DIR/good.npz"]


def good():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 6)
    return {"train_x": rng.normal(size=(18, 4)), "train_y": y, "test_x": rng.normal(size=(18, 4)), "test_y": y}


def save(name, **changes):
    """Writes good features with these arrays in place of their own, None for without."""

    def write(folder):
        arrays = {key: value for key, value in (good() | changes).items() if value is not None}
        np.savez(folder / name, **arrays)

    return write


def text(name, content):
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def nothing(folder):
    pass


def manifest(**changes):
    def write(folder):
        features = feature_files.from_arrays(**good())
        from mmn_jax.data import longtail, manifest

        content = manifest.describe(features, np.full(18, longtail.TRAIN, np.int8), 0, {}) | changes
        if "train" in changes:
            content["indices_sha256"] = hashlib.sha256(np.array(content["train"], "<i8").tobytes()).hexdigest()
        (folder / "split.json").write_text(json.dumps(content))

    return write


def parquet(name="data.parquet", **columns):
    def write(folder):
        import pyarrow as pa
        import pyarrow.parquet

        usual = {"features": [[0.0, 1.0]] * 4, "label": ["a", "b", "a", "b"], "split": ["train", "train", "test", "test"]}
        table = {key: value for key, value in (usual | columns).items() if value is not None}
        pyarrow.parquet.write_table(pa.table(table), folder / name)

    return write


def settings(*pairs):
    return [f"--config.{pair}" for pair in pairs]


# name: flags, message; the files they need are written first
COMMAND = {
    "unknown stage": (
        ["--stage=fly"],
        "--stage=fly: value should be one of <features|split|heads|kshot|meta|eval|report|all>",
        nothing,
    ),
    "unknown flag": (["--nope=1"], "--nope: no such flag; --help lists them all", nothing),
    "stray word": (["meta"], "meta: not a flag; settings are given as --config.KEY=VALUE", nothing),
    "processes that are no number": (["--processes=two"], "--processes=two: must be an integer", nothing),
    "one process of several without a coordinator": (
        ["--process=1"],
        "--coordinator: is missing; --processes and --process need it, HOST:PORT of process 0 or auto",
        nothing,
    ),
    "coordinator": (["--coordinator=here"], "--coordinator=here: must be HOST:PORT of process 0, or auto", nothing),
    "missing recipe": (["--config=configs/none.py"], "--config=configs/none.py: no such file; recipes are in ROOT/configs", nothing),
    "recipe that fails": (
        ["--config=DIR/recipe.py"],
        "--config=DIR/recipe.py: line 2: ValueError: no luck",
        text("recipe.py", "def get_config():\n    raise ValueError('no luck')"),
    ),
    "recipe that isn't Python": (
        ["--config=DIR/recipe.py"],
        "--config=DIR/recipe.py: '{' was never closed (recipe.py, line 1)",
        text("recipe.py", "{"),
    ),
    "recipe that misses a key of its own": (
        ["--config=DIR/recipe.py"],
        "--config=DIR/recipe.py: line 2: KeyError: 'width'",
        text("recipe.py", "def get_config():\n    return {}['width']"),
    ),
    "recipe that returns nothing": (
        ["--config=DIR/recipe.py"],
        "--config=DIR/recipe.py: get_config() must return mmn_jax.config.default(), changed as needed",
        text("recipe.py", "def get_config():\n    pass"),
    ),
    "function on the command line": (
        settings("features.backbone=mine"),
        "--config.features.backbone: must be a function, given in the recipe",
        nothing,
    ),
    "unknown setting in a recipe": (
        ["--config=DIR/recipe.py", *settings("meta.wings=2")],
        "--config=DIR/recipe.py: line 4: wings: no such setting; --help and docs/config.md list them all",
        text("recipe.py", "from mmn_jax.config import default\ndef get_config():\n    config = default()\n    config.meta.wings = 2"),
    ),
    "unknown setting": (
        settings("meta.widht=2"),
        "--config.meta.widht: no such setting, did you mean width; --help and docs/config.md list them all",
        nothing,
    ),
    "unknown section": (settings("mata.width=2"), "--config.mata.width: no such setting...", nothing),
    "setting of two lines": (
        settings("data.source=a\nb"),
        "--config.data.source: must be auto, glyphs, npz, synthetic, images or fonts, it is a\\nb",
        nothing,
    ),
    "setting of the wrong type": (settings("meta.steps=many"), "--config.meta.steps=many: must be an integer", nothing),
    "a setting is never evaluated": (
        settings("heads.l2=__import__('os').getcwd()"),
        "--config.heads.l2: must list numbers above 0, it is ...",
        nothing,
    ),
    "text for numbers": (settings("heads.l2=abc"), "--config.heads.l2: must list numbers above 0, it is abc", nothing),
    "empty grid": (settings("heads.l2=()"), "--config.heads.l2: must list numbers above 0, it is empty", nothing),
    "ridge of 0": (settings("heads.l2=0.0"), "--config.heads.l2: must list numbers above 0, it is 0.0", nothing),
    "infinite ridge": (settings("kshot.l2=inf"), "--config.kshot.l2: must be above 0, it is inf", nothing),
    "tolerance": (settings("heads.tol=nan"), "--config.heads.tol: must be above 0, it is nan", nothing),
    "seed": (settings("seed=-1"), "--config.seed: must be from 0 to 2^31 - 1, it is -1", nothing),
    "a seed twice": (settings("seeds=1,1"), "--config.seeds: must list different integers from 0 to 2^31 - 1, it is 1, 1", nothing),
    "steps": (settings("meta.steps=0"), "--config.meta.steps: must be at least 1, and below 2^31, it is 0", nothing),
    "a number with hundreds of digits": (settings("meta.batch=1" + "0" * 400), "--config.meta.batch: must be at least 1...", nothing),
    "too much held out": (settings("meta.held_out=0.9"), "--config.meta.held_out: must be above 0 and at most 0.5, it is 0.9", nothing),
    "folds": (settings("data.folds=1"), "--config.data.folds: must be at least 2, and below 2^31, it is 1", nothing),
    "split": (settings("meta.split=random"), "--config.meta.split: must be recursive or fixed, it is random", nothing),
    "precision": (settings("meta.precision=int8"), "--config.meta.precision: must be float32 or bfloat16, it is int8", nothing),
    "validation": (settings("data.validation=test"), "--config.data.validation: must be set or train, it is test", nothing),
    "source": (
        settings("data.source=web"),
        "--config.data.source: must be auto, glyphs, npz, synthetic, images or fonts, it is web",
        nothing,
    ),
    "profile": (settings("data.longtail.profile=log"), "--config.data.longtail.profile: must be exp, pareto or step, it is log", nothing),
    "profile alone": (
        [*OWN, *settings("data.longtail.profile=step")],
        "--config.data.longtail.profile=step: needs data.longtail.imbalance",
        save("good.npz"),
    ),
    "thresholds": (settings("eval.few=9", "eval.many=8"), "--config.eval.few: must not be above eval.many (8), it is 9", nothing),
    "synthetic counts that rise": (
        settings("data.source=synthetic", "data.synthetic.median=2000"),
        "--config.data.synthetic: needs classes from 2, dim and test_per_class from 1, largest >= median >= least >= 1, scatter above 0",
        nothing,
    ),
    "a Parquet column of no file": (
        settings("data.path=DIR/data.parquet", "data.columns.label=y"),
        "DIR/data.parquet: column y is missing, it has features, label, split; name it by --config.data.columns.label, or rename it",
        parquet(),
    ),
    "imbalance": (settings("data.longtail.imbalance=-1"), "--config.data.longtail.imbalance: must be above 0, it is -1.0", nothing),
    "imbalance of 0": (settings("data.longtail.imbalance=0"), "--config.data.longtail.imbalance: must be above 0, it is 0.0", nothing),
    "largest class": (
        settings("data.longtail.max_per_class=0"),
        "--config.data.longtail.max_per_class: must be an integer from 1 up, below 2^31, it is 0",
        nothing,
    ),
    "validation of nothing": (
        [*OWN, *settings("data.val_per_class=0")],
        "--config.data.val_per_class: must be at least 1 where there is no val_x, it is 0",
        save("good.npz"),
    ),
    "fine-tuning of features": (
        settings("features.finetune=fixed"),
        "--config.features.finetune=fixed: needs images, --config.data.source=images or fonts; it is auto",
        nothing,
    ),
    "fine-tuning without a validation set": (
        settings("features.finetune=recursive", "data.source=fonts", "data.validation=train"),
        "--config.features.finetune=recursive: needs a validation set of its own, not --config.data.validation=train",
        nothing,
    ),
    "fine-tuning at every stage of a split without stages": (
        settings("features.finetune=recursive", "data.source=fonts", "meta.split=fixed"),
        "--config.features.finetune=recursive: its last level is that of all classes, which --config.meta.split=fixed leaves out;"
        " give finetune=fixed",
        nothing,
    ),
    "fine-tuning of what": (
        settings("features.finetune=twice"),
        "--config.features.finetune: must be none, fixed or recursive, it is twice",
        nothing,
    ),
    "network": (settings("features.network=vit"), "--config.features.network: must be plain or residual, it is vit", nothing),
    "augment": (settings("features.augment=mixup"), "--config.features.augment: must be letters or photo, it is mixup", nothing),
    "epochs of fine-tuning": (settings("finetune.epochs=0"), "--config.finetune.epochs: must be above 0, it is 0.0", nothing),
    "adjusted loss": (settings("finetune.adjust=-1"), "--config.finetune.adjust: must be from 0 up, and below 2^31, it is -1.0", nothing),
    "workdir below a file": (["--workdir=DIR/file/run"], "--workdir=DIR/file/run: cannot be made (Not a directory)", text("file", "")),
    "features where the recipe has its own": (
        settings("data.path=mine.npz", "data.source=synthetic"),
        "--config.data.path=mine.npz: not with data.source=synthetic, which has its own features",
        nothing,
    ),
    "no path": (OWN[:1], "--config.data.path: give the file or folder with your features", nothing),
    "missing file": ([OWN[0], "--config.data.path=DIR/none.npz"], "DIR/none.npz: no such file", nothing),
    "prior that is no file": (
        [*OWN, *settings("eval.prior=often")],
        "--config.eval.prior=often: must be uniform, train, or a text file of 3 numbers",
        save("good.npz"),
    ),
    "prior that is a folder": (
        [*OWN, *settings("eval.prior=")],
        "--config.eval.prior=: must be uniform, train, or a text file of 3 numbers",
        save("good.npz"),
    ),
    **{
        f"prior of {content!r}": (
            [*OWN, *settings("eval.prior=DIR/prior.txt")],
            f"--config.eval.prior=DIR/prior.txt: {message}",
            lambda folder, content=content: (save("good.npz")(folder), text("prior.txt", content)(folder)),
        )
        for content, message in {
            "1 2": "must hold 3 numbers, one a class; it has 2",
            "1 2 -3": "must hold numbers from 0 up, of a finite sum above 0",
            "0 0 0": "must hold numbers from 0 up, of a finite sum above 0",
            "1e308 1e308 1e308": "must hold numbers from 0 up, of a finite sum above 0",
            "nan 1 1": "must hold numbers from 0 up, of a finite sum above 0",
            "one two three": "must be uniform, train, or a text file of 3 numbers",
            b"\xff\xfe\x00": "must be uniform, train, or a text file of 3 numbers",
        }.items()
    },
    **{
        f"list of {content!r}": (
            [*OWN, *settings("data.longtail.indices=DIR/rows.txt")],
            f"--config.data.longtail.indices=DIR/rows.txt: {message}",
            lambda folder, content=content: (save("good.npz")(folder), text("rows.txt", content)(folder)),
        )
        for content, message in {
            "0\n18": "line 2 is '18', it must be a row of train_x, 0 to 17",
            "-1": "line 1 is '-1', it must be a row of train_x, 0 to 17",
            "0.5": "line 1 is '0.5', it must be a row of train_x, 0 to 17",
            "٣": "line 1 is '٣', it must be a row of train_x, 0 to 17",
            "1" * 5000: f"line 1 is '{'1' * 40}', it must be a row of train_x, 0 to 17",
            "0\n\n0": "row 0 is listed twice",
            "0\n1": "class 1 has no training example in it",
            "": "class 0 has no training example in it",
            b"\xff": "cannot be read as text",
        }.items()
    },
    "list that leaves none to validate on": (
        [*OWN, *settings("data.longtail.indices=DIR/rows.txt")],
        "--config.data.val_per_class: the listed rows leave none to validate on; give val_x and val_y",
        lambda folder: (save("good.npz")(folder), text("rows.txt", "\n".join(map(str, range(18))))(folder)),
    ),
    "missing list": (
        [*OWN, *settings("data.longtail.indices=DIR/rows.txt")],
        "--config.data.longtail.indices=DIR/rows.txt: cannot be read as text",
        save("good.npz"),
    ),
    "missing manifest": (
        [*OWN, *settings("data.manifest=DIR/none.json")],
        "--config.data.manifest=DIR/none.json: cannot be read (No such file or directory)",
        save("good.npz"),
    ),
    **{
        f"manifest {name}": (
            [*OWN, *settings("data.manifest=DIR/split.json")],
            f"--config.data.manifest=DIR/split.json: {message}",
            lambda folder, write=write: (save("good.npz")(folder), write(folder)),
        )
        for name, (write, message) in {
            "that isn't JSON": (text("split.json", "{"), "not a split manifest; a run writes one as seed-N/split.json"),
            "that is a list": (text("split.json", "[]"), "not a split manifest; a run writes one as seed-N/split.json"),
            "nested without end": (text("split.json", "[" * 100_000), "not a split manifest; a run writes one as seed-N/split.json"),
            "of bytes": (text("split.json", b"\xff\xfe"), "not a split manifest; a run writes one as seed-N/split.json"),
            "with an index beyond integers": (manifest(val=[10**30]), "not a split manifest; a run writes one as seed-N/split.json"),
            "of other labels": (manifest(labels_sha256="x"), "made for other features: the labels of train_y differ"),
            "with other indices": (manifest(val=[1]), "its indices were changed, their checksum differs"),
            "with a row twice": (manifest(train=[0, 0]), "its indices must be different rows of train_x, 0 to 17"),
            "without a class": (manifest(train=[0, 1]), "class 1 has no training example in it"),
            "that holds nothing out": (manifest(), "its split holds nothing out to validate on; add --config.data.validation=train"),
        }.items()
    },
    "single examples that have to choose": (
        [*OWN, *settings("data.validation=train")],
        "--config.data.validation=train: every class has a single example, so nothing can be chosen on folds; give val_x and val_y",
        save("good.npz", train_x=np.eye(3, 4), train_y=np.arange(3)),
    ),
    "classes too small to validate on": (
        OWN,
        "--config.data.val_per_class: no class has 3 examples to spare one for validation; give val_x and val_y",
        save("good.npz", train_x=np.eye(3, 4), train_y=np.arange(3)),
    ),
    "a single point": (
        OWN,
        "train_x: every example is the same point, there is nothing to learn from",
        save("good.npz", train_x=np.full((18, 4), 0.1)),
    ),
    "nearly a single point": (
        OWN,
        "train_x: its examples lie 2e-30 from their mean; multiply all features to bring that near 1",
        save("good.npz", train_x=good()["train_x"] * 1e-30),
    ),
    "huge features": (
        OWN,
        "train_x: its examples lie 2e+30 from their mean; multiply all features to bring that near 1",
        save("good.npz", train_x=good()["train_x"] * 1e30),
    ),
    "a row from another world": (
        OWN,
        "features: row 0 lies 1e+18 times further out than the training features; is it damaged?",
        save("good.npz", test_x=np.full((18, 4), 3e38)),
    ),
}


def check_line(message, error, folder):
    """The message, in one line, exactly; or what it begins with."""
    root = str(feature_files.Path(__file__).resolve().parents[1])
    error = error.replace(str(folder), "DIR").replace(root, "ROOT").removesuffix("\n")
    assert "\n" not in error and "Traceback" not in error
    start = message.removesuffix("...")
    assert (error[: len(start)] if message.endswith("...") else error) == start


@pytest.mark.parametrize("case", COMMAND)
def test_the_command_says_what_is_wrong(tmp_path, capsys, case):
    flags, message, write = COMMAND[case]
    write(tmp_path)
    flags = [flag.replace("DIR", str(tmp_path)) for flag in flags]
    workdir = [] if any(flag.startswith("--workdir") for flag in flags) else [f"--workdir={tmp_path / 'run'}"]
    assert in_process("--stage=split", *workdir, *flags) == 2
    check_line(message, capsys.readouterr().err, tmp_path)


def a_zip(folder):
    with zipfile.ZipFile(folder / "good.npz", "w") as archive:
        archive.writestr("../outside.npy", "x")
        archive.writestr("train_x.npy", "x")


def with_header(header):
    """An npz whose train_x has this header in place of its own."""

    def write(folder):
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        with zipfile.ZipFile(folder / "good.npz", "w") as archive:
            archive.writestr("train_x.npy", content)

    return write


def folder_of(**arrays):
    def write(folder):
        (folder / "npy").mkdir()
        for name, array in arrays.items():
            np.save(folder / "npy" / f"{name}.npy", array, allow_pickle=True)

    return write


FILES = {
    "missing": ("good.npz", "DIR/good.npz: no such file", nothing),
    "a folder without arrays": (".", "DIR: neither npy nor Parquet files in it; it must hold train_x.npy, ...", nothing),
    "a single npy file": (
        "x.npy",
        "DIR/x.npy: a single npy file; give the folder with train_x.npy, train_y.npy, test_x.npy and test_y.npy",
        nothing,
    ),
    "text": ("good.npz", "DIR/good.npz: not an npz file; write it with numpy.savez, or give Parquet or...", text("good.npz", "1,2")),
    "empty": ("good.npz", "DIR/good.npz: not an npz file; write it with numpy.savez, or give Parquet or...", text("good.npz", "")),
    "a zip that points outside": ("good.npz", "DIR/good.npz: ../outside is not an array; write the file with numpy.savez", a_zip),
    "a pickle": (
        "good.npz",
        "DIR/good.npz: array train_x holds Python objects, which are never loaded; save plain numbers or strings (text by .astype(str))",
        save("good.npz", train_x=np.array([print] * 18)),
    ),
    "a header that is a program": ("good.npz", "DIR/good.npz: array train_x is damaged", with_header(b"__import__('os').getcwd()\n")),
    "a header that doesn't end": ("good.npz", "DIR/good.npz: array train_x is damaged", with_header(b"{'descr': (((\n")),
    "more rows than any memory holds": (
        "good.npz",
        "DIR/good.npz: array train_x doesn't fit into memory",
        with_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000, 4)}\n"),
    ),
    "names for labels in one part": (
        "good.npz",
        "DIR/good.npz: test_y has integers without names, train_y names (a, b, c); they can't be matched, write names in both",
        save("good.npz", train_y=np.array(list("abc") * 6)),
    ),
    "times for labels": (
        "good.npz",
        "DIR/good.npz: train_y must be [n] integers or names, it is timedelta64[s] [18]",
        save("good.npz", train_y=np.arange(18).astype("m8[s]")),
    ),
    "times for features": (
        "good.npz",
        "DIR/good.npz: train_x must be [n, d] numbers, it is timedelta64[s] [18, 4]",
        save("good.npz", train_x=np.zeros((18, 4), "m8[s]")),
    ),
    "truth for labels": (
        "good.npz",
        "DIR/good.npz: train_y must be [n] integers or names, it is bool [18]",
        save("good.npz", train_y=np.arange(18) > 8),
    ),
    "complex features": (
        "good.npz",
        "DIR/good.npz: train_x must be [n, d] numbers, it is complex128 [18, 4]",
        save("good.npz", train_x=np.zeros((18, 4), complex)),
    ),
    "labels from 1": (
        "good.npz",
        "DIR/good.npz: labels start at 1, they must be integers from 0; subtract 1 from all of them",
        save("good.npz", train_y=good()["train_y"] + 1, test_y=good()["test_y"] + 1),
    ),
    "a gap in the labels": (
        "good.npz",
        "DIR/good.npz: class 1 (1) has no example in train_y",
        save("good.npz", train_y=good()["train_y"] * 2, test_y=good()["test_y"] * 2),
    ),
    "a class in test alone": (
        "good.npz",
        "DIR/good.npz: test_y has label 3, but there are 3 classes (0 to 2)",
        save("good.npz", test_y=good()["test_y"] + 1),
    ),
    "a class in val alone": (
        "good.npz",
        "DIR/good.npz: val_y has label 9, but there are 3 classes (0 to 2)",
        save("good.npz", val_x=np.zeros((1, 4)), val_y=np.array([9])),
    ),
    "a folder with a pickle": (
        "npy",
        "DIR/npy/train_x.npy: not an npy file of plain numbers or strings, or damaged; write it with numpy.save",
        folder_of(train_x=np.array([{}])),
    ),
    "a folder without labels": ("npy", "DIR/npy: array train_y is missing; it has train_x", folder_of(train_x=np.zeros((2, 2)))),
    "no Parquet file": ("x.parquet", "DIR/x.parquet: no such file", nothing),
    "text as Parquet": ("x.parquet", "DIR/x.parquet: not a Parquet file, or damaged", text("x.parquet", "PAR1")),
    "Parquet without features": (
        "data.parquet",
        "DIR/data.parquet: column features is missing, it has label, split; name it by columns.features, or rename it",
        parquet(features=None),
    ),
    "Parquet with another split": (
        "data.parquet",
        "DIR/data.parquet: column split has 'night', it must say train, validation, test or unlabelled",
        parquet(split=["train", "train", "test", "night"]),
    ),
    "Parquet of ragged lists": (
        "data.parquet",
        "DIR/data.parquet: column features of train has lists of different lengths: 2 in row 0, 1 in row 1",
        parquet(features=[[0.0, 1.0], [1.0], [0.0, 1.0], [0.0, 1.0]]),
    ),
    "Parquet with an empty row": (
        "data.parquet",
        "DIR/data.parquet: column features of train has no value in row 1",
        parquet(features=[[0.0, 1.0], None, [0.0, 1.0], [0.0, 1.0]]),
    ),
    "Parquet with an unknown name": (
        "data.parquet",
        "DIR/data.parquet: column label of test has the name 'c', which train doesn't have",
        parquet(label=["a", "b", "a", "c"]),
    ),
    "Parquet of fractions": (
        "data.parquet",
        "DIR/data.parquet: column label of test must hold integers or names, it holds double",
        parquet(label=[0.5] * 4),
    ),
    "Parquet files of other names": (
        ".",
        "DIR/more.parquet: its name must be train, validation, test or unlabelled, or one of these and -00000-of-00002",
        parquet("more.parquet"),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_features_is_refused_by_what_is_wrong_with_it(tmp_path, case):
    name, message, write = FILES[case]
    write(tmp_path)
    with pytest.raises(BadInput) as caught:
        feature_files.load(tmp_path / name)
    check_line(message, str(caught.value), tmp_path)
    assert not (tmp_path.parent / "outside.npy").exists()


def fit(**parameters):
    return lambda: TailClassifier(**{"method": "ncm", "budget": 1, **parameters}).fit(good()["train_x"], good()["train_y"])


FUNCTIONS = {
    "method": (fit(method="magic"), "method: must be one of plain, over_sampling, ..."),
    "ridge": (fit(l2=[1.0, -1.0]), "l2: must be a number above 0 or a list of them, it is [1.0, -1.0]"),
    "ridge in words": (fit(l2="strong"), "l2: must be numbers, it is 'strong'"),
    "budget": (fit(budget=0), "budget: must be an integer from 1 up, it is 0"),
    "folds": (fit(folds=1.5), "folds: must be an integer from 2 up, it is 1.5"),
    "prior": (fit(prior="often"), "prior: must be uniform, train or 3 numbers, it is 'often'"),
    "no prior": (fit(prior=None), "prior: must be uniform, train or 3 numbers, it is None"),
    "prior in words": (fit(prior=["a", "b", "c"]), "prior: must be numbers, it is ['a', 'b', 'c']"),
    "prior of another length": (fit(prior=[1.0]), "prior: must hold 3 numbers, one a class; it has 1"),
    "one class": (lambda: TailClassifier().fit([[0.0], [1.0]], ["a", "a"]), "y: only one class, 'a'; a classifier needs at least two"),
    "one point": (
        lambda: TailClassifier().fit([[0.1], [0.1]], [0, 1]),
        "X: every example is the same point, there is nothing to learn from",
    ),
    "a validation label of its own": (
        lambda: TailClassifier().fit([[0.0], [1.0]], [0, 1], X_val=[[0.0]], y_val=[7]),
        "y_val: label 7 is not in y",
    ),
    "half a validation set": (lambda: TailClassifier().fit([[0.0], [1.0]], [0, 1], X_val=[[0.0]]), "X_val and y_val: give both or neither"),
    "a known class": (lambda: fit()().add_class([[0.0] * 4], 2), "add_class: label 2 is known; fit again with the new examples"),
    "a class of another type": (
        lambda: fit()().add_class([[0.0] * 4], "new"),
        "add_class: 'new' must be one label of the type of the others, such as 0",
    ),
    "no rows": (
        lambda: fit(method="knn")().add_class([[0.0] * 4], 3),
        "add_class: the method has no rows; fit again with the new examples",
    ),
    "features from another world": (
        lambda: fit()().predict(np.full((2, 4), 3e38)),
        "X: row 0 lies 1e+18 times further out than the training features; is it damaged?",
    ),
    "new examples from another world": (
        lambda: fit()().add_class(np.full((2, 4), 3e38), 3),
        "X_few: row 0 lies 1e+18 times further out than the training features; is it damaged?",
    ),
    "nothing to subsample": (
        lambda: fit()().diagnose(good()["train_x"], good()["train_y"]),
        "y: 0 of 3 classes have 8 examples or more; at least 3 must, to be subsampled and evaluated",
    ),
    "one cut": (
        lambda: fit()().diagnose(good()["train_x"], good()["train_y"], cuts=1),
        "cuts: must be at least 2 for an interval, it is 1",
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_the_estimator_says_what_is_wrong(case):
    call, message = FUNCTIONS[case]
    with pytest.raises(BadInput) as caught:
        call()
    check_line(message, str(caught.value), "DIR")


def a_model(folder):
    arrays = {"W": np.eye(2, 4), "b": np.zeros(2), "class_names": np.array(["a", "b"]), "mean": np.zeros(4), "scale": np.ones(4)}
    np.savez(
        folder / "classifier.npz",
        temperature=np.float32(1),
        **{name: one.astype(one.dtype.str.replace("f8", "f4")) for name, one in arrays.items()},
    )
    np.save(folder / "far.npy", np.full((2, 4), 3e38, np.float32) * [[0], [1]])
    np.save(folder / "huge.npy", np.full((2, 4), 1e300))


def another_model(folder):
    a_model(folder)
    content = bytearray((folder / "classifier.npz").read_bytes())
    content[150:160] = bytes(10)
    (folder / "classifier.npz").write_bytes(content)


TOOLS = {
    "predict without flags": (predict.main, [], "the following arguments are required: --model, --features; see --help", nothing),
    "predict with a flag of no one": (
        predict.main,
        ["--model=a", "--features=b", "--fast"],
        "unrecognized arguments: --fast; see --help",
        nothing,
    ),
    "predict without a model": (
        predict.main,
        ["--model=DIR", "--features=x"],
        "--model=DIR: has no classifier.npz; make it by mmn-jax fit --features=FEATURES --out=DIR, or bin/run.py --stage=meta --workdir=DIR"
        " --config.data.path=FEATURES",
        nothing,
    ),
    "predict by a damaged model": (
        predict.main,
        ["--model=DIR", "--features=x"],
        "DIR/classifier.npz: array temperature is damaged",
        another_model,
    ),
    "predict what isn't there": (
        predict.main,
        ["--model=DIR", "--features=DIR/x.npz"],
        "--features=DIR/x.npz: cannot be read (No such file or directory)",
        a_model,
    ),
    "predict what float32 cannot hold": (
        predict.main,
        ["--model=DIR", "--features=DIR/huge.npy", "--out=DIR/out"],
        "--features=DIR/huge.npy: row 0 has a value that is NaN, infinite or beyond float32",
        a_model,
    ),
    "predict what float32 cannot score": (
        predict.main,
        ["--model=DIR", "--features=DIR/wide.npy", "--out=DIR/out"],
        "--features=DIR/wide.npy: row 1 is too large, its scores overflow float32; is it damaged?",
        lambda folder: (
            a_model(folder),
            np.savez(folder / "classifier.npz", **dict(np.load(folder / "classifier.npz")) | {"W": np.full((2, 4), 10, np.float32)}),
            np.save(folder / "wide.npy", np.full((2, 4), 3e38, np.float32) * np.array([[0], [1]], np.float32)),
        ),
    ),
    "diagnose without flags": (diagnose.main, [], "the following arguments are required: --features; see --help", nothing),
    "diagnose with cuts in words": (
        diagnose.main,
        ["--features=x", "--cuts=many"],
        "argument --cuts: invalid int value: 'many'; see --help",
        nothing,
    ),
    "diagnose without a column": (
        diagnose.main,
        ["--features=DIR/data.parquet", "--config.data.columns.features=x"],
        "DIR/data.parquet: column x is missing, it has features, label, split; name it by --config.data.columns.features, or rename it",
        parquet(),
    ),
    "diagnose what isn't there": (diagnose.main, ["--features=DIR/none.npz"], "DIR/none.npz: no such file", nothing),
    "diagnose with one cut": (
        diagnose.main,
        ["--features=DIR/good.npz", "--cuts=1"],
        "--cuts: must be at least 2 for an interval, it is 1",
        save("good.npz"),
    ),
    "diagnose with no seed": (diagnose.main, ["--features=x", "--seed=-1"], "--seed: must be from 0 to 2^31 - 1, it is -1", nothing),
    "diagnose classes too small": (
        diagnose.main,
        ["--features=DIR/good.npz"],
        "DIR/good.npz: train_y: 0 of 3 classes have 8 examples or more; at least 3 must, to be subsampled and evaluated",
        save("good.npz"),
    ),
}


@pytest.mark.parametrize("case", TOOLS)
def test_the_other_commands_say_what_is_wrong(tmp_path, capsys, case):
    main, flags, message, write = TOOLS[case]
    write(tmp_path)
    assert main([flag.replace("DIR", str(tmp_path)) for flag in flags]) == 2
    check_line(message, capsys.readouterr().err, tmp_path)
    assert not (tmp_path / "out").exists()
