"""One device, eight, or two processes: the same rows, the same training, the same table."""

import json
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs
from test_cli import command, environment, own, run, together

from mmn_jax import artifacts, kshot, stagewise
from mmn_jax.chain import residual_chain
from mmn_jax.mesh import AXIS, all_devices
from mmn_jax.regressor import Context, RegressorSpec
from mmn_jax.types import Examples

ONE = jax.sharding.Mesh(jax.devices()[:1], (AXIS,))
COUNTS = np.full(11, 8)


def bank(mesh, subsets=13):
    train = Examples(*blobs(0, COUNTS, 5))
    return kshot.fit_bank(jax.random.key(3), train, COUNTS, kshot.BankPlan(2, subsets, 0.05, 1e-5, 1e-6, 1 << 20), mesh)[0], train


def test_eight_devices_solve_the_heads_of_one_though_their_number_is_uneven():
    assert all_devices().size == 8
    one, eight = (bank(mesh)[0].heads(0, 13) for mesh in (ONE, all_devices()))
    assert eight.shape == (13, 11, 6)
    np.testing.assert_allclose(eight, one, atol=1e-3 * np.abs(one).max())


def test_eight_devices_learn_what_one_learns():
    chain, context, held = residual_chain((2,), 8), Context(None, jnp.zeros(11, jnp.int32)), stagewise.held_out_classes(COUNTS, 0.2)
    made, train = bank(ONE)
    trained = []
    for mesh in (ONE, all_devices()):
        lessons = stagewise.make_lessons(jax.random.key(0), [made], train, COUNTS, held, 1.0, mesh)
        programs = stagewise.compile_programs(chain, 16, mesh)
        start = chain.init(jax.random.key(1), RegressorSpec(6, 0))
        hyper, steps = stagewise.Hyper(0.1, 1e-2, 1e-3), {"steps": 20, "every": 10, "patience": 3}
        with jax.numpy_dtype_promotion("standard"):
            trained.append(stagewise.train_stage(programs, start, hyper, jax.random.key(2), context, lessons, **steps)[1].curve)
    np.testing.assert_allclose(*trained, rtol=1e-2)
    assert trained[0][-1] < trained[0][0]


@pytest.fixture(scope="module")
def workdirs(feature_file, tmp_path_factory):
    """The same run by one process and by two."""
    one, two = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    runs = [own(feature_file, one), *(own(feature_file, two, *flags) for flags in together(2))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
    started = [subprocess.Popen(command(*flags), **pipes) for flags in runs]
    ended = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], [errors[-2000:] for _, errors in ended]
    assert ended[0][0].count("mmn") == ended[1][0].count("mmn") > 0 and "mmn" not in ended[2][0]  # the second process is quiet
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
    together = workdirs[1]
    before = {path: path.stat().st_mtime_ns for path in Path(together).glob("seed-0/**/_METADATA")}
    assert run(*own(feature_file, together)).returncode == 0
    assert before and before == {path: path.stat().st_mtime_ns for path in Path(together).glob("seed-0/**/_METADATA")}


def test_a_coordinator_that_is_none_is_one_line(feature_file, tmp_path):
    ended = run(*own(feature_file, tmp_path, "--coordinator=nowhere", "--processes=2", "--process=0"))
    assert ended.returncode == 2 and "--coordinator=nowhere" in ended.stderr and "Traceback" not in ended.stderr
