"""Measures how fast the chain trains: steps per second at level 0, which trains all blocks on all levels, and the share of the peak.

python benchmarks/chain.py [--dims=128,512,2048] [--classes=100,397] [--precision=float32,bfloat16] [--json=FILE]

Blocks are as wide as the features, as in the paper. FLOPs are counted for the dense products of a step: rows through every block that
they pass, forward and backward, and the logits of the task loss.
"""

import itertools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from machine import peak

from mmn_jax import devices
from mmn_jax.metamodelnet import kshot_bank, training
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.level import Hyper, begin_training
from mmn_jax.metamodelnet.regressor import Context, RegressorSpec
from mmn_jax.metamodelnet.training_data import held_out_classes, training_data
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.types import Normalised

FLAGS = flags.FLAGS
flags.DEFINE_list("dims", ["128", "512", "2048"], "Dimensions d of the features, and widths of the blocks.")
flags.DEFINE_list("classes", ["100"], "Numbers of classes.")
flags.DEFINE_list("precision", ["float32", "bfloat16"], "Precision of the chain's products.")
flags.DEFINE_float("seconds", 10, "Seconds to measure each case for.")
flags.DEFINE_string("json", "", "JSON file to write the rows to.")

LADDER, BATCH = (1, 2, 4, 8, 16, 32, 64), 256


def flops(classes: int, dim: int) -> float:
    """Counts the FLOPs of one step: two products [rows, d] × [d, d] per block, three times as many with gradients; rows of level i pass
    the blocks from i on."""
    passes = sum(classes * (len(LADDER) - i) for i in range(len(LADDER)))
    return 3 * (passes * 2 * 2 * dim * dim + len(LADDER) * 2 * BATCH * classes * dim)


def steps_per_second(classes: int, dim: int, precision: str) -> float:
    """Times the compiled step on rows and examples that are already in memory."""
    rng = np.random.default_rng(0)
    counts = np.full(classes, 2 * LADDER[-1])
    y = np.repeat(np.arange(classes, dtype=np.int32), counts)
    train = Normalised(rng.standard_normal((len(y), dim), np.float32), y)
    rows = rng.standard_normal((2, classes, dim + 1), np.float32)
    banks = [kshot_bank.in_memory(k, np.arange(classes), rows, rows[0]) for k in LADDER]
    held, mesh = held_out_classes(counts, 0.05), devices.all_devices()
    data = training_data(jax.random.key(0), banks, train, held, mesh)(0, 0)
    chain = residual_chain(LADDER, dim, jnp.dtype(precision))
    programs = training.compile_programs(chain, BATCH, mesh)
    variables = jax.jit(chain.init, static_argnums=1)(jax.random.key(1), RegressorSpec(dim + 1, 0))
    hyper, context = Hyper(0.1, 1e-3, 1e-2), programs.place(Context(None, jnp.zeros(classes, jnp.int32)))
    state = programs.place(begin_training(variables, hyper))
    for i in itertools.count():
        if i == 2:  # the first calls compile
            jax.block_until_ready(state)
            began = time.perf_counter()
        state, _ = programs.step(state, hyper, jax.random.key(i), context, data)
        if i > 2 and i % 4 == 0:
            jax.block_until_ready(state)
            if time.perf_counter() - began > FLAGS.seconds:
                return (i - 1) / (time.perf_counter() - began)
    raise AssertionError("counting has no end")


def main(_):
    top, lines = peak(), []
    print(f"{jax.devices()[0].device_kind}: {top / 1e9:.0f} GFLOP/s in a float32 product", flush=True)
    for dim, classes, precision in itertools.product(map(int, FLAGS.dims), map(int, FLAGS.classes), FLAGS.precision):
        rate = steps_per_second(classes, dim, precision)
        share = rate * flops(classes, dim) / top
        lines.append({"d": dim, "classes": classes, "precision": precision, "steps_per_second": rate, "peak_share": share})
        print(lines[-1], flush=True)
        if FLAGS.json:
            Path(FLAGS.json).write_text(json.dumps(lines, indent=1))
    print(markdown([list(lines[0]), *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in line.values()] for line in lines)]))


if __name__ == "__main__":
    app.run(main)
