"""Does `mmn` help my data? Its expected gain over logit adjustment, estimated from training data alone.

Classes with 8 examples or more are subsampled to a long tail again, each to the count of a random class of the training set and to at most
half of its own. Both methods are fitted to the subsample, with the same budget of settings; half of the examples left out choose the
settings, the other half evaluate. The gain is thus measured on a smaller data set.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.data.longtail import class_pool, random_ranks
from mmn_jax.data.normalisation import normalisation
from mmn_jax.devices import start
from mmn_jax.errors import BadInput
from mmn_jax.evaluation.bootstrap import student_interval
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods import mmn, rivals
from mmn_jax.methods.choosing import tune
from mmn_jax.methods.contract import Method
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.subsampling import draw_shots
from mmn_jax.methods.tasks import Task, make_task
from mmn_jax.rng import generator, stream
from mmn_jax.types import Examples, Normalised

LEAST = 8  # examples that a class needs: at least 2 are left to choose by and 2 to evaluate
FEW = 30  # classes; fewer hardly determine the covariance of class means


class Diagnosis(NamedTuple):
    """An estimated gain.

    gains: of each subsample, the difference in mean per-class accuracy, in percentage points. low, high: 95% interval of their mean
    (Student's t). classes: number of classes that were subsampled.
    """

    gains: Float[np.ndarray, " subsamples"]
    low: float
    high: float
    classes: int


def _tuned_accuracy(method: Method, task: Task, val: Normalised, test: Normalised) -> float:
    """Computes the accuracy of a method on test examples, tuned on validation examples."""
    whole = Fold("subsample", task.train, val)
    arrays = tune(method, lambda name: (task, task), [whole], whole).arrays
    return mean_class_accuracy(method.logits(arrays, test.x), test.y)


def subsample(key: Key[Array, ""], pool: Examples, counts: Int[np.ndarray, " C"]) -> tuple[Normalised, Normalised, Normalised]:
    """Draws a long-tailed subsample of a pool, and two halves of the rest; all are normalised by the subsample.

    Args:
      key: draws it.
      pool: examples sorted by label.
      counts: counts to draw from.
    """
    draw, keep, halve = jax.random.split(key, 3)
    shots = draw_shots(generator(draw), counts, np.bincount(pool.y))
    used = random_ranks(keep, pool.y) < shots[pool.y]
    rest = pool.at(~used)
    odd = random_ranks(halve, rest.y) % 2 == 1
    normalise = normalisation(pool.at(used))
    return normalise.of(pool.at(used)), normalise.of(rest.at(odd)), normalise.of(rest.at(~odd))


def diagnose(train: Examples, seed: int = 0, cuts: int = 5, track: Callable[[Iterable], Iterable] = lambda steps: steps) -> Diagnosis:
    """Estimates the gain of mmn over logit adjustment on data like a training set.

    Args:
      train: the training set; features needn't be normalised.
      seed: determines the subsamples and what methods draw.
      cuts: number of subsamples.
      track: wraps the iterable of subsamples, such as tqdm.

    Raises:
      BadInput: fewer than 3 classes have 8 examples, `cuts` is less than 2, or JAX cannot start.
    """
    if cuts < 2:
        raise BadInput(f"cuts: must be at least 2 for an interval, it is {cuts}")
    counts = np.bincount(train.y)
    classes = np.flatnonzero(counts >= LEAST)
    if len(classes) < 3:
        have = f"{len(classes)} of {(counts > 0).sum()} classes have {LEAST} examples or more"
        raise BadInput(f"train_y: {have}; at least 3 must, to be subsampled and evaluated")
    start()
    pool = class_pool(train, classes)
    pair = mmn.methods(defaults.RIDGES)["mmn"], rivals.methods(defaults.RIDGES)["logit_adjustment"]
    gains = []
    for i in track(range(cuts)):
        part, val, test = subsample(stream(seed, "diagnose", i, "cut"), pool, counts[counts > 0])  # another name would draw others
        task = make_task(part, stream(seed, "diagnose", i), defaults.TOL)
        ours, theirs = (_tuned_accuracy(method, task, val, test) for method in pair)
        gains.append(ours - theirs)
    _, low, high = student_interval(gains)
    return Diagnosis(np.array(gains), low, high, len(classes))


def describe(diagnosis: Diagnosis) -> str:
    """Returns the diagnosis in words, one line for each statement."""
    mean = diagnosis.gains.mean()
    lines = [
        f"expected gain of mmn over logit adjustment: {mean:+.1f} points of mean per-class accuracy"
        f" ({diagnosis.low:+.1f} to {diagnosis.high:+.1f}), from {len(diagnosis.gains)} subsamples of {diagnosis.classes} classes"
    ]
    if diagnosis.low <= 0 <= diagnosis.high:
        lines.append("the interval contains 0: on data like this the two may be equally accurate")
    if diagnosis.high < 0:
        lines.append("logit adjustment is ahead: use it on data like this")
    if diagnosis.classes < FEW:
        lines.append(f"warning: only {diagnosis.classes} classes have {LEAST} examples; fewer than {FEW} hardly show how classes scatter")
    return "\n".join(lines)
