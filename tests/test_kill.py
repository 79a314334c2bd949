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

KILLS = int(os.environ.get("KILLS", "6"))  # in all, on one and on eight devices
EACH = 3  # in one run
QUICK = ["--stage=eval", "--config.tuning.budget=4", "--config.heads.l2=1e-2,1e-3", "--config.meta.steps=10", "--config.eval.draws=100"]


def start(feature_file, workdir, devices):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    full = command(*own(feature_file, workdir, *QUICK))
    return subprocess.Popen(full, cwd=ROOT, env=environment() | flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results_of(workdir):
    """results.json but for its clocks and the hash of its settings, and the arrays of classifier.npz."""
    table = json.loads((workdir / "results.json").read_text())
    del table["config_hash"]
    for method in table["methods"].values():
        del method["seconds"]
    return json.dumps(table), {name: array.tobytes() for name, array in np.load(workdir / "classifier.npz").items()}


def lines_of(process):
    """(seconds since the start, line) as the run prints."""
    began = time.monotonic()
    return ((time.monotonic() - began, line.strip()) for line in process.stdout)


@pytest.fixture(scope="module", params=[1, 8], ids=["1 device", "8 devices"])
def whole(request, feature_file, tmp_path_factory):
    """Devices, and the results and lines of a run that nobody stopped, once its programs are compiled."""
    for name in ("first", "second"):
        workdir = tmp_path_factory.mktemp(name)
        with start(feature_file, workdir, request.param) as process:
            lines = list(lines_of(process))
            assert process.wait() == 0, process.stderr.read()
    return request.param, results_of(workdir), lines


def kill_at(process, lines, moment):
    """Kills a run as long after its line as `moment` is in a run of these lines, so that the machine's load is nothing; whether it
    was alive, and the line."""
    times = [0.0, *(seconds for seconds, _ in lines)]
    number = int(np.searchsorted(times, moment, side="right")) - 1
    with process:
        for _ in range(number):
            process.stdout.readline()
        time.sleep(moment - times[number])
        process.kill()
        return process.wait() != 0, lines[number - 1][1] if number else "nothing yet"


@pytest.mark.slow
@pytest.mark.parametrize("run", range(-(-KILLS // (2 * EACH))))
def test_killed_at_random_moments_it_ends_in_the_same_bits(whole, feature_file, tmp_path, run):
    devices, expected, lines = whole
    end = next(seconds for seconds, line in lines if line.endswith("went into compiling"))
    for moment in np.random.default_rng([run, devices]).uniform(0, end, EACH):
        alive, line = kill_at(start(feature_file, tmp_path, devices), lines, moment)
        print(f"{devices} device(s), run {run}: {'killed' if alive else 'done before'} {moment:.1f} s of {end:.1f} s in, after: {line}")
    last = start(feature_file, tmp_path, devices)
    _, error = last.communicate()
    assert last.returncode == 0 and "damaged" not in error
    assert results_of(tmp_path) == expected
