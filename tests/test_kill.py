"""A run that is killed at random moments and started again until it is done ends in the same bits as an uninterrupted one.

KILLS=30 python -m pytest -m slow tests/test_kill.py -rP        prints where each kill came

If a run has two processes, one is killed, and the other is then stopped, as a scheduler would.
"""

import json
import os
import signal
import subprocess
import time
from typing import NamedTuple

import numpy as np
import pytest
from commands import ROOT, command, environment, own, together

KILLS = int(os.environ.get("KILLS", "6"))  # in all, on one device, on eight, and of one of two processes
EACH = 2  # in one run
QUICK = ["--stage=eval", "--config.tuning.budget=4", "--config.heads.l2=1e-2,1e-3", "--config.meta.steps=10", "--config.eval.draws=100"]


class Setup(NamedTuple):
    """What a run is started as."""

    devices: int
    processes: int


SETUPS = {"1 device": Setup(1, 1), "8 devices": Setup(8, 1), "2 processes": Setup(1, 2)}


def start(feature_file, workdir, setup):
    """The processes of a run, the first of which prints."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={setup.devices}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command(*own(feature_file, workdir, *QUICK, *own_flags)), cwd=ROOT, env=environment() | flags, **pipes)
        for own_flags in together(setup.processes)
    ]


def finish(processes):
    """Waits until a run is done; returns the lines that it printed, each with its seconds since the start, and its standard error."""
    began = time.monotonic()
    lines = [(time.monotonic() - began, line.strip()) for line in processes[0].stdout]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors
    return lines, "".join(errors)


def results_of(workdir):
    """results.json but for its clocks and the hash of its settings, and the arrays of classifier.npz."""
    table = json.loads((workdir / "results.json").read_text())
    del table["config_hash"]
    for method in table["methods"].values():
        del method["seconds"]
    return json.dumps(table), {name: array.tobytes() for name, array in np.load(workdir / "classifier.npz").items()}


@pytest.fixture(scope="module", params=SETUPS)
def whole(request, feature_file, tmp_path_factory):
    """A setup, and the results and lines of an uninterrupted run whose programs were compiled before."""
    for name in ("first", "second"):
        workdir = tmp_path_factory.mktemp(name)
        lines, _ = finish(start(feature_file, workdir, SETUPS[request.param]))
    return SETUPS[request.param], results_of(workdir), lines


def kill_at(processes, victim, lines, moment):
    """Kills one process as long after its run's line as `moment` is in a run of these lines, so that the machine's load is nothing, and
    stops the rest; whether it was alive, the line, and the seconds that the rest took to end."""
    times = [0.0, *(seconds for seconds, _ in lines)]
    number = int(np.searchsorted(times, moment, side="right")) - 1
    for _ in range(number):
        processes[0].stdout.readline()
    time.sleep(moment - times[number])
    processes[victim].kill()
    alive, began = processes[victim].wait() != 0, time.monotonic()
    for process in processes:
        process.send_signal(signal.SIGTERM)  # nothing where it has ended
        process.communicate()
    return alive, lines[number - 1][1] if number else "nothing yet", time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("run", range(-(-KILLS // (len(SETUPS) * EACH))))
def test_killed_at_random_moments_it_ends_in_the_same_bits(whole, feature_file, tmp_path, run):
    setup, expected, lines = whole
    end = next(seconds for seconds, line in lines if "went into compiling" in line)
    rng = np.random.default_rng([run, *setup])
    for moment in rng.uniform(0, end, EACH):
        victim = int(rng.integers(setup.processes))
        alive, line, rest = kill_at(start(feature_file, tmp_path, setup), victim, lines, moment)
        how = f"process {victim} killed, the rest ended in {rest:.1f} s" if alive else "done before"
        print(f"{setup}, run {run}: {moment:.1f} s of {end:.1f} s in, after: {line}: {how}")
        assert rest < 15
    _, error = finish(start(feature_file, tmp_path, setup))
    assert "damaged" not in error
    assert results_of(tmp_path) == expected
