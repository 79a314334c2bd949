"""Measures heads per second of a bank of k-shot heads, against scikit-learn's LogisticRegression at the same objective and gradient norm.

python benchmarks/bank.py [--quick] [--rivals=sklearn,torch,optax,optimistix] [--json=FILE]

Features are synthetic: Gaussian classes with a power-law spectrum. The rival is the fastest of scikit-learn's solvers for the case, one
process per core; its tolerance is lowered until its gradient norm, measured in float64, is no larger than the bank's. torch's L-BFGS
runs the same way; optax's and optimistix's run under vmap (`jax_rivals.py`). FLOPs are counted for the matrix products of the solver's
steps; the peak is that of a square float32 product, measured in the same run. --quick is k = 1, 4, 16 at d = 384 and 100 classes.
"""

import itertools
import json
import multiprocessing
import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags
from cases import Case, features, subset
from jax_rivals import by_optax, by_optimistix
from machine import peak
from scipy.special import softmax

from mmn_jax import devices
from mmn_jax.linear.solve import BFGS, head_flops
from mmn_jax.machine import one_thread
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.types import Normalised

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "k = 1, 4, 16 at d = 384, 100 classes: under 5 minutes on 2 cores.")
flags.DEFINE_string("json", "", "JSON file to write the rows to.")
flags.DEFINE_list("shots", ["1", "4", "16", "64"], "k")
flags.DEFINE_list("dims", ["128", "384", "2048"], "d")
flags.DEFINE_list("classes", ["100", "397"], "C")
flags.DEFINE_float("seconds", 10.0, "Minimum time that a bank is measured for.")
flags.DEFINE_integer("cores", 0, "Cores of the rival; 0: all.")
flags.DEFINE_list("rivals", ["sklearn"], "What to compare with: sklearn, optax; torch, optimistix (if installed).")

RIDGE, TOL = 0.01, 1e-4  # of the summed loss; gradient norm of the mean loss


class Timed(NamedTuple):
    """Measurements of a bank: heads per second, FLOP/s of its products, largest gradient norm."""

    heads_per_second: float
    flops: float
    gradient_norm: float


def ours(case: Case, train: Normalised, counts: np.ndarray) -> Timed:
    """Times the heads of a bank; the first batch, which compiles, doesn't count."""
    plan = kshot_bank.BankPlan(case.k, 1, RIDGE, TOL, TOL, devices.batch_memory())
    mesh = devices.all_devices()
    pool = kshot_bank.bank_pool(train, counts, case.k, mesh)
    size = kshot_bank.chunk_size(pool.shape, plan._replace(subsets=10**6), mesh.size)
    key, norm, flops, heads, spent = jax.random.key(0), 0.0, 0.0, 0, 0.0
    for first in itertools.count(0, size):
        began = time.perf_counter()
        with one_thread(case.k * case.classes):
            _, info = jax.block_until_ready(kshot_bank.fit_chunk(key, first + np.arange(size), pool, plan, mesh))
        if first == 0:  # this call compiled
            continue
        spent += time.perf_counter() - began
        heads += size
        norm = max(norm, float(info.gradient_norm.max()))
        flops += head_flops(case.k * case.classes, case.d, case.classes, info.steps, info.products, BFGS).sum()
        if spent > FLAGS.seconds:
            return Timed(heads / spent, flops / spent, norm)
    raise AssertionError("counting has no end")


def _gradient_norm(w, b, x, y, ridge):
    """Returns the gradient norm of the mean loss in float64, features centred as the bank's are."""
    mean = x.mean(0)
    residual = softmax(x @ w.T + b, axis=1) - np.eye(len(b))[y]
    rows = (residual.T @ (x - mean) + ridge * w) / len(y)
    return float(np.sqrt((rows**2).sum() + (residual.mean(0) ** 2).sum()))


def _by_sklearn(x, y, ridge, tol, solver):
    """Fits scikit-learn's LogisticRegression; returns weights and biases."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / ridge, solver=solver, tol=tol, max_iter=10000).fit(x.astype(np.float64), y)
    return model.coef_, model.intercept_


def _by_torch(x, y, ridge, tol):
    """Fits a head by torch's L-BFGS with a strong Wolfe line search, in float32; returns weights and biases."""
    import torch

    torch.set_num_threads(1)
    w = torch.zeros(int(y.max()) + 1, x.shape[1], requires_grad=True)
    b = torch.zeros(len(w), requires_grad=True)
    features, labels = torch.from_numpy(x), torch.from_numpy(y).long()
    options = {"max_iter": 10000, "max_eval": 10**6, "history_size": 10, "tolerance_grad": tol, "tolerance_change": 0.0}
    optimiser = torch.optim.LBFGS([w, b], line_search_fn="strong_wolfe", **options)

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(features @ w.T + b, labels) + ridge / (2 * len(labels)) * w.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return w.detach().double().numpy(), b.detach().double().numpy()


