"""The benchmarks, run for real on the shipped features; nearly all of them slow."""

import subprocess
import sys

import pytest
from commands import ROOT, environment
from conftest import write_features


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
