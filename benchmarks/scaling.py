"""Measures how the cost of a bank grows with each of S, C, d and k while the others stay fixed: seconds for S heads, and nanoseconds for
each of their S · kC · C · d products of a feature with a weight.

python benchmarks/scaling.py [--json=FILE]
"""

import json
import time
from pathlib import Path

import jax
from absl import app, flags
from cases import Case, features

from mmn_jax import devices
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.pipeline.table_formats import markdown

FLAGS = flags.FLAGS
flags.DEFINE_list("subsets", ["64", "256", "1024"], "S")
flags.DEFINE_list("classes", ["50", "200", "400"], "C")
flags.DEFINE_list("dims", ["64", "256", "512"], "d")
flags.DEFINE_list("shots", ["1", "16"], "k")
flags.DEFINE_string("json", "", "JSON file to write the rows to.")

BASE, SUBSETS = Case(4, 128, 100), 128


def seconds(case: Case, subsets: int) -> float:
    """Times the heads of a bank without θ*; its programs are compiled before."""
    train, counts = features(case)
    mesh = devices.all_devices()
    plan = kshot_bank.BankPlan(case.k, subsets, 0.01, 1e-4, 1e-4, 24 << 20)
    pool = kshot_bank.bank_pool(train, counts, case.k, mesh)
    size = kshot_bank.chunk_size(pool.shape, plan, mesh.size)
    kshot_bank.fit_heads(jax.random.key(0), 0, pool, plan, mesh)
    began = time.perf_counter()
    for first in range(0, subsets, size):
        kshot_bank.fit_heads(jax.random.key(0), first, pool, plan, mesh)
    return time.perf_counter() - began


def main(_):
    grown = [(BASE, int(s)) for s in FLAGS.subsets]
    grown += [(BASE._replace(classes=int(c)), SUBSETS) for c in FLAGS.classes]
    grown += [(BASE._replace(d=int(d)), SUBSETS) for d in FLAGS.dims]
    grown += [(BASE._replace(k=int(k)), SUBSETS) for k in FLAGS.shots]
    rows = []
    for case, subsets in grown:
        spent = seconds(case, subsets)
        products = subsets * case.k * case.classes**2 * case.d
        rows.append({"S": subsets, "k": case.k, "classes": case.classes, "d": case.d, "seconds": spent, "ns each": 1e9 * spent / products})
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps(rows, indent=1))
    print(markdown([list(rows[0]), *([f"{value:.3g}" for value in row.values()] for row in rows)]))


if __name__ == "__main__":
    app.run(main)
