"""The stages in one process: interrupted, they go on to the same result; a changed setting remakes only what depends on it."""

import csv
import hashlib
import json
import re

import jax
import numpy as np
import onnxruntime
import pytest

from mmn_jax.cli import export, predict
from mmn_jax.config import default
from mmn_jax.data import manifest
from mmn_jax.errors import BadInput
from mmn_jax.pipeline import results, stages, table_formats
from mmn_jax.store import artifacts

QUIET = stages.Terminal(say=lambda line: None, track=lambda items, name: items)


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax's Adam itself mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def small(feature_file):
    config = default()
    config.data.source, config.data.path = "npz", str(feature_file)
    config.data.longtail.imbalance, config.data.longtail.max_per_class = 20.0, 40
    config.heads.l2 = (1e-2, 1e-3, 1e-4)
    config.kshot.subsets, config.kshot.top, config.kshot.l2 = (4, 3), 1, 1e-4
    config.meta.steps, config.meta.task_weight, config.meta.width, config.tuning.budget = 20, (0.1,), 4, 6
    return config


def everything(config, workdir, terminal=QUIET, stage="meta"):
    seeds = stages.run_seeds(config, artifacts.writable_directory(workdir), terminal, stage)
    table = results.collect(seeds, config)
    results.write(workdir, table, seeds)
    return table


def comparable(table):
    """All but the clock."""
    methods = {name: {k: v for k, v in method.items() if k != "seconds"} for name, method in table["methods"].items()}
    return json.loads(json.dumps({**table, "methods": methods}))


@pytest.fixture(scope="module")
def done(feature_file, tmp_path_factory):
    config, workdir = small(feature_file), tmp_path_factory.mktemp("done")
    with jax.numpy_dtype_promotion("standard"):
        return config, workdir, everything(config, workdir, stage="eval")


def test_a_run_gives_every_method_with_consistent_figures(done):
    config, _, table = done
    paper = ["plain", "over_sampling", "under_sampling", "cost_sensitive", "metamodelnet", "mmn"]
    assert list(table["methods"])[:6] == paper and len(table["methods"]) == 6 + 13
    for name, method in table["methods"].items():
        assert method["vs_best_rival"][1] <= method["vs_best_rival"][0] <= method["vs_best_rival"][2]
        assert method["nll_scaled"] <= method["nll"] + 0.15  # a temperature fitted to other examples may lose a little
        assert method["tuned"]["settings_tried"][0] <= config.tuning.budget
        assert method["accuracy"] == pytest.approx(np.mean(table["per_class"][name][0]))
        assert (method["many"] is None) == (table["groups"]["many"] == 0)
        assert method["vs_plain"][1] <= method["vs_plain"][0] <= method["vs_plain"][2]
        assert 100 / 20 < method["accuracy"] <= 100
    assert table["methods"]["mmn"]["kind"] == "ours"
    assert all(sum(table["groups"][name] for name in names) == 20 for names in (table_formats.GROUPS, table_formats.TERCILES))
    assert min(table["counts"][0]) == 2


def test_every_setting_tried_is_saved_and_the_best_one_chosen(done):
    _, workdir, table = done
    choices = json.loads((workdir / "choices.json").read_text())["0"]
    for name, trials in choices.items():
        tuned = {key: value[0] for key, value in table["methods"][name]["tuned"].items()}
        top = max(trials, key=lambda trial: round(trial["val_accuracy"], 9))
        assert {key: tuned[key] for key in top if key != "val_accuracy"} == {k: v for k, v in top.items() if k != "val_accuracy"}
        assert len(trials) == tuned["settings_tried"]