SOLVERS = {"lbfgs": partial(_by_sklearn, solver="lbfgs"), "newton-cg": partial(_by_sklearn, solver="newton-cg"), "torch": _by_torch}
JAX_RIVALS = {"optax": by_optax, "optimistix": by_optimistix}
RIVALS = {"sklearn": ("lbfgs", "newton-cg"), "torch": ("torch",)}


def _fit_rival(task):
    """Fits one head on one thread, lowering the tolerance until the gradient norm is at most `wanted`.

    Args:
      task: x, y, ridge, wanted, the solver's name, and its first tolerance.

    Returns:
      Seconds of the last fit, its gradient norm, and its tolerance.
    """
    from threadpoolctl import threadpool_limits

    x, y, ridge, wanted, solver, tol = task
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while True:
            began = time.perf_counter()
            w, b = SOLVERS[solver](x, y, ridge, tol)
            spent = time.perf_counter() - began
            norm = _gradient_norm(w, b, x.astype(np.float64), y, ridge)
            if norm <= wanted or tol < 1e-12:
                return spent, norm, tol
            tol /= 3


def rival(case: Case, train: Normalised, wanted: float, name: str) -> float:
    """Measures heads per second of the rival's fastest solver, one process per core.

    Args:
      case: the sizes.
      train: examples to draw subsets from.
      wanted: gradient norm to reach.
      name: of the rival, a key of `RIVALS`.
    """
    places = sorted(os.sched_getaffinity(0))[: FLAGS.cores or None]
    cores = len(places)
    rng = np.random.default_rng(1)

    first = subset(rng, case, train)
    tried = {solver: _fit_rival((*first, RIDGE, wanted, solver, 1e-3)) for solver in RIVALS[name]}
    solver = min(tried, key=lambda name: tried[name][0])
    each, _, tol = tried[solver]
    many = cores * max(1, int(FLAGS.seconds / each))
    tasks = [(*subset(rng, case, train), RIDGE, wanted, solver, tol) for _ in range(many)]
    with multiprocessing.get_context("spawn").Pool(cores, os.sched_setaffinity, (0, places)) as pool:
        pool.map(_fit_rival, tasks[:cores], chunksize=1)  # imports
        began = time.perf_counter()
        found = pool.map(_fit_rival, tasks, chunksize=1)
        spent = time.perf_counter() - began
    retried = sum(one[2] < tol for one in found)  # these spent time on a tolerance that was too loose, which doesn't count
    return many / spent * (1 + retried / many)


def measure(case: Case, top: float) -> dict[str, float]:
    """Measures one row of the table; `top` is the peak in FLOP/s."""
    train, counts = features(case)
    timed = ours(case, train, counts)

    def theirs(name):
        if name in JAX_RIVALS:
            return JAX_RIVALS[name](case, train, RIDGE, timed.gradient_norm, FLAGS.seconds)
        return rival(case, train, timed.gradient_norm, name)

    ratios = {name: timed.heads_per_second / theirs(name) for name in FLAGS.rivals}
    return {
        **case._asdict(),
        "heads_per_second": timed.heads_per_second,
        "ratio": ratios.pop("sklearn", float("nan")),
        "peak_share": timed.flops / top,
        "gradient_norm": timed.gradient_norm,
        **{f"{name}_ratio": ratio for name, ratio in ratios.items()},
    }


def main(_):
    os.environ.pop("OPENBLAS_CORETYPE", None)
    FLAGS.shots, FLAGS.dims, FLAGS.classes = (
        (["1", "4", "16"], ["384"], ["100"]) if FLAGS.quick else (FLAGS.shots, FLAGS.dims, FLAGS.classes)
    )
    top, rows = peak(), []
    print(f"{jax.devices()[0].device_kind}: {top / 1e9:.0f} GFLOP/s in a float32 product", flush=True)
    for d, classes, k in itertools.product(*(map(int, values) for values in (FLAGS.dims, FLAGS.classes, FLAGS.shots))):
        rows.append(measure(Case(k, d, classes), top))
        print({key: float(f"{value:.3g}") for key, value in rows[-1].items()}, flush=True)
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps(rows, indent=1))
    print(markdown([list(rows[0]), *([f"{value:.3g}" for value in row.values()] for row in rows)]))


if __name__ == "__main__":
    app.run(main)
