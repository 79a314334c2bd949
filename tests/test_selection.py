"""Which methods a run fits, the messages on the way, and `mmn-jax fit`, which makes a classifier and nothing else."""

import json
import re

import jax
import numpy as np
import pytest
from commands import in_process, own
from conftest import blobs

from mmn_jax import TailClassifier
from mmn_jax.cli import export, main
from mmn_jax.config import default
from mmn_jax.errors import BadInput
from mmn_jax.metamodelnet.regressor import Regressor
from mmn_jax.pipeline import stages
from mmn_jax.pipeline.selection import selected

FAST = ("--config.heads.l2=1e-2", "--config.tuning.budget=2", "--config.eval.draws=100")


def chosen(stage, *methods):
    config = default()
    config.methods = methods
    return list(selected(config, stage))


def test_the_first_table_holds_logit_adjustment_and_eval_every_rival():
    informed = ["mmn_names", "mmn_unlabelled", "mmn_all"]
    first = ["plain", "over_sampling", "under_sampling", "cost_sensitive", "metamodelnet", "mmn", *informed, "logit_adjustment"]
    assert chosen("meta") == first and chosen("heads") == chosen("kshot") == first[:4]
    assert chosen("meta", "mmn_rows") == ["mmn_rows"]  # on request alone
    assert chosen("eval") == chosen("report") == chosen("all") and len(chosen("eval")) == 9 + 13 + 5


@pytest.mark.parametrize("stage", ["meta", "eval"])
def test_named_methods_are_run_in_both_stages_in_the_order_of_the_table(stage):
    assert chosen(stage, "lda,mmn", "plain") == ["plain", "mmn", "lda"]


@pytest.mark.parametrize(
    ("stage", "methods", "message"),
    [
        ("meta", ("mnn", "plain"), "--config.methods: mnn is no method; there are plain, over_sampling"),
        ("meta", ("plain,",), "--config.methods: an empty name is no method"),
        ("meta", ("knn",), "--config.methods: knn has no rows for classifier.npz to hold; add another, such as mmn"),
        ("report", ("mmn", "plain"), "--config.methods: the report shows plain, metamodelnet, mmn; add metamodelnet"),
    ],
)
def test_what_cannot_be_run_is_refused(stage, methods, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        chosen(stage, *methods)


def test_a_run_of_named_methods_fits_these_alone(feature_file, tmp_path, capsys):
    flags = own(feature_file, tmp_path / "run", *FAST, "--stage=meta", "--config.methods=logit_adjustment,lda")
    assert in_process(*flags) == 0
    shown = capsys.readouterr().out
    table = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(table["methods"]) == ["logit_adjustment", "lda"] and table["classifier"] in table["methods"]
    top = max(table["methods"], key=lambda name: table["methods"][name]["val_accuracy"])
    assert table["classifier"] == top and f"classifier.npz ({top})" in shown and table["advice"]["sentences"][0] in shown
    assert {path.name.split("-")[0] for path in (tmp_path / "run" / "seed-0").iterdir()} == {"split", "split.json", "head"}
    assert "vs plain" not in shown and "kshot" not in shown
    c, z = np.load(tmp_path / "run" / "classifier.npz"), np.load(feature_file)
    predicted = (((z["test_x"].astype(np.float32) - c["mean"]) * c["scale"]) @ c["W"].T + c["b"]).argmax(1)
    accuracy = 100 * np.mean([(predicted[z["test_y"] == k] == k).mean() for k in range(20)])
    assert accuracy == pytest.approx(table["methods"][top]["accuracy"], abs=0.01)
    with jax.numpy_dtype_promotion("standard"):
        export.export(tmp_path / "run", tmp_path / "out")
    page = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert f"test accuracy of `{top}`" in page and "over test examples; a difference" in page and "mixed" not in page


def test_unknown_methods_end_the_command_before_any_work(feature_file, tmp_path, capsys):
    assert in_process(*own(feature_file, tmp_path / "run", "--config.methods=mmn,nope")) == 2
    error = capsys.readouterr().err
    assert error.startswith("--config.methods: nope is no method; there are plain, ") and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_banks_that_no_class_is_frequent_enough_for_are_skipped_and_said_so(feature_file, tmp_path, capsys):
    few = ("--config.data.longtail.imbalance=1", "--config.data.longtail.max_per_class=1", "--config.methods=metamodelnet")
    assert in_process(*own(feature_file, tmp_path / "run", *FAST, *few)) == 0
    shown = capsys.readouterr().out
    why = "no banks and no chain, as 0 classes have 2 training examples or more, and banks need 5 of them"
    assert f"seed 0: {why}: metamodelnet is the plain head, and mmn is unaffected" in shown
    made = {path.name.split("-")[0] for path in (tmp_path / "run" / "seed-0").iterdir()}
    assert made == {"split", "split.json", "head"}  # the plain head, fitted as metamodelnet needs it, though it isn't in the table
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())["methods"]) == ["metamodelnet"]


