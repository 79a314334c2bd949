"""One process or two: the same rows, the same table."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import command, environment, own, run, together

from mmn_jax.store import artifacts

QUICK = ["--config.heads.l2=1e-2", "--config.tuning.budget=2", "--config.eval.draws=100"]


@pytest.fixture(scope="module")
def workdirs(feature_file, tmp_path_factory):
    """The same run by one process and by two."""
    one, two = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    alone = run(*own(feature_file, one, *QUICK))  # first: most of its programs are the others', too, and stay compiled
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    started = [subprocess.Popen(command(*own(feature_file, two, *QUICK, *flags)), **pipes) for flags in together(2)]
    ended = [process.communicate(timeout=240) for process in started]
    codes = [process.returncode for process in (alone, *started)]
    assert codes == [0, 0, 0], [alone.stderr[-2000:], *(errors[-2000:] for _, errors in ended)]
    assert alone.stdout.count("mmn") == ended[0][0].count("mmn") > 0 and "mmn" not in ended[1][0]  # the second process is quiet
    return one, two


def test_two_processes_give_the_rows_and_the_table_of_one(workdirs):
    alone, together = (sorted(path.glob("seed-0/bank-*/heads-*")) for path in workdirs)
    assert [path.name for path in alone] == [path.name for path in together] and len(alone) == 2
    for one, two in zip(alone, together, strict=True):
        rows = artifacts.restore(one)[0]["theta"]
        np.testing.assert_allclose(artifacts.restore(two)[0]["theta"], rows, atol=1e-2 * np.abs(rows).max())
    tables = [json.loads((path / "results.json").read_text())["methods"] for path in workdirs]
    for name in tables[0]:
        assert abs(tables[0][name]["accuracy"] - tables[1][name]["accuracy"]) <= 1.0


def test_what_two_processes_saved_serves_one(workdirs, feature_file):
    shared = workdirs[1]
    before = {path: path.stat().st_mtime_ns for path in Path(shared).glob("seed-0/**/_METADATA")}
    assert run(*own(feature_file, shared, *QUICK)).returncode == 0
    assert before and before == {path: path.stat().st_mtime_ns for path in Path(shared).glob("seed-0/**/_METADATA")}


def test_a_coordinator_that_is_none_is_one_line(feature_file, tmp_path):
    ended = run(*own(feature_file, tmp_path, "--coordinator=nowhere", "--processes=2", "--process=0"))
    assert ended.returncode == 2 and "--coordinator=nowhere" in ended.stderr and "Traceback" not in ended.stderr
