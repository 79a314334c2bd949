"""What a method learns from: a training set in common units (`data/normalisation.py`), and the heads fitted to it, each once."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.devices import device_memory
from mmn_jax.errors import BadInput
from mmn_jax.linear.class_model import ClassModel, ClassStatistics, Shrinkage, class_statistics, model_of, row_prior_metric
from mmn_jax.linear.coordinates import Coordinates, coordinates, is_wide, span_basis, span_coordinates
from mmn_jax.linear.problem import HeadProblem, pad_examples
from mmn_jax.linear.solve import HeadInfo, fit_one, solve_bytes
from mmn_jax.linear.weighting import Rule, Weighting, checked, plain
from mmn_jax.machine import one_thread
from mmn_jax.rng import fold
from mmn_jax.types import Examples

HEADS_BYTES = 2**31  # of the heads that a task remembers


Scaling = Callable[["Task"], np.ndarray]  # the metric, [d] or [d, d], that a task's features have under the ridge


def unscaled(task: "Task") -> np.ndarray:
    """[d] ones."""
    return np.ones(task.train.x.shape[1], np.float32)


def standardised(task: "Task") -> np.ndarray:
    """[d] factors that give every dimension the same variance, at unit mean square norm; constant ones keep 1."""
    spread = task.train.x.std(0)
    usable = spread > 1e-6 * spread.max()
    return np.where(usable, 1 / (np.where(usable, spread, 1.0) * np.sqrt(usable.sum())), 1.0).astype(np.float32)


class RowPrior(NamedTuple):
    """The Scaling under which a ridge is the prior of rows that the classes with many examples teach (`classes.row_prior_metric`)."""

    shrinkage: Shrinkage

    def __call__(self, task: "Task") -> np.ndarray:
        metric, x = row_prior_metric(task.model(self.shrinkage), task.statistics().span), task.train.x
        square = (((x - x.mean(0)) @ metric) ** 2).sum(1).mean()
        return (metric / np.sqrt(square if square > 0 else 1.0)).astype(np.float32)  # 0: a cut of a tiny set that left one point


def fit_weighted(
    train: Examples, weighting: Weighting, l2: float, theta: np.ndarray, tol: float, place: Coordinates
) -> tuple[np.ndarray, HeadInfo]:
    """One head of normalised examples, its ridge in the metric of `place`; those of weight 0 are left out. theta [C, d+1] is where the
    solver starts.

    Raises:
      BadInput: it takes more memory than there is.
    """
    used = weighting.weight > 0
    x = place.features(train.x[used]) if place.x is None else place.x[used]
    _check_memory(len(x), x.shape[1], len(theta))
    offset = weighting.offset[used] if weighting.offset.ndim == 2 else weighting.offset
    problem = HeadProblem(x, train.y[used], weighting.weight[used], offset, np.float32(l2))
    with one_thread(x.shape[1]):
        fitted, info = jax.device_get(fit_one(pad_examples(problem), jnp.asarray(place.into(theta)), tol))
    return place.out(fitted), info


def _check_memory(examples, dim, classes):
    needed = solve_bytes(examples, dim, classes)
    if needed > device_memory():
        have = f"a head of {examples} examples and {classes} classes takes {needed / 1e9:.1f} GB of memory"
        raise BadInput(f"train_x: {have}, there are {device_memory() / 1e9:.1f}; leave some examples of every class out")


class Head(NamedTuple):
    """theta: [C, d+1] rows, and the gradient norm they were solved to."""

    theta: np.ndarray
    gradient_norm: float


class Task(NamedTuple):
    """What a method learns from: normalised examples, their counts [C] by class, a key, and what is made when it is first asked for.

    statistics(), model(shrinkage): of the classes. metric(scaling): of the features. head(rule, l2, scaling): a weighted head,
    remembered by what its rule draws. once(name, make): anything that doesn't depend on how far heads are solved. folds: the tasks that a
    setting was chosen on, in the one that it is fitted to at last.
    """

    train: Examples
    counts: np.ndarray
    root: jax.Array
    key: jax.Array
    statistics: Callable[[], ClassStatistics]
    model: Callable[[Shrinkage], ClassModel]
    metric: Callable[[Scaling], np.ndarray]
    head: Callable[[Rule, float, Scaling], Head]
    once: Callable[[Hashable, Callable[[], Any]], Any]
    folds: tuple["Task", ...] = ()


def _stronger(l2):
    """The next power of ten above l2, None from 1e-2 on."""
    exponent = math.floor(math.log10(l2) + 1e-9) + 1
    return float(f"1e{exponent}") if exponent <= -2 else None


def _fingerprint(drawn):
    return hashlib.sha256(drawn.weight.tobytes() + drawn.offset.tobytes()).digest()


def _moved_biases(theta, drawn, train, counts):
    """The plain head's rows with the biases that a weighting by classes gives; those of a class without any weight stay."""
    total = np.bincount(train.y, drawn.weight, len(counts))
    theta = theta.copy()
    theta[:, -1] += np.log(np.where(total > 0, total / counts, 1.0)) - drawn.offset
    return theta


def _memory(most: float = math.inf):
    """once(name, make): what was made of that name, again where `most` others were asked for since."""
    made: OrderedDict[Hashable, Any] = OrderedDict()

    def once(name, make):
        if name not in made:
            made[name] = make()
        made.move_to_end(name)
        while len(made) > most:
            made.popitem(last=False)
        return made[name]

    return once


def _cold_start(task, drawn, l2, scaling):
    """[C, d+1] what a head is solved from, where no rougher one is at hand: the plain head of unscaled features from that of the next
    stronger ridge, every other from the plain one at its own ridge, biases moved by class weights and offsets."""
    zeros = np.zeros((len(task.counts), task.train.x.shape[1] + 1), np.float32)
    if drawn.offset.ndim == 2:
        return zeros
    if scaling is unscaled and (drawn.weight == 1).all() and not drawn.offset.any():
        stronger = _stronger(l2)
        return zeros if stronger is None else task.head(plain, stronger, unscaled).theta
    return _moved_biases(task.head(plain, l2, unscaled).theta, drawn, task.train, task.counts)


def make_task(train: Examples, root: jax.Array, tol: float, rough: Task | None = None) -> Task:
    """A Task whose heads are solved to the gradient norm tol, each once, from those of `rough` where that is given, else from
    others of its own. What a solve starts from depends on the problem, never on what was solved before it."""
    counts, key = np.bincount(train.y), fold(root, "weighting")
    once = _memory() if rough is None else rough.once
    solved = _memory(max(16, HEADS_BYTES // (4 * len(counts) * (train.x.shape[1] + 1))))

    def place(scaling):
        return span_coordinates(metric(scaling), train.x, statistics().span) if is_wide(train.x) else coordinates(metric(scaling))

    def head(rule, l2, scaling):
        drawn = checked(rule(key, train.y, counts), len(train.y), len(counts))

        def solve():
            start = _cold_start(task, drawn, l2, scaling) if rough is None else rough.head(rule, l2, scaling).theta
            theta, info = fit_weighted(train, drawn, l2, start, tol, once(("place", scaling), lambda: place(scaling)))
            return Head(theta, float(info.gradient_norm))

        return solved((_fingerprint(drawn), l2, scaling), solve)

    def statistics():
        return once("statistics", lambda: class_statistics(train, span_basis(train.x) if is_wide(train.x) else None))

    def model(shrinkage):
        return once(shrinkage, lambda: model_of(statistics(), shrinkage))

    def metric(scaling):
        return once(scaling, lambda: scaling(task))

    task = Task(train, counts, root, key, statistics, model, metric, head, once)
    return task
