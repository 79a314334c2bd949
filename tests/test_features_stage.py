"""From images to features: batches, pieces, what is remade and what isn't, and one line for whatever cannot be used."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from commands import ROOT, environment
from PIL import Image

from mmn_jax.config import default
from mmn_jax.data import feature_files
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import stages
from mmn_jax.store import artifacts
from mmn_jax.store.terminal import make_terminal
from mmn_jax.vision import arrays, backbones, extract, folders, render
from mmn_jax.vision import features as stage

QUIET = make_terminal(False)
TRACK = lambda items, name: items  # noqa: E731 - no progress bar


def shaded(n, side=16, classes=4, seed=0):
    """uint8 [n, side, side] of noise whose mean tells the class, and labels [n]."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % classes).astype(np.int32)
    return (rng.integers(0, 40, (n, side, side)) + 50 * y[:, None, None]).astype(np.uint8), y


@jax.jit
def means(batch):
    """[B, 6] mean and a pixel of each colour."""
    x = batch.astype(jax.numpy.float32)
    return jax.numpy.concatenate([x.mean((1, 2)), x[:, 0, 1]], 1)


def plainly(x):
    x = arrays.coloured(x).astype(np.float32)
    return np.concatenate([x.mean((1, 2)), x[:, 0, 1]], 1).astype(np.float16)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(extract, "PIECE", 40)


