"""The command line by running it: exit codes, one line for bad input, nothing saved is touched."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
from commands import ROOT, command, in_process, own, run
from conftest import write_features


def test_bad_input_ends_the_process_as_it_ends_main():
    done = run("--stage=fly")
    assert done.returncode == 2 and "--stage=fly" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_recipe_without_its_function_is_named(tmp_path):
    (tmp_path / "recipe.py").write_text("x = 1")
    done = run(f"--config={tmp_path / 'recipe.py'}")
    assert done.returncode == 2 and done.stderr == f"--config={tmp_path / 'recipe.py'}: has no function get_config()\n"


def test_the_main_job_on_own_features_then_bad_input_touches_nothing(tmp_path, capsys):
    feature_file = write_features(tmp_path / "features.npz")
    workdir = tmp_path / "run"
    flags = own(feature_file, workdir, "--stage=all")
    assert in_process(*flags) == 0
    shown = capsys.readouterr()
    assert "metamodelnet" in shown.out and "few (" in shown.out and str(workdir) in shown.out
    assert "%|" not in shown.err  # no progress bar without a terminal

    def written():
        return {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock"}

    saved = written()
    arrays = dict(np.load(feature_file))
    arrays["train_x"][0, 0] = np.nan
    np.savez(feature_file, **arrays)
    assert in_process(*flags) == 2 and "NaN" in capsys.readouterr().err
    assert written() == saved
    assert json.loads((workdir / "results.json").read_text())["schema"] == 1
    assert (workdir / "report.html").exists()


def test_settings_may_stand_before_their_recipe(feature_file, tmp_path, capsys):
    assert in_process("--stage=split", "--config.seed=3", *reversed(own(feature_file, tmp_path / "run"))) == 0
    assert "seed 3: split" in capsys.readouterr().out


def test_help_is_printed(capsys):
    assert in_process("--help") == 0
    shown = capsys.readouterr().out
    assert "--stage" in shown and "--config" in shown


def test_help_may_be_read_in_part():
    with subprocess.Popen(command("--help"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_a_tail_that_the_data_are_too_small_for_is_reported(feature_file, tmp_path, capsys):
    flags = own(feature_file, tmp_path / "run", "--stage=split", "--config.data.longtail.max_per_class=200")
    assert in_process(*flags) == 0
    assert "  no class has the 200 examples of data.longtail.max_per_class; the largest keeps 40\n" in capsys.readouterr().out


def test_sigterm_ends_with_130_and_a_word_on_how_to_go_on(feature_file, tmp_path):
    process = subprocess.Popen(
        command(*own(feature_file, tmp_path / "run")), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "kshot" in line:
            break
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and ("continues from there" in error or "everything saved before it is kept" in error)
    assert time.monotonic() - began < 10


def test_a_signal_ends_a_computation_that_never_asks_python():
    code = """
import ctypes
from mmn_jax.cli import command
command.stop_on_signals(grace=0.5)
print("at work", flush=True)
mutex = ctypes.create_string_buffer(64)
for _ in range(2):  # the second time it waits for ever, signal or not
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(0.3)  # until it waits
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130 and "interrupted during a computation" in process.stderr.read()
