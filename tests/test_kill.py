"""Killed at random moments and started again until it is done, a run ends in the bits of one that nobody touched.

KILLS=30 python -m pytest -m slow tests/test_kill.py -rP        prints where each kill came
"""

import json
import os
import subprocess
import time

import numpy as np
import pytest
from test_cli import ROOT, command, environment, own

KILLS = int(os.environ.get("KILLS", "6"))  # in all
EACH = 3  # in one run
QUICK = ["--stage=eval", "--config.tuning.budget=4", "--config.heads.l2=1e-2,1e-3", "--config.meta.steps=10", "--config.eval.draws=100"]


def start(feature_file, workdir, devices):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    full = command(*own(feature_file, workdir, *QUICK))
    return subprocess.Popen(full, cwd=ROOT, env=environment() | flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results_of(workdir):
    """results.json but for its clocks, and the arrays of classifier.npz."""
    table = json.loads((workdir / "results.json").read_text())
    for method in table["methods"].values():
        del method["seconds"]
    return json.dumps(table), {name: array.tobytes() for name, array in np.load(workdir / "classifier.npz").items()}


@pytest.fixture(scope="module", params=[1, 8], ids=["1 device", "8 devices"])
def whole(request, feature_file, tmp_path_factory):
    """Devices, and the results and seconds of a run that nobody stopped, once its programs are compiled."""
    for name in ("first", "second"):
        workdir, began = tmp_path_factory.mktemp(name), time.monotonic()
        process = start(feature_file, workdir, request.param)
        _, error = process.communicate()
        assert process.returncode == 0, error
    return request.param, results_of(workdir), time.monotonic() - began


def killed_after(process, seconds):
    """The last line that a run printed before it was killed; None where it was done by then."""
    try:
        _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        shown, _ = process.communicate()
        return (shown.splitlines() or ["nothing yet"])[-1].strip()
    assert process.returncode == 0, error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("run", range(-(-KILLS // (2 * EACH))))
def test_killed_at_random_moments_it_ends_in_the_same_bits(whole, feature_file, tmp_path, run):
    devices, expected, seconds = whole
    moments = np.random.default_rng([run, devices]).uniform(0.1 * seconds, seconds, EACH)
    for moment in moments:
        line = killed_after(start(feature_file, tmp_path, devices), moment)
        print(f"{devices} device(s), run {run}: killed after {moment:.1f} of {seconds:.1f} s at: {line}")
    last = start(feature_file, tmp_path, devices)
    _, error = last.communicate()
    assert last.returncode == 0 and "damaged" not in error
    assert results_of(tmp_path) == expected