def breaks_its_contract(ladder):
    return Regressor(lambda key, spec: {"params": {}}, lambda variables, theta, shots, context, train: theta)


def test_a_regressor_that_breaks_the_contract_is_refused_before_heads_and_banks(feature_file, tmp_path):
    config, messages = default(), []
    config.data.path, config.meta.regressor = str(feature_file), breaks_its_contract
    with jax.numpy_dtype_promotion("standard"), pytest.raises(BadInput, match=r"--config.meta.regressor: must be a Regressor whose apply"):
        stages.run_seeds(config, tmp_path, stages.Terminal(messages.append, lambda items, name: items), "meta")
    assert not any("heads" in line or "kshot" in line for line in messages)


def test_a_choice_at_the_end_of_its_grid_names_the_setting_to_widen(feature_file, tmp_path, capsys):
    few = ("--config.heads.l2=1e-2,1e-3,1e-4", "--config.methods=plain,ncm,ridge", "--config.eval.draws=10")
    assert in_process(*own(feature_file, tmp_path / "run", *few)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "grid" in line]
    table = json.loads((tmp_path / "run" / "results.json").read_text())["methods"]
    for name, text in (("plain", "may do better"), ("ridge", "this can be ignored")):
        edge = table[name]["tuned"]["at_edge"][0]
        assert bool(edge) == any(text in line and f"{name} (" in line for line in lines)
    assert all("--config.heads.l2" in line for line in lines if "may do better" in line)


def test_a_report_under_other_settings_says_what_it_fits_again(feature_file, tmp_path, capsys):
    flags = own(feature_file, tmp_path / "run", *FAST, "--config.methods=plain")
    assert in_process(*flags) == 0 and "other settings" not in capsys.readouterr().out
    assert in_process(*flags) == 0 and "other settings" not in capsys.readouterr().out
    assert in_process(*flags, "--config.tuning.budget=1") == 0
    assert "are of other settings (tuning.budget was 2, is 1): what depends on them is fitted again" in capsys.readouterr().out


@pytest.mark.parametrize("validated", [False, True])
def test_fit_makes_the_classifier_of_the_estimator_and_nothing_else(tmp_path, capsys, validated):
    x, y = blobs(0, [30, 20, 10, 5, 3, 2], 6, spread=1.5)
    names = np.array(list("abcdef"))
    val = {"val_x": x[::2] + np.float32(0.1), "val_y": names[y[::2]]} if validated else {}
    np.savez(tmp_path / "features.npz", train_x=x, train_y=names[y], **val)
    flags = [f"--features={tmp_path / 'features.npz'}", f"--out={tmp_path / 'out'}", "--seed=3", "--method=logit_adjustment"]
    with jax.numpy_dtype_promotion("standard"):
        assert main.main(["fit", *flags]) == 0
        given = {"X_val": val["val_x"], "y_val": val["val_y"]} if validated else {}
        model = TailClassifier("logit_adjustment", random_state=3).fit(x, names[y], **given)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["classifier.npz"]
    shown = capsys.readouterr().out
    assert f"chosen on {'val_x and val_y, which no method is fitted to' if validated else 'folds of the training set'}\n" in shown
    assert re.search(r"forecast from this machine's speed now: about \d+ s\n    fit +\d+ s  logit_adjustment\n", shown)
    assert re.search(r"\n  \d+ of 18 settings tried.*; the best \(l2 .*\) is fitted to all 70 examples\n", shown)
    np.save(tmp_path / "x.npy", x)
    assert main.main(["predict", f"--model={tmp_path / 'out'}", f"--features={tmp_path / 'x.npy'}"]) == 0
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]] == model.predict(x).tolist()
    c = np.load(tmp_path / "out" / "classifier.npz")
    assert c["counts"].tolist() == [30, 20, 10, 5, 3, 2] and float(c["temperature"]) == pytest.approx(model.temperature_)


def test_fit_refuses_what_it_cannot_do(tmp_path, capsys):
    np.savez(tmp_path / "features.npz", train_x=np.eye(3), train_y=np.arange(3))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text("{}")
    good = [f"--features={tmp_path / 'features.npz'}", f"--out={tmp_path / 'out'}"]
    for flags, message in (
        ([*good, "--method=knn"], "--method=knn: must be one of plain, "),
        ([*good, "--seed=-1"], "--seed: must be from 0 to 2^31 - 1, it is -1"),
        ([good[0], f"--out={tmp_path / 'run'}"], "holds a run, whose results.json"),
        ([f"--features={tmp_path / 'none.npz'}", good[1]], "none.npz"),
        ([good[0]], "--out"),
    ):
        assert main.main(["fit", *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