def test_the_table_is_sorted_and_a_tie_is_never_bold(done):
    _, workdir, table = done
    lines = table_formats.rows(table)
    shown = [float(line[1]) for line in lines[1:]]
    assert shown == sorted(shown, reverse=True) and len(shown) == len(table["methods"])
    page = table_formats.as_markdown(table)
    for name, method in table["methods"].items():
        line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        cell = line.split(" | ")[2]
        assert cell.startswith("**") == (name != "plain" and not method["vs_plain"][1] <= 0 <= method["vs_plain"][2])
    with (workdir / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == list(table["methods"])


def test_a_chain_that_moves_nothing_is_reported(done):
    config, workdir, _ = done
    config, messages = config.copy_and_resolve_references(), []
    config.meta.strength = (0.0,)
    stages.run_seeds(config, workdir, stages.Terminal(messages.append, lambda items, name: items), "meta")
    (why, rest) = (line for line in messages if "moves no row" in line or "unaffected" in line)
    assert (
        why
        == "  the chain moves no row, so that MetaModelNet learned nothing here: the strength that was chosen is 0 (--config.meta.strength)"
    )
    assert rest == "  metamodelnet is the plain head under the ridge kshot.l2; mmn doesn't use it and is unaffected"


def test_hyperparameters_can_be_chosen_inside_the_training_set(feature_file, tmp_path):
    config, messages = small(feature_file), []
    config.data.validation, config.data.folds = "train", 2
    config.kshot.top, config.meta.steps, config.heads.l2, config.tuning.budget = 0, 5, (1e-2,), 2
    table = everything(config, tmp_path / "run", stages.Terminal(messages.append, lambda items, name: items))
    assert any("2 folds of the training set" in line for line in messages)
    assert min(table["counts"][0]) == 2 and table["methods"]["metamodelnet"]["accuracy"] > 100 / 20


def test_a_workdir_of_another_data_set_is_refused_and_left_alone(done, feature_file, tmp_path):
    config, workdir, table = done
    config = config.copy_and_resolve_references()
    config.data.path = str(tmp_path / "other.npz")
    np.savez(config.data.path, **np.load(feature_file))
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    message = f"--workdir={workdir}: it holds a run on {table['dataset']}, this one is on other; give another"
    with pytest.raises(BadInput, match=re.escape(message)):
        stages.run_seeds(config, workdir, QUIET, "split")
    arrays = dict(np.load(feature_file))
    config.data.path = str(artifacts.writable_directory(tmp_path / "elsewhere") / feature_file.name)
    np.savez(config.data.path, **arrays | {"train_y": arrays["train_y"][::-1]})
    config.seed = 5
    with pytest.raises(BadInput, match=re.escape(f"it holds a run on other data called {table['dataset']}, this one is on")):
        stages.run_seeds(config, workdir, QUIET, "split")
    assert before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}


@pytest.mark.parametrize("damaged", [b"{", b"[]", b"[" * 100_000, b"\xff"])
def test_a_damaged_manifest_in_the_workdir_is_written_anew(feature_file, tmp_path, damaged):
    path = artifacts.writable_directory(tmp_path / "seed-0") / "split.json"
    path.write_bytes(damaged)
    stages.run_seeds(small(feature_file), tmp_path, QUIET, "split")
    assert manifest.source(path)[0] == "features"


def test_a_manifest_repeats_a_split_and_refuses_other_labels(done, feature_file, tmp_path):
    config, workdir, table = done
    config = config.copy_and_resolve_references()
    config.seed, config.data.manifest = 5, str(workdir / "seed-0" / "split.json")
    stages.run_seeds(config, artifacts.writable_directory(tmp_path / "again"), QUIET, "split")
    first, again = (json.loads(path.read_text()) for path in (workdir / "seed-0" / "split.json", tmp_path / "again/seed-5/split.json"))
    assert again["train"] == first["train"] and again["val"] == first["val"] and first["counts"] == table["counts"][0]
    arrays = dict(np.load(feature_file))
    arrays["train_y"] = arrays["train_y"][::-1]
    np.savez(tmp_path / "other.npz", **arrays)
    config.data.path = str(tmp_path / "other.npz")
    with pytest.raises(BadInput, match="the labels of train_y differ"):
        stages.run_seeds(config, tmp_path / "again", QUIET, "split")
    first["train"][0] += 1
    (tmp_path / "changed.json").write_text(json.dumps(first))
    config.data.path, config.data.manifest = str(feature_file), str(tmp_path / "changed.json")
    with pytest.raises(BadInput, match="checksum differs"):
        stages.run_seeds(config, tmp_path / "again", QUIET, "split")


@pytest.mark.parametrize(("content", "message"), [("[]", "not a split manifest"), ("{", "not a split manifest"), (None, "cannot be read")])
def test_a_manifest_that_is_none_is_refused(feature_file, tmp_path, content, message):
    config = small(feature_file)
    config.data.manifest = str(tmp_path / "split.json")
    if content is not None:
        (tmp_path / "split.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        stages.run_seeds(config, artifacts.writable_directory(tmp_path / "run"), QUIET, "split")


def test_the_saved_classifier_predicts_in_plain_numpy_and_by_the_command(done, feature_file, capsys):
    _, workdir, table = done
    c, z = np.load(workdir / "classifier.npz"), np.load(feature_file)
    predicted = (((z["test_x"].astype(np.float32) - c["mean"]) * c["scale"]) @ c["W"].T + c["b"]).argmax(1)
    accuracy = 100 * np.mean([(predicted[z["test_y"] == k] == k).mean() for k in range(20)])
    assert accuracy == pytest.approx(table["methods"]["mmn"]["accuracy"], abs=0.01)
    assert c["class_names"].tolist() == z["class_names"].tolist()
    predict.main([f"--model={workdir}", f"--features={feature_file}"])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["label"] for row in rows] == c["class_names"][predicted].tolist()
    right = np.mean([row["label"] == f"class {k}" for row, k in zip(rows, z["test_y"], strict=True)])
    assert np.mean([float(row["probability"]) for row in rows]) == pytest.approx(right, abs=0.15)


