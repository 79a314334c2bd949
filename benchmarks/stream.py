"""A bank larger than memory: is it faster to read its heads back from the disk, or to solve them again?

python benchmarks/stream.py [--shots=1,4,16] [--dim=2048] [--classes=397] [--megabytes=64] [--json=FILE]

For every k it solves as many heads as a piece of that size holds, saves the piece, and restores it as training does, with its checksum.
Solving is compiled before, and the second of two saves and reads counts.
"""

import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from cases import Case, features

from mmn_jax import devices
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.store import artifacts

FLAGS = flags.FLAGS
flags.DEFINE_list("shots", ["1", "4", "16"], "k")
flags.DEFINE_integer("dim", 2048, "d")
flags.DEFINE_integer("classes", 397, "C")
flags.DEFINE_integer("megabytes", 64, "MB of rows in a piece.")
flags.DEFINE_string("json", "", "JSON file to write the rows to.")


def seconds(case: Case, folder: Path) -> dict[str, float]:
    """Times solving, saving and reading one piece."""
    train, counts = features(case)
    mesh = devices.all_devices()
    heads = max(1, (FLAGS.megabytes << 20) // (4 * case.classes * (case.d + 1)))
    plan = kshot_bank.BankPlan(case.k, heads, 0.01, 1e-4, 1e-4, 24 << 20)
    pool = kshot_bank.bank_pool(train, counts, case.k, mesh)
    size = kshot_bank.chunk_size(pool.shape, plan, mesh.size)
    jax.block_until_ready(kshot_bank.fit_heads(jax.random.key(0), 0, pool, plan, mesh))
    marks = [time.perf_counter()]
    parts = [kshot_bank.fit_heads(jax.random.key(1), first, pool, plan, mesh)[0] for first in range(0, heads, size)]
    marks.append(time.perf_counter())
    for name in ("warm", "piece"):
        artifacts.save(folder / name, {"theta": np.concatenate(parts)}, {})
        marks.append(time.perf_counter())
        artifacts.restore(folder / name)
        marks.append(time.perf_counter())
    solve, *_, save, read = np.diff(marks)
    return {"k": case.k, "d": case.d, "classes": case.classes, "heads": heads, "solve": solve, "save": save, "read": read}


def main(_):
    lines = []
    for k in map(int, FLAGS.shots):
        with tempfile.TemporaryDirectory() as folder:
            lines.append(seconds(Case(k, FLAGS.dim, FLAGS.classes), Path(folder)))
        print(lines[-1], flush=True)
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps(lines, indent=1))
    print(markdown([list(lines[0]), *([f"{value:.3g}" for value in line.values()] for line in lines)]))


if __name__ == "__main__":
    app.run(main)
