"""The benchmarks, run for real on the shipped features; nearly all of them slow."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, environment
from conftest import write_features

from mmn_jax.types import Examples, FeatureSet

sys.path.append(str(ROOT / "benchmarks"))  # benchmarks import each other


def run(script, *flags):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *flags], capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_regressors_are_held_against_their_input_and_the_best_rival(tmp_path):
    flags = ("--problems=glyphs100_200_2", "--seeds=0,1", "--regressors=scale_and_bias", "--rivals=logit_adjustment")
    text = run("regressors.py", f"--workdir={tmp_path}", *flags)
    assert "| logit_adjustment | " in text and "+0.0 (+0.0 to +0.0)" in text  # the best rival against itself
    assert all(f"| {name} | " in text for name in ("plain", "mmn", "scale_and_bias"))


@pytest.mark.slow
def test_regressors_are_tried_on_a_file_of_one_s_own(tmp_path):
    write_features(tmp_path / "mine.npz")
    flags = ("--seeds=0", "--regressors=scale_and_bias", "--rivals=logit_adjustment")
    text = run("regressors.py", f"--workdir={tmp_path / 'run'}", f"--problems={tmp_path / 'mine.npz'}", *flags)
    assert "mine.npz seed 0: chosen rival logit_adjustment" in text and "| scale_and_bias | " in text


@pytest.mark.slow
def test_banks_and_chains_are_timed_against_the_peak():
    (row,) = run("bank.py", "--shots=1", "--dims=16", "--classes=10", "--seconds=0.1", "--rivals=sklearn").splitlines()[-1:]
    assert row.startswith("| 1 | 16 | 10 | ")
    (row,) = run("chain.py", "--dims=8", "--classes=10", "--precision=float32", "--seconds=0.1").splitlines()[-1:]
    assert row.startswith("| 8 | 10 | float32 | ")


@pytest.mark.slow
def test_a_large_problem_is_timed_against_one_head_of_scikit_learn():
    text = run("large.py", "--classes=12", "--dim=8", "--largest=60", "--median=10", "--scatter=2")
    ours, theirs = (line.strip("| ").split(" | ") for line in text.splitlines()[-2:])
    assert ours[0] == 'TailClassifier("mmn")' and float(ours[3]) > 100 / 12
    assert "scikit-learn" in theirs[0] and float(theirs[3]) > 100 / 12


def test_an_accelerator_is_measured_part_by_part_and_what_is_done_stays(tmp_path):
    text = run("accelerator.py", f"--out={tmp_path}", "--parts=machine,predictions")
    record = json.loads((tmp_path / "accelerator.json").read_text())
    assert {part["state"] for part in record.values()} == {"done"} and "| copy, bytes read and written | " in text
    facts, *ceilings = record["machine"]["rows"]
    assert facts["platform"] == "cpu" and all(row["rate"] > 0 for row in ceilings)
    assert all(row["probability"] < 1e-6 and row["rows_per_second"] > 0 for row in record["predictions"]["rows"])
    accelerator = importlib.import_module("accelerator")
    accelerator.run(accelerator.Part("main_job", 1.0, ""), tmp_path / "accelerator.json", record, 60.0)
    assert accelerator.read(tmp_path / "accelerator.json")["main_job"]["state"] == "stopped after 1 s"
    again = run("accelerator.py", f"--out={tmp_path}", "--parts=machine,bank", "--minutes=0.1")
    assert "machine: done before\nbank: skipped, the minutes are over\npredictions: done before" in again
    facts["device"] = "another"
    (tmp_path / "accelerator.json").write_text(json.dumps(record))
    refused = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "accelerator.py", f"--out={tmp_path}"], capture_output=True, text=True, env=environment()
    )
    assert refused.returncode == 1 and refused.stderr.strip().endswith("was measured on another, this machine has cpu; give another folder")


@pytest.mark.slow
def test_every_part_of_the_accelerator_s_command_ends(tmp_path):
    run("accelerator.py", f"--out={tmp_path}", "--minutes=15")
    record = json.loads((tmp_path / "accelerator.json").read_text())
    assert {part["state"] for part in record.values()} == {"done"} and len(record) == 7
    assert all(row["probability"] == 0 and row["norm_cpu"] < 1e-6 for row in record["agreement"]["rows"] if row["what"].startswith("head"))
    wholes = [row for row in record["main_job"]["rows"] if row["stage"] == "all"]
    assert len(wholes) == 2 and wholes[0]["mmn"] == wholes[1]["mmn"] and all(row["programs"] > 20 for row in wholes)


@pytest.mark.slow
def test_images_are_timed_against_plain_loops():
    text = run("features.py", "--images=64", "--batch=16")
    assert "| --stage=features | " in text


@pytest.mark.slow
def test_the_dynamics_have_a_row_for_every_shot_level():
    text = run("dynamics.py")
    assert all(f"| {level} | " in text for level in ("2–3", "4–7", "8–15", "16–31", "32–63", "64+"))


def test_predictions_are_timed_and_weighed():
    rows = run("predict.py", "--rows=3000", "--dims=8,16", "--classes=5,7", "--dtype=float16").splitlines()[2:]
    cells = [[float(cell) for cell in row.strip("| ").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [[3000, 8, 5], [3000, 16, 7]] and all(row[3] > 100 and 10 < row[5] < 1000 for row in cells)


@pytest.mark.slow
def test_classes_are_added_and_held_against_a_full_fit():
    text = run("add_class.py", "--seeds=0", "--classes=60", "--added=2", "--shots=1,5", "--method=plain")
    assert "| 56 old ones | " in text and "| 2 added with 1 example | " in text and "| 2 added with 5 examples | " in text


@pytest.mark.slow
def test_descriptions_are_worth_something_to_a_class_that_is_added():
    flags = ("--seeds=0", "--classes=60", "--added=4", "--shots=0,1", "--method=described_rows", "--descriptions=names")
    none, one = (line.split(" | ") for line in run("add_class.py", *flags).splitlines()[-2:])
    assert none[0] == "| 4 added with 0 examples" and float(none[3]) > 10 and one[0] == "| 4 added with 1 example"


def test_pools_have_the_sizes_that_are_asked_for():
    knowledge = importlib.import_module("knowledge")
    y, counts = np.repeat(np.arange(4), 30).astype(np.int32), np.array([40, 20, 10, 1])
    train, strangers = Examples(np.stack([y, y], 1).astype(np.float32), y), np.full((50, 2), 9, np.float32)

    def drawn(**size):
        x = knowledge.draw_pool(knowledge.PoolSize(**{"total": 1000, **size}), train, counts, strangers, 0)
        return np.bincount(x[:, 0].astype(int), minlength=4).tolist()

    assert drawn() == [30] * 4 and drawn(each=0) == [0] * 4 and drawn(each=5) == [5] * 4 and sum(drawn(total=50)) == 50
    assert drawn(tailed=True) == [30, 15, 8, 1] and drawn(each=8, tailed=True) == [8, 4, 2, 1]
    assert drawn(each=5, strangers=1 / 3) == [5, 5, 5, 5, 0, 0, 0, 0, 0, 10]
    features = FeatureSet("four", train, None, train, tuple("abcd"))
    some, kept, left = knowledge.population(features, 0, 0.3)
    assert len(kept) == 3 and len(left) == 30 and some.class_names == tuple("abcd"[c] for c in kept)
    np.testing.assert_array_equal(some.train.x[:, 0], kept[some.train.y])


@pytest.mark.slow
def test_ablations_of_what_is_known_run(tmp_path):
    path = tmp_path / "mine.npz"
    write_features(path)
    np.save(tmp_path / "names.npy", np.random.default_rng(0).normal(size=(len(np.unique(np.load(path)["train_y"])), 3)))
    flags = (f"--data={path}", f"--descriptions={tmp_path / 'names.npy'}", "--imbalance=4", "--largest=8", "--seeds=0,1", "--missing=0.5")
    only = "--only=mmn_names,described_rows,self_training,label_spreading"
    text = run("knowledge.py", *flags, "--per_class=5", "--pool=tailed", "--strangers=0.33", only)
    assert all(f"| {name} | " in text for name in ("mmn", "mmn_names, descriptions, 50% missing", "self_training", "label_spreading"))


@pytest.mark.slow
def test_a_bank_is_solved_saved_and_read():
    (row,) = run("stream.py", "--shots=2", "--dim=32", "--classes=20", "--megabytes=1").splitlines()[-1:]
    cells = [float(cell) for cell in row.strip("| ").split("|")]
    assert cells[:4] == [2, 32, 20, 397] and all(cell > 0 for cell in cells[4:])


@pytest.mark.slow
def test_the_cost_of_a_bank_is_measured_as_each_of_its_sizes_grows():
    lines = run("scaling.py", "--subsets=4,8", "--classes=20", "--dims=16", "--shots=1").splitlines()[2:]
    cells = [[float(cell) for cell in line.strip("| ").split("|")] for line in lines]
    assert [row[:4] for row in cells] == [[4, 4, 100, 128], [8, 4, 100, 128], [128, 4, 20, 128], [128, 4, 100, 16], [128, 1, 100, 128]]
    assert all(row[4] > 0 and row[5] > 0 for row in cells)


@pytest.mark.slow
def test_the_picture_of_the_readme_shows_its_three_methods(tmp_path):
    text = run("by_count.py", "--seeds=0", "--classes=40", f"--out={tmp_path / 'picture.svg'}")
    picture = (tmp_path / "picture.svg").read_text()
    assert all(f"| {name} | " in text and f">{name}<" in picture for name in ("plain", "logit_adjustment", "mmn"))


@pytest.mark.slow
def test_the_gain_of_more_examples_is_estimated_and_measured(tmp_path):
    write_features(tmp_path / "mine.npz")
    text = run("more_examples.py", f"--data={tmp_path / 'mine.npz'}", "--imbalance=20", "--largest=30", "--parts=2")
    assert text.count("training examples: ") == 3 and "| the 5 of the largest estimate | 5 | " in text
