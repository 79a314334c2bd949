"""Does `mmn` help my data? Its expected gain over logit adjustment, estimated from training data alone.

Classes with 8 examples or more are cut to a long tail again, each to the count of a random class of the training set and to
at most half of what it has. Both methods learn from the cut, with the same budget of settings; half of what the cut left unused
chooses them, the other half judges. What is measured is the gain on this cut, smaller, data set.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np

from mmn_jax import defaults
from mmn_jax.data.longtail import class_pool, random_ranks
from mmn_jax.data.normalisation import normalisation
from mmn_jax.devices import start
from mmn_jax.errors import BadInput
from mmn_jax.evaluation.bootstrap import student_interval
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods import mmn, rivals
from mmn_jax.methods.contract import Method, tune
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.subsampling import draw_shots
from mmn_jax.methods.tasks import Task, make_task
from mmn_jax.rng import generator, stream
from mmn_jax.types import Examples

LEAST = 8  # examples that a class needs: at least 2 to choose by and 2 to judge by are left
FEW = 30  # below this too few tell the covariance of class means


class Diagnosis(NamedTuple):
    """gains: [cuts] difference in mean per-class accuracy, in points. low, high: 95% interval of their mean (Student's t).
    classes: how many could be cut."""

    gains: np.ndarray
    low: float
    high: float
    classes: int


def _tuned_accuracy(method: Method, task: Task, val: Examples, test: Examples) -> float:
    whole = Fold("subsample", task.train, val)
    arrays = tune(method, lambda name: (task, task), [whole], whole).arrays
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
    counts = np.bincount(train.y)
    classes = np.flatnonzero(counts >= LEAST)
    if len(classes) < 3:
        has = f"{len(classes)} of {(counts > 0).sum()} classes have {LEAST} examples or more"
        raise BadInput(f"train_y: {has}; at least 3 must, to be cut and judged")
    start()
    pool = class_pool(train, classes)
    pair = mmn.methods(defaults.RIDGES)["mmn"], rivals.methods(defaults.RIDGES)["logit_adjustment"]
    gains = []
    for i in track(range(cuts)):
        part, val, test = cut(stream(seed, "diagnose", i, "cut"), pool, counts[counts > 0])
        task = make_task(part, stream(seed, "diagnose", i), defaults.TOL)
        ours, theirs = (_tuned_accuracy(method, task, val, test) for method in pair)
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
