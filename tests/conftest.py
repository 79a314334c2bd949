"""Strict settings for every test: annotations are checked, dtypes aren't promoted silently, warnings are errors (pyproject.toml), and there
are 8 simulated devices."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

if "PYTEST_XDIST_WORKER" not in os.environ:  # programs that several tests compile, in any process, are compiled once
    CACHE = tempfile.TemporaryDirectory(prefix="mmn_jax-cache-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # problems are small here: programs take longer to compile than to run
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 13):  # XLA's former way of compiling takes half the time (mmn_jax.devices)
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"

import beartype
import jaxtyping
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = beartype.BeartypeConf(hint_overrides=beartype.FrozenDict({int: int | np.integer, float: float | np.floating | int | np.integer}))
PARTS = ("data", "linear", "evaluation", "metamodelnet", "methods", "contrib", "rng", "machine", "devices")
CHECKED = [f"mmn_jax.{name}" for name in PARTS]

# Functions of these modules check their arguments and results at every call, traced ones when they are traced, and raise TypeCheckError.
# The hook wraps a module when it is first imported, so that no module of mmn_jax may be imported above.
jaxtyping.install_import_hook(CHECKED, "conftest.typechecked")


def typechecked(function):
    """Wraps a function so that it checks its annotations; numbers of numpy stand for those of Python, and an int for a float."""
    return beartype.beartype(function, conf=NUMBERS)


def blobs(seed, counts, dim, spread=1.0):
    """Gaussian classes: x [n, d] float32, y [n] int32 with the given counts."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(counts), dim)) * 1.5
    y = np.repeat(np.arange(len(counts)), counts)
    x = means[y] + spread * rng.normal(size=(len(y), dim))
    x = x - x.mean(0)
    return (x / np.sqrt((x**2).sum(1).mean())).astype(np.float32), y.astype(np.int32)


def write_features(path):
    """A small balanced set of own features: 20 classes of 60, made long-tailed by the runs that use it."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(20, 10)) * 1.2
    arrays = {}
    for part, per_class in (("train", 60), ("test", 15)):
        y = np.repeat(np.arange(20), per_class)
        arrays[f"{part}_x"] = (means[y] + rng.normal(size=(len(y), 10))).astype(np.float16)
        arrays[f"{part}_y"] = y
    arrays["class_names"] = np.array([f"class {c}" for c in range(20)])
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def feature_file(tmp_path_factory):
    """Small own features, for every test that only reads them."""
    return write_features(tmp_path_factory.mktemp("data") / "features.npz")
