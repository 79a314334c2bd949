"""Runs the command for tests: in a process of its own, as a user would, or in theirs."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys

import jax
from conftest import ROOT

SMALL = [
    "--config.data.longtail.imbalance=20", "--config.data.longtail.max_per_class=40", "--config.heads.l2=1e-2,1e-3,1e-4",
    "--config.kshot.subsets=4,3", "--config.kshot.top=1", "--config.kshot.l2=1e-4",
    "--config.meta.steps=20", "--config.meta.task_weight=0.1", "--config.meta.width=4", "--config.tuning.budget=6",
]  # fmt: skip


STRICT = ("XLA_FLAGS", "JAX_NUMPY_DTYPE_PROMOTION")  # what conftest.py sets and no user has


def command(*flags):
    return [sys.executable, str(ROOT / "bin" / "run.py"), *flags]


def environment():
    """Returns the environment of a user, without the strict settings of the tests."""
    return {k: v for k, v in os.environ.items() if k not in STRICT}


def run(*flags, cwd=None):
    return subprocess.run(command(*flags), capture_output=True, text=True, cwd=cwd or ROOT, env=environment())


def together(processes):
    """Returns, for each process of a run, the flags that join it to the others; none for a single process."""
    if processes == 1:
        return [[]]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        several = [f"--coordinator=localhost:{free.getsockname()[1]}", f"--processes={processes}"]
    return [[*several, f"--process={i}"] for i in range(processes)]


def own(feature_file, workdir, *flags):
    return ["--config=configs/own_features.py", f"--config.data.path={feature_file}", f"--workdir={workdir}", *SMALL, *flags]


def in_process(*flags):
    """Runs bin/run.py's main in this process and returns its exit code."""
    spec = importlib.util.spec_from_file_location("run_command", ROOT / "bin" / "run.py")
    module = sys.modules["run_command"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with jax.numpy_dtype_promotion("standard"), contextlib.chdir(ROOT):  # as users have it
        return module.main(["bin/run.py", *map(str, flags)])
