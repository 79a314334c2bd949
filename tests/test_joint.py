"""Joint dynamics on tiny images: a backbone fine-tuned once or at every stage, from the command to the table; what is kept and remade."""

import json
import subprocess

import jax
import numpy as np
import pytest
from commands import ROOT, SMALL, command, environment, in_process, together
from test_features_stage import QUIET, config_for

from mmn_jax.data import longtail
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import stages
from mmn_jax.store import artifacts
from mmn_jax.store.run import Run
from mmn_jax.vision import backbones, features, joint, networks

CLASSES = 20  # heads and banks of the shapes of test_cli.py, so that their programs are compiled
QUICK = {"dim": 10, "widths": (4, 8), "epochs": 4.0, "rate": 1e-2, "batch": 32}
TUNED = {"epochs": 5.0, "rate": 1e-2, "adjust": 1.0}
COUNTS = longtail.exponential_counts(CLASSES, 40, 20)


def write_images(path, base=True):
    """Classes of shaded images, and as many others to train a backbone on."""
    made, rng = {}, np.random.default_rng(0)
    for part, n in (("train", 40), ("val", 20), ("test", 15), ("base", 6)):
        y = made[f"{part}_y"] = np.repeat(np.arange(CLASSES), n)
        made[f"{part}_x"] = (rng.integers(0, 40, (len(y), 8, 8)) + 11 * y[:, None, None]).astype(np.uint8)
    np.savez(path, **{name: array for name, array in made.items() if base or not name.startswith("base")})
    return path


def config_of(path, finetune, **features):
    config = config_for(path, **{**QUICK, "finetune": finetune, **features})
    config.finetune.update(TUNED)
    config.data.longtail.imbalance, config.data.longtail.max_per_class, config.kshot.top = 20.0, 40, 1
    return config


def flags_of(config):
    """What of it isn't the default, for the command line."""
    words = {"data.source": "images", "data.path": config.data.path, "tuning.budget": 2, "eval.draws": 100}
    words |= {f"features.{name}": config.features[name] for name in (*QUICK, "finetune")} | {f"finetune.{k}": v for k, v in TUNED.items()}
    flags = [f"--config.{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in words.items()]
    return [*SMALL, *flags]


@pytest.fixture(scope="module")
def recursive(tmp_path_factory):
    """The workdir of a recursive run by the command, and its config."""
    folder = tmp_path_factory.mktemp("joint")
    config = config_of(write_images(folder / "images.npz"), "recursive")
    assert in_process("--stage=meta", f"--workdir={folder}", *flags_of(config)) == 0
    return folder, config


def kept_of(folder):
    return {path.name.rsplit("-", 1)[0]: artifacts.restore(path) for path in sorted((folder / "seed-0").glob("backbone-*"))}


def test_the_command_goes_from_images_to_the_table_stage_by_stage(recursive):
    folder, _ = recursive
    table = json.loads((folder / "results.json").read_text())
    assert {"plain", "metamodelnet", "mmn"} <= set(table["methods"]) and table["methods"]["plain"]["accuracy"] > 10
    assert table["methods"]["metamodelnet"]["tuned"]["ladder"] == [[1, 2]]
    kept = {name: record for name, (_, record) in kept_of(folder).items()}
    expected = {f"backbone-{t}": (np.sum(t <= COUNTS), COUNTS[t <= COUNTS].sum()) for t in (4, 2)}
    assert {name: (record["classes"], record["images"]) for name, record in kept.items()} == expected
    assert kept["backbone-4"]["start"] == next(folder.glob("backbone-*")).name and not list(folder.rglob("training-*"))
    assert kept["backbone-2"]["start"].startswith("backbone-4-") and len(kept["backbone-2"]["curve"]) == 5
    banks = [path.name.rsplit("-", 1)[0] for path in sorted((folder / "seed-0").glob("bank-*"))]
    assert banks == ["bank-1", "bank-2", "bank-2"]  # that of k = 2 in both features


def test_rows_of_classes_that_were_known_go_on(recursive):
    kept = {name: arrays["variables"]["params"]["head"]["kernel"] for name, (arrays, _) in kept_of(recursive[0]).items()}
    counts = json.loads((recursive[0] / "results.json").read_text())["counts"][0]
    known = np.array(counts) >= 4
    likeness = (kept["backbone-2"] * kept["backbone-4"]).sum(0) / np.prod([np.linalg.norm(head, axis=0) for head in kept.values()], 0)
    assert kept["backbone-2"].shape == (10, CLASSES) and known.sum() < CLASSES and likeness[known].min() > 0.5


def test_the_same_command_makes_nothing_again_and_another_weight_of_the_task_no_backbone(recursive):
    folder, config = recursive
    before = {path: path.stat().st_mtime_ns for path in (folder / "seed-0").iterdir() if path.is_dir()}
    assert in_process("--stage=meta", f"--workdir={folder}", *flags_of(config)) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "seed-0").iterdir() if path.is_dir()} == before
    with jax.numpy_dtype_promotion("standard"):
        config = config.copy_and_resolve_references()
        config.meta.task_weight, config.kshot.subsets = (0.5,), (2,)
        stages.run_seeds(config, folder, QUIET, "features")
    assert {path for path in (folder / "seed-0").iterdir() if path.is_dir()} == set(before)


def test_the_last_backbone_gives_features_of_new_images(recursive, tmp_path):
    folder, _ = recursive
    weights = next((folder / "seed-0").glob("backbone-2-*"))
    config = config_for(write_images(tmp_path / "new.npz", base=False), weights=str(weights), **QUICK)
    made = features.make(config, tmp_path, QUIET)
    test = artifacts.restore(next((folder / "seed-0").glob("features-test-*")))[0]["x"]
    np.testing.assert_allclose(made.test.x, test.astype(np.float32), rtol=2e-3, atol=2e-3)