@pytest.mark.parametrize("n", [1, 8, 39, 100])
def test_batches_over_the_devices_give_what_one_image_at_a_time_gives(n, tmp_path, small_pieces):
    x, y = shaded(n)
    paths, _ = extract.part_features(means, arrays.in_memory(x, y), tmp_path, "train", 0, 15, TRACK)
    assert len(paths) == -(-n // 40)
    extract.join(paths, tmp_path / "train_x.npy")
    made = np.load(tmp_path / "train_x.npy")
    assert made.dtype == np.float16 and [path.name for path in tmp_path.iterdir()] == ["train_x.npy"]
    np.testing.assert_allclose(made, plainly(x), rtol=2e-3)


def test_a_batch_lies_on_every_device_and_always_has_one_shape(tmp_path):
    seen = set()

    def look(batch):
        seen.add((batch.shape, len(batch.sharding.device_set)))
        return means(batch)

    extract.part_features(look, arrays.in_memory(*shaded(53)), tmp_path, "train", 0, 10, TRACK)
    assert seen == {((16, 16, 16, 3), jax.device_count())} and jax.device_count() == 8


def test_work_that_was_stopped_goes_on_after_the_last_piece(tmp_path, small_pieces):
    x, y = shaded(100)
    computed = []

    def stopping(batch):
        computed.append(len(batch))
        if len(computed) == 4:
            raise KeyboardInterrupt
        return means(batch)

    with pytest.raises(KeyboardInterrupt):
        extract.part_features(stopping, arrays.in_memory(x, y), tmp_path, "train", 0, 16, TRACK)
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00003.npy"]
    paths, again = extract.part_features(stopping, arrays.in_memory(x, y), tmp_path, "train", 0, 16, TRACK)
    assert again == 60 and len(computed) == 4 + 3 + 2  # two pieces, of 40 and of 20
    extract.join(paths, tmp_path / "train_x.npy")
    np.testing.assert_allclose(np.load(tmp_path / "train_x.npy"), plainly(x), rtol=2e-3)


def test_images_are_brought_to_size_and_their_middle_is_kept():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    assert (extract.resized(wide, 20) == 200).all() and extract.resized(wide, 0) is wide
    halved = extract.resized(wide, 10)
    assert halved.shape == (10, 10, 3) and (np.abs(halved[:, 2:-2].astype(int) - 200) < 3).all()
    assert extract.resized(wide[:, :7], 15).shape == (15, 15, 3)


BAD_BACKBONES = {
    "shape": (lambda batch: batch, r"^train, images from 0: .* must return \[8, d\] features for 8 images, it returned \[8, 16, 16, 3\]$"),
    "nan": (lambda batch: np.full((8, 2), np.nan), r"^train, images from 0: features.backbone returned a value that is NaN, infinite"),
    "large": (lambda batch: np.full((8, 2), 1e6), r"^train, images from 0: .* beyond float16's 65504$"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BACKBONES)
def test_features_that_are_none_give_one_line(case, tmp_path):
    backbone, message = BAD_BACKBONES[case]
    with pytest.raises(BadInput, match=message):
        extract.part_features(backbone, arrays.in_memory(*shaded(8)), tmp_path, "train", 0, 8, TRACK)


# files


def write_npz(path, base=True, **changes):
    """Shaded images in the layout of an npz of images; a change to None leaves an array out."""
    made = {"class_names": np.array(list("abcd"))}
    for i, (part, n) in enumerate((("train", 120), ("test", 40), ("base", 96))):
        made[f"{part}_x"], made[f"{part}_y"] = shaded(n, seed=i)
    if not base:
        changes = {"base_x": None, "base_y": None, **changes}
    np.savez(path, **{name: array for name, array in (made | changes).items() if array is not None})
    return path


X, Y = shaded(120)
BAD_FILES = {
    "floats": ({"train_x": X / 255}, "train_x must be images, uint8 [n, H, W], [n, H, W, 1] or [n, H, W, 3]; it is float64 [120, 16, 16]"),
    "rows": ({"train_y": Y[:5]}, "train_x has 120 rows, train_y 5"),
    "negative": ({"train_y": Y - 1}, "train_y has the negative label -1 in row 0"),
    "beyond": ({"test_y": shaded(40)[1] + 4}, "test_y has label 7, but there are 4 classes (0 to 3)"),
    "no test": ({"test_x": None, "test_y": None}, "array test_x is missing; it has class_names, train_x, train_y, base_x, base_y"),
    "half": ({"base_y": None}, "array base_y is missing; it has class_names, train_x, train_y, test_x, test_y, base_x"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_npz_files_that_cannot_be_used_give_one_line(case, tmp_path):
    changes, message = BAD_FILES[case]
    path = write_npz(tmp_path / "images.npz", **changes)
    with pytest.raises(BadInput) as caught:
        arrays.image_file(path)
    assert str(caught.value) == f"{path}: {message}"


def config_for(path, **features):
    config = default()
    config.data.source, config.data.path = "images", str(path)
    config.features.update({"dim": 8, "widths": (4, 8), "epochs": 20.0, "rate": 1e-2, "batch": 32, **features})
    return config


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """The workdir of a run whose network was trained by itself, its FeatureSet, and the file of images."""
    folder = tmp_path_factory.mktemp("own")
    path = write_npz(folder / "images.npz")
    with jax.numpy_dtype_promotion("standard"):
        return folder, stage.make(config_for(path), folder, QUIET), path


def test_the_stage_leaves_features_with_a_card(extracted):
    workdir, features, _ = extracted
    (folder,) = workdir.glob("features-*")
    card = json.loads((folder / "card.json").read_text())
    assert card["counts"] == {"train": 120, "test": 40} and card["name"] == features.name == "images" and card["images_per_second"] > 0
    assert card["sha256"]["train_x.npy"] == hashlib.sha256((folder / "train_x.npy").read_bytes()).hexdigest()
    assert card["backbone"]["classes"] == 4 and np.load(folder / "train_x.npy").dtype == np.float16
    assert features.train.x.shape == (120, 8) and features.class_names == tuple("abcd") and features.val is None
    np.testing.assert_array_equal(feature_files.load(folder).test.x, features.test.x)  # --config.data.path=FOLDER


def test_features_tell_the_classes_apart(extracted):
    train, test = extracted[1].train, extracted[1].test
    centres = np.stack([train.x[train.y == c].mean(0) for c in range(4)])
    assert (((test.x[:, None] - centres) ** 2).sum(2).argmin(1) == test.y).mean() > 0.9


def test_only_what_a_setting_changes_is_remade(extracted):
    workdir, _, path = extracted
    folders = lambda: sorted(found.name for found in workdir.glob("*-*"))  # noqa: E731
    before = folders()
    config = config_for(path, batch=64)
    config.meta.task_weight, config.heads.tol = (0.5,), 1e-3
    stage.make(config, workdir, QUIET)
    assert folders() == before and len(before) == 2
    weights = str(next(workdir.glob("backbone-*")))
    again = stage.make(config_for(path, weights=weights), workdir, QUIET)
    np.testing.assert_array_equal(again.test.x, extracted[1].test.x)
    with pytest.raises(BadInput, match=r"^images: images of 6 by 6 pixels, the backbone is for 16 by 16; see --config.features.size$"):
        stage.make(config_for(path, weights=weights, size=6), workdir, QUIET)


def test_our_network_needs_images_of_other_classes(tmp_path):
    path = write_npz(tmp_path / "images.npz", base=False)
    with pytest.raises(BadInput, match=r"^images: has no base_x and base_y to train a backbone on; give --config.features.weights"):
        stage.make(config_for(path), tmp_path, QUIET)
    with pytest.raises(BadInput, match=r"^--config.features.weights=.*: not a folder backbone-.. of a run$"):
        stage.make(config_for(path, weights=str(tmp_path)), tmp_path, QUIET)
    (tmp_path / "backbone-x").mkdir()
    with pytest.raises(BadInput, match=r"^--config.features.weights=.*: no backbone, or damaged$"):
        stage.make(config_for(path, weights=str(tmp_path / "backbone-x")), tmp_path, QUIET)
    artifacts.save(tmp_path / "backbone-y", {"variables": np.zeros(1)}, {})
    with pytest.raises(BadInput, match=r"^--config.features.weights=.*y: trained by an older version of mmn_jax; train it again$"):
        stage.make(config_for(path, weights=str(tmp_path / "backbone-y")), tmp_path, QUIET)
    with pytest.raises(BadInput, match=rf"^{tmp_path}: not a folder backbone-.. of a run$"):
        backbones.load_network(tmp_path)


PAGE = (ROOT / "docs" / "your_own_features.md").read_text()
(RECIPE,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if "features.backbone" in block)


def write_folder(root):
    """root/CLASS/IMAGE.png, 4 classes of 40 images, not all of one size."""
    for i, (image, label) in enumerate(zip(*shaded(160, side=10), strict=True)):
        folder = root / f"class {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, : 8 + i % 3]).save(folder / f"{i}.png")
    return root


def test_the_recipe_of_the_docs_brings_a_function_of_its_own(tmp_path):
    recipe, root = tmp_path / "mine.py", write_folder(tmp_path / "photographs")
    recipe.write_text(RECIPE)
    spec = importlib.util.spec_from_file_location("mine", recipe)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.data.path, config.data.test_share, config.data.longtail.imbalance = str(root), 0.25, 5.0
    assert stages.run_seeds(config, tmp_path / "run", QUIET, "features") == [] and not (tmp_path / "run" / "seed-0").exists()
    stages.run_seeds(config, tmp_path / "run", QUIET, "split")
    (folder,) = (tmp_path / "run").glob("features-*")
    card = json.loads((folder / "card.json").read_text())
    assert card["backbone"]["network"] == "thumbnails" and card["backbone"]["file"] == "mine.py" and "bicubic" in card["preprocessing"]
    assert "turned as EXIF says, transparency over white, 16 bits brought to 8" in card["preprocessing"]
    split = json.loads((tmp_path / "run" / "seed-0" / "split.json").read_text())
    assert split["dataset"] == "photographs" and max(split["counts"]) == 5 * min(split["counts"])


def command(recipe, *flags):
    line = [sys.executable, ROOT / "bin" / "run.py", f"--config={recipe}", *flags]
    return subprocess.run(line, capture_output=True, text=True, env=environment() | {"PYTHONPATH": str(ROOT)}, cwd=recipe.parent)


def test_the_command_names_a_broken_image(tmp_path):
    recipe, root = tmp_path / "mine.py", write_folder(tmp_path / "photographs")
    recipe.write_text(RECIPE)
    broken = root / "class 1" / "61.png"
    broken.write_bytes(broken.read_bytes()[:50])
    done = command(recipe, "--stage=features", f"--config.data.path={root}", "--config.data.test_share=0.25")
    assert (done.returncode, done.stderr) == (2, f"{broken}: broken, or not an image\n")


def test_images_of_several_sizes_and_missing_ones_give_one_line(tmp_path):
    found = folders.image_folder(write_folder(tmp_path / "photographs"), 0.25)
    read = lambda size: extract.part_features(means, found.train, tmp_path, "train", size, 32, TRACK)  # noqa: E731
    with pytest.raises(BadInput, match=r"^train, image \d+: \d+ by 10 pixels, the first one .* --config.features.size=224"):
        read(0)
    for path in (tmp_path / "photographs" / "class 2").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match=r"^.*/class 2/\d+\.png: no such file"):
        read(8)


def test_another_image_in_a_folder_is_another_version(tmp_path):
    root = write_folder(tmp_path / "photographs")
    first = folders.image_folder(root, 0.25).train.version
    assert folders.image_folder(root, 0.25).train.version == first
    for path in root.glob("*/*.png"):
        Image.new("L", (9, 9)).save(path)
    assert folders.image_folder(root, 0.25).train.version != first


BAD_SETTINGS = {
    "no path": ({"path": ""}, "--config.data.path: give the npz file or the folder with your images"),
    "no file": ({"path": "none.npz"}, "none.npz: no such file"),
    "no folder": ({"path": "none"}, "none: no such folder"),
    "no test list": ({"path": "none", "lists": {"train": "list.txt"}}, "--config.data.lists.test: give the list of images to test on"),
    "no family": (
        {"source": "fonts"},
        f"{render.shipped()}: no font of the family Gothic; it has DejaVu Sans, DejaVu Sans Display, DejaVu Sans Mono, DejaVu Serif",
    ),
    "no fonts": ({"source": "fonts", "fonts": "none"}, "none: no such folder of fonts"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_sources_that_are_not_there_give_one_line(case, tmp_path):
    changes, message = BAD_SETTINGS[case]
    config = config_for("")
    config.data.update(changes)
    config.characters.families.test = "DejaVu Sans Mono, Gothic"
    with pytest.raises(BadInput) as caught:
        stages.run_seeds(config, tmp_path, QUIET, "features")
    assert str(caught.value).startswith(message)


@pytest.mark.slow
def test_the_recipe_goes_from_fonts_to_the_table(tmp_path):
    flags = ("--config.characters.classes=60", "--config.features.epochs=5", "--config.characters.per_class=60,10,10")
    done = command(ROOT / "configs" / "glyph_images.py", "--stage=meta", f"--workdir={tmp_path}", *flags)
    assert done.returncode == 0 and "letters of matplotlib: mean per-class test accuracy" in done.stdout, done.stderr
