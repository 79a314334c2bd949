"""The benchmarks, run for real on the shipped features; slow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(script, *flags):
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUMPY_DTYPE_PROMOTION")}
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / script, *flags], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_regressors_are_held_against_their_input_and_the_best_rival(tmp_path):
    flags = ("--problems=glyphs100_200_2", "--seeds=0", "--regressors=scale_and_bias", "--rivals=logit_adjustment")
    text = run("regressors.py", f"--workdir={tmp_path}", *flags)
    assert "| logit_adjustment | " in text and "+0.0 (+0.0 to +0.0)" in text  # the best rival against itself
    assert all(f"| {name} | " in text for name in ("plain", "mmn", "scale_and_bias"))


@pytest.mark.slow
def test_the_dynamics_have_a_row_for_every_shot_level():
    text = run("dynamics.py")
    assert all(f"| {level} | " in text for level in ("2–3", "4–7", "8–15", "16–31", "32–63", "64+"))
