"""Does it help my data? The expected gain of `mmn` on logit adjustment, from training data alone.

python -m mmn_jax.diagnose --features=FILE.npz [--cuts=5] [--seed=0]

Classes with 8 examples or more are cut to a long tail again, each to the count of a random class of the training set and to
at most half of what it has. Both methods learn from the cut, with the same budget of settings; half of what the cut left unused
chooses them, the other half judges. What is measured is the gain on this cut, smaller, data set.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from mmn_jax import config, mmn, rivals, tuning
from mmn_jax.command import Parser, exit_code, stop_on_signals
from mmn_jax.cuts import draw_shots
from mmn_jax.data.feature_files import load_training
from mmn_jax.data.longtail import class_pool, random_ranks
from mmn_jax.data.parquet import Columns
from mmn_jax.evaluate import mean_class_accuracy, student_interval
from mmn_jax.keys import generator, stream
from mmn_jax.mesh import start
from mmn_jax.methods import Method, tune
from mmn_jax.normalisation import normalisation
from mmn_jax.tasks import Task, make_task
from mmn_jax.types import BadInput, Examples

LEAST = 8  # examples that a class needs: at least 2 to choose by and 2 to judge by are left
FEW = 30  # below this too few tell the covariance of class means


class Diagnosis(NamedTuple):
    """gains: [cuts] difference in mean per-class accuracy, in points. low, high: 95% interval of their mean (Student's t).
    classes: how many could be cut."""

    gains: np.ndarray
    low: float
    high: float
    classes: int


def _tuned_accuracy(method: Method, task: Task, val: Examples, test: Examples, budget: int) -> float:
    arrays = tune(method, [task], [tuning.Fold("cut", task.train, val)], task, budget).arrays
    return mean_class_accuracy(method.logits(arrays, test.x), test.y)


def cut(key: jax.Array, pool: Examples, counts: np.ndarray) -> tuple[Examples, Examples, Examples]:
    """A long-tailed part of a pool sorted by label, and two halves of the rest; normalised by the first. counts: [C] to draw from."""
    draw, keep, halve = jax.random.split(key, 3)
    shots = draw_shots(generator(draw), counts, np.bincount(pool.y))
    used = random_ranks(keep, pool.y) < shots[pool.y]
    rest = pool.at(~used)
    odd = random_ranks(halve, rest.y) % 2 == 1
    normalise = normalisation(pool.at(used))
    return normalise.of(pool.at(used)), normalise.of(rest.at(odd)), normalise.of(rest.at(~odd))


def diagnose(train: Examples, seed: int = 0, cuts: int = 5, track: Callable[[Iterable], Iterable] = lambda cuts: cuts) -> Diagnosis:
    """The expected gain of mmn on logit adjustment; track: goes over the cuts, such as tqdm.

    Raises:
      BadInput: fewer than 3 classes have 8 examples, fewer than 2 cuts are asked for, or JAX cannot start.
    """
    if cuts < 2:
        raise BadInput(f"cuts: must be at least 2 for an interval, it is {cuts}")
    settings = config.default()
    counts = np.bincount(train.y)
    classes = np.flatnonzero(counts >= LEAST)
    if len(classes) < 3:
        has = f"{len(classes)} of {(counts > 0).sum()} classes have {LEAST} examples or more"
        raise BadInput(f"train_y: {has}; at least 3 must, to be cut and judged")
    start()
    pool = class_pool(train, classes)
    pair = mmn.methods(settings.heads.l2)["mmn"], rivals.methods(settings.heads.l2)["logit_adjustment"]
    gains = []
    for i in track(range(cuts)):
        part, val, test = cut(stream(seed, "diagnose", i, "cut"), pool, counts[counts > 0])
        task = make_task(part, stream(seed, "diagnose", i, "weighting"), settings.heads.tol)
        ours, theirs = (_tuned_accuracy(method, task, val, test, settings.tuning.budget) for method in pair)
        gains.append(ours - theirs)
    _, low, high = student_interval(gains)
    return Diagnosis(np.array(gains), low, high, len(classes))


def describe(diagnosis: Diagnosis) -> str:
    """The diagnosis in words."""
    mean = diagnosis.gains.mean()
    lines = [
        f"expected gain of mmn on logit adjustment: {mean:+.1f} points of mean per-class accuracy"
        f" ({diagnosis.low:+.1f} to {diagnosis.high:+.1f}), from {len(diagnosis.gains)} cuts of {diagnosis.classes} classes"
    ]
    if diagnosis.low <= 0 <= diagnosis.high:
        lines.append("the interval holds 0: on data like this the two may as well be equal")
    if diagnosis.high < 0:
        lines.append("logit adjustment is ahead: on data like this mmn does harm")
    if diagnosis.classes < FEW:
        lines.append(
            f"warning: only {diagnosis.classes} classes have {LEAST} examples; below {FEW} they say little about how classes scatter"
        )
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = Parser("python -m mmn_jax.diagnose", description="Does mmn help my data? From training data alone.")
    parser.add_argument(
        "--features", required=True, help="features with train_x [n, d] and train_y [n], in any form of docs/your_own_features.md"
    )
    for role, name in Columns._field_defaults.items():  # the flags of a run, which messages on a column name
        told = f"the column of a Parquet file (default: {name})"
        parser.add_argument(f"--config.data.columns.{role}", default=name, metavar="NAME", dest=f"{role}_column", help=told)
    parser.add_argument("--cuts", type=int, default=5, help="long tails to make, at least 2")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    def work():
        arguments = parse(argv)
        if arguments.cuts < 2:
            raise BadInput(f"--cuts: must be at least 2 for an interval, it is {arguments.cuts}")
        if not 0 <= arguments.seed < 2**31:
            raise BadInput(f"--seed: must be from 0 to 2^31 - 1, it is {arguments.seed}")
        start()
        track = partial(tqdm, desc="cuts", leave=False, disable=None)  # on stderr, where that is a terminal
        train = load_training(arguments.features, Columns(*(getattr(arguments, f"{role}_column") for role in Columns._fields)))
        print(f"{len(train.y)} examples, {arguments.cuts} cuts; mmn and logit adjustment are tuned on each", flush=True)
        try:
            found = diagnose(train, arguments.seed, arguments.cuts, track)
        except BadInput as error:
            raise BadInput(f"{arguments.features}: {error}") from error
        print(describe(found))

    return exit_code(work)


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
