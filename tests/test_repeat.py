"""Numbers that repeat: the same command gives the same figures whatever it is run with.

Bits are the same whatever is in the cache of compiled programs. Whatever kshot.memory_mb lets a device solve at once, and the number of
threads, may move rows within the solver's tolerance, as products of matrices are summed in another order: figures by less than 0.1.
"""

import json
import os
import subprocess

import numpy as np
import pytest
from commands import ROOT, command, environment, own
from test_kill import QUICK, results_of

pytestmark = pytest.mark.slow
CORES = sorted(os.sched_getaffinity(0))


def figures(feature_file, workdir, *flags, cores=CORES, **variables):
    os.sched_setaffinity(0, cores)  # of this thread, and of what it starts
    try:
        done = subprocess.run(
            command(*own(feature_file, workdir, *QUICK, *flags)), cwd=ROOT, capture_output=True, text=True, env=environment() | variables
        )
    finally:
        os.sched_setaffinity(0, CORES)
    assert done.returncode == 0, done.stderr
    return results_of(workdir)


@pytest.fixture(scope="module")
def usual(feature_file, tmp_path_factory):
    return figures(feature_file, tmp_path_factory.mktemp("usual"))


def test_a_cold_cache_gives_the_same_bits(usual, feature_file, tmp_path):
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    assert figures(feature_file, tmp_path / "run", **cache) == usual


def accuracies(found):
    return {name: method["accuracy"] for name, method in json.loads(found[0])["methods"].items()}


def test_batches_of_another_size_and_one_thread_move_no_figure_of_the_table(usual, feature_file, tmp_path):
    one = {"OPENBLAS_NUM_THREADS": "1"}
    others = {
        "memory": figures(feature_file, tmp_path / "memory", "--config.kshot.memory_mb=1"),
        "one thread": figures(feature_file, tmp_path / "thread", cores=CORES[:1], **one),
    }
    for name, found in others.items():
        same = "the same bits" if found == usual else "other bits"
        print(f"{name}: {same}")
        for method, accuracy in accuracies(usual).items():
            assert accuracies(found)[method] == pytest.approx(accuracy, abs=0.1), (name, method)
        if name == "memory":
            np.testing.assert_equal(found[1], usual[1])  # the classifier is `mmn`, which has no bank