def test_every_export_predicts_the_same_on_the_whole_test_set(done, feature_file, tmp_path):
    _, workdir, table = done
    export.export(workdir, tmp_path)
    x = np.load(feature_file)["test_x"].astype(np.float32)
    usual = predict.predict(predict.load_classifier(str(tmp_path)), x)
    session = onnxruntime.InferenceSession(tmp_path / "classifier.onnx", providers=["CPUExecutionProvider"])
    artefact = jax.export.deserialize(bytearray((tmp_path / "classifier.stablehlo").read_bytes()))
    for scores, probabilities in (session.run(None, {"features": x}), map(np.asarray, artefact.call(x))):
        np.testing.assert_array_equal(scores.argmax(1), usual.label)
        np.testing.assert_allclose(probabilities.max(1), usual.probability, rtol=1e-4)
    page = (tmp_path / "MODEL_CARD.md").read_text()
    split = json.loads((workdir / "seed-0" / "split.json").read_text())
    assert split["indices_sha256"] in page and f"{table['methods']['mmn']['accuracy']:.1f}" in page
    assert "Licence of the features: not known" in page


def test_stopped_at_every_progress_step_it_ends_in_the_same_result(done, feature_file, tmp_path):
    config, _, expected = done

    class Stop(Exception):
        pass

    def stopping(budget):
        def track(items, name):
            for item in items:
                if budget[0] == 0:
                    raise Stop
                budget[0] -= 1
                yield item

        return stages.Terminal(lambda line: None, track)

    stops = 0
    for progress in (0, 2, 5, 12, 30, 10**9):  # heads, banks, steps of a stage
        try:
            table = everything(config, tmp_path / "again", stopping([progress]), "eval")
        except Stop:
            stops += 1
    assert stops >= 4 and comparable(table) == comparable(expected)


def test_another_task_weight_refits_neither_heads_nor_bank(done):
    config, workdir, _ = done
    config = config.copy_and_resolve_references()
    before = {path.name: path.stat().st_mtime_ns for path in (workdir / "seed-0").iterdir()}
    config.meta.task_weight = (1.0,)
    everything(config, workdir, stage="eval")
    after = {path.name for path in (workdir / "seed-0").iterdir()}
    new = after - before.keys()
    assert new and {name.split("-")[0] for name in new} == {"chain", "transfer"}


def test_several_seeds_are_averaged(feature_file, tmp_path):
    config = small(feature_file)
    config.seeds = (0, 3)
    table = everything(config, tmp_path / "run")
    plain = table["methods"]["plain"]
    assert table["seeds"] == [0, 3] and len(plain["accuracy_per_seed"]) == 2
    assert plain["accuracy"] == pytest.approx(np.mean(plain["accuracy_per_seed"]))
    assert table["counts"][0] != table["counts"][1]


def test_with_too_few_classes_to_learn_from_it_says_so_and_is_the_plain_head(feature_file, tmp_path):
    config, messages = small(feature_file), []
    config.data.longtail.imbalance, config.data.longtail.max_per_class = 1.0, 1
    table = everything(config, tmp_path / "run", stages.Terminal(messages.append, lambda items, name: items))
    assert any("metamodelnet is the plain head" in line for line in messages)
    assert table["methods"]["metamodelnet"]["tuned"]["fallback"] == ["plain"]
    assert table["per_class"]["metamodelnet"] == table["per_class"]["plain"]


@pytest.mark.slow
def test_the_fixed_split_is_one_block_on_one_k(feature_file, tmp_path):
    config = small(feature_file)
    config.meta.split, config.meta.fixed_shots, config.meta.task_weight = "fixed", 4, (0.0,)
    table = everything(config, tmp_path / "run")
    assert table["methods"]["metamodelnet"]["tuned"]["ladder"] == [[4]]


@pytest.mark.parametrize(("key", "value"), [("data.source", "nowhere"), ("meta.split", "random")])
def test_settings_that_name_nothing_are_refused(feature_file, tmp_path, key, value):
    config = small(feature_file)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(BadInput, match=key):
        everything(config, tmp_path / "run")


def test_a_manifest_must_name_different_rows(feature_file, tmp_path):
    features = stages.feature_files.load(feature_file)
    n = len(features.train.y)
    for train, val in (([0, n], []), ([0, -1], []), ([0, 1], [1])):
        both = np.array(train + val, "<i8")
        labels = manifest.describe(features, np.ones(n, np.int8), 0, {})["labels_sha256"]
        content = {"train": train, "val": val, "labels_sha256": labels, "indices_sha256": hashlib.sha256(both.tobytes()).hexdigest()}
        (tmp_path / "split.json").write_text(json.dumps(content))
        with pytest.raises(BadInput, match="different rows of train_x"):
            manifest.read(tmp_path / "split.json", features)


def test_single_examples_cannot_choose(feature_file, tmp_path):
    config = small(feature_file)
    config.data.validation, config.data.longtail.imbalance, config.data.longtail.max_per_class = "train", 1.0, 1
    with pytest.raises(BadInput, match="every class has a single example"):
        stages.run_seeds(config, artifacts.writable_directory(tmp_path / "run"), QUIET, "heads")