def open_run(config, folder):
    studio = joint.open_studio(config, folder, QUIET)
    return Run(config, 0, folder, studio.labels, studio.fingerprint, QUIET), studio


def test_seeds_of_one_split_have_backbones_of_their_own(tmp_path, monkeypatch):
    config, names = config_of(write_images(tmp_path / "images.npz", base=False), "fixed"), []
    config.data.longtail.imbalance = config.data.longtail.max_per_class = None  # all examples in every seed
    monkeypatch.setattr(backbones, "trained", lambda folder, *how: names.append(folder.name) or 1 / 0)
    run, studio = open_run(config, tmp_path)
    for seed in (0, 1):
        with pytest.raises(ZeroDivisionError):
            stages.split(run._replace(seed=seed), studio)
    assert len(set(names)) == 2


def test_images_that_come_twice_are_said(tmp_path, monkeypatch):
    path, lines = write_images(tmp_path / "images.npz", base=False), []
    given = dict(np.load(path))
    given["test_x"][:2], given["train_x"][1], given["train_y"][1] = given["train_x"][:2], given["train_x"][0], 1
    np.savez(path, **given)
    config = config_of(path, "fixed")
    config.data.longtail.imbalance = config.data.longtail.max_per_class = None  # all examples
    monkeypatch.setattr(backbones, "trained", lambda *how: 1 / 0)
    run, studio = open_run(config, tmp_path)
    with pytest.raises(ZeroDivisionError):
        stages.split(run._replace(terminal=QUIET._replace(say=lines.append)), studio)
    assert [line for line in lines if "the training images" in line] == [
        "2 of 800 rows of the training images have the features of another row but a different label, such as row 0 (0) and row 1 (1)",
        "1 of 300 rows of the test images are also in the training images, with the same features; accuracy on them says little",
    ]


def test_without_base_images_the_network_starts_from_nothing(tmp_path):
    config = config_of(write_images(tmp_path / "images.npz", base=False), "fixed", network="residual", augment="photo", widths=(4,))
    with jax.numpy_dtype_promotion("standard"):
        data = stages.split(*open_run(config, tmp_path))
    assert not data.stage_parts and data.whole.train.x.shape == (COUNTS.sum(), 10) and data.whole.val.x.shape == (20 * CLASSES, 10)
    (folder,) = (tmp_path / "seed-0").glob("backbone-0-*")
    kept = backbones.of_another_run(folder)
    assert kept.record["start"] is None and kept.architecture == networks.Architecture("residual", 10, [4], CLASSES)
    assert kept.record["curve"][-1][0] < kept.record["curve"][0][0]
    x = np.repeat(np.load(config.data.path)["test_x"][..., None], 3, 3)
    plainly = data.normalise(np.asarray(backbones.load_network(folder)(x)))
    np.testing.assert_allclose(data.tail.test.x, plainly, rtol=1e-2, atol=1e-3)  # spread over the devices, kept in float16


def test_stopped_inside_a_training_it_ends_in_the_same_bits(tmp_path):
    config, made = config_of(write_images(tmp_path / "images.npz", base=False), "fixed"), []
    for name in ("whole", "stopped"):
        with jax.numpy_dtype_promotion("standard"):
            run, studio = open_run(config, tmp_path / name)

            def stopping(steps, name):
                for i in steps:
                    if name == "backbone" and i == 7:
                        raise KeyboardInterrupt
                    yield i

            if name == "stopped":
                with pytest.raises(KeyboardInterrupt):
                    stages.split(run._replace(terminal=QUIET._replace(track=stopping)), studio)
                assert [path.name for path in run.workdir.glob("seed-0/training-*/*")] == ["6"]
            stages.split(run, studio)
        made.append(kept_of(run.workdir)["backbone-0"])
    jax.tree.map(np.testing.assert_array_equal, made[0][0], made[1][0])
    assert made[0][1]["curve"] == made[1][1]["curve"] and not list(tmp_path.rglob("training-*"))


@pytest.mark.slow
def test_two_processes_give_the_features_of_one(tmp_path):
    flags = [*flags_of(config_of(write_images(tmp_path / "images.npz"), "recursive")), "--stage=features"]
    runs = [[f"--workdir={tmp_path / 'alone'}"], *([f"--workdir={tmp_path / 'together'}", *more] for more in together(2))]
    started = [subprocess.Popen(command(*flags, *more), cwd=ROOT, env=environment()) for more in runs]
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    one, two = (sorted((tmp_path / name / "seed-0").glob("features-*")) for name in ("alone", "together"))
    assert [path.name for path in one] == [path.name for path in two] and len(one) == 4
    for alone, shared in zip(one, two, strict=True):
        np.testing.assert_allclose(artifacts.restore(alone)[0]["x"], artifacts.restore(shared)[0]["x"], atol=1e-2)


def test_bad_input_says_what_is_wrong(tmp_path, monkeypatch):
    path = write_images(tmp_path / "images.npz", base=False)
    config = config_of(path, "fixed", backbone=len)
    with pytest.raises(BadInput, match=r"^--config.features.finetune=fixed: features.backbone is a function, which cannot"):
        joint.open_studio(config, tmp_path, QUIET)
    config = config_of(path, "fixed")
    monkeypatch.setattr(joint, "host_memory", lambda: 10_000)
    with pytest.raises(BadInput, match=r"^--config.features.size: images take 0.0 GB of memory, there are 0.0; lower it, or data.longtail"):
        stages.split(*open_run(config, tmp_path))
