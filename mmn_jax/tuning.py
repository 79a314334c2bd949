"""How a method's knobs are chosen: on validation examples, with the same limit on the settings that a method tries.

`search` goes along one knob after the other, first over all its values, then to the best one's
neighbours, then to values halfway between; it stops after `budget` settings. A setting is judged
by the mean per-class accuracy of what it predicts for examples that it was not fitted to: the
validation set, or every training example by the fold that left it out.
"""

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.classes import ClassModel, Shrinkage, class_model, row_prior_metric
from mmn_jax.data.longtail import stratified_folds
from mmn_jax.evaluate import mean_class_accuracy
from mmn_jax.heads import HeadInfo, HeadProblem, fit_one, pad_examples, solve_bytes
from mmn_jax.keys import stream
from mmn_jax.mesh import device_memory
from mmn_jax.types import BadInput, Examples
from mmn_jax.weighting import Rule, Weighting, plain

Setting = dict[str, Any]

FAR = 1e18  # what float32 still squares


class Normalisation(NamedTuple):
    """x̂ = (x − mean) · scale: training features centred, at unit mean square norm. Refuses what lies so far out that float32 cannot
    score it."""

    mean: np.ndarray
    scale: np.float32

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            scaled = ((x - self.mean) * self.scale).astype(np.float32)
        if not -FAR < scaled.min(initial=0) <= scaled.max(initial=0) < FAR:
            row = int(np.abs(scaled).max(1).argmax())
            raise BadInput(f"features: row {row} lies {FAR:.0e} times further out than those of train_x; is it damaged?")
        return scaled


def normalisation(x: np.ndarray) -> Normalisation:
    """The normalisation of training features x [n, d].

    Raises:
      BadInput: all examples are the same point, or so near each other or so far apart that float32 cannot tell.
    """
    if (x == x[0]).all():
        raise BadInput("train_x: every example is the same point, there is nothing to learn from")
    mean = x.mean(0, dtype=np.float64)
    square = ((x - mean) ** 2).sum(1).mean()
    if not 1 / FAR < np.sqrt(square) < FAR:
        raise BadInput(f"train_x: its examples lie {np.sqrt(square):.0e} from their mean; multiply all features to bring that near 1")
    return Normalisation(mean.astype(np.float32), np.float32(1 / np.sqrt(square)))


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
    """The Scaling under which a ridge is the prior of rows that the many-shot classes teach (`classes.row_prior_metric`)."""

    shrinkage: Shrinkage

    def __call__(self, task: "Task") -> np.ndarray:
        metric, x = row_prior_metric(task.model(self.shrinkage)), task.train.x
        square = (((x - x.mean(0)) @ metric) ** 2).sum(1).mean()
        return (metric / np.sqrt(square if square > 0 else 1.0)).astype(np.float32)  # 0: a cut of a tiny set that left one point


def _rescaled(w, metric):
    return w * metric if metric.ndim == 1 else w @ metric.T


def _unscaled(w, metric):
    return w / metric if metric.ndim == 1 else np.linalg.solve(metric, w.T).T


def fit_weighted(
    train: Examples, weighting: Weighting, l2: float, theta: np.ndarray, tol: float, metric: np.ndarray
) -> tuple[np.ndarray, HeadInfo]:
    """One head of normalised examples; those of weight 0 are left out. theta [C, d+1] is where the solver starts.

    A metric M is a scaling of the features under the ridge, [d] where it is diagonal: the head is
    fitted on x M and folded back, W Mᵀ, so that every head lives in the same coordinates.

    Raises:
      BadInput: it takes more memory than there is.
    """
    used = weighting.weight > 0
    _check_memory(int(used.sum()), *theta.shape)
    offset = weighting.offset[used] if weighting.offset.ndim == 2 else weighting.offset
    x = train.x[used] * metric if metric.ndim == 1 else train.x[used] @ metric
    problem = HeadProblem(x, train.y[used], weighting.weight[used], offset, np.float32(l2))
    start = np.concatenate([_unscaled(theta[:, :-1], metric), theta[:, -1:]], 1)
    fitted, info = fit_one(pad_examples(problem), jnp.asarray(start), tol)
    fitted = np.asarray(fitted)
    return np.concatenate([_rescaled(fitted[:, :-1], metric), fitted[:, -1:]], 1), jax.device_get(info)


def _check_memory(examples, classes, width):
    needed = solve_bytes(examples, width - 1, classes)
    if needed > device_memory():
        have = f"a head of {examples} examples and {classes} classes takes {needed / 1e9:.1f} GB of memory"
        raise BadInput(f"train_x: {have}, there are {device_memory() / 1e9:.1f}; leave some examples of every class out")


class Head(NamedTuple):
    """theta: [C, d+1] rows, and the gradient norm they were solved to."""

    theta: np.ndarray
    gradient_norm: float


class Task(NamedTuple):
    """What a method learns from: normalised examples, their counts [C] by class, a key, and what is made when it is first asked
    for: model(shrinkage) of the classes, metric(scaling) of the features, head(name, rule, l2, scaling), a weighted head remembered
    by its name (any hashable), and once(name, make), anything that doesn't depend on how far heads are solved."""

    train: Examples
    counts: np.ndarray
    key: jax.Array
    model: Callable[[Shrinkage], ClassModel]
    metric: Callable[[Scaling], np.ndarray]
    head: Callable[[Hashable, Rule, float, Scaling], Head]
    once: Callable[[Hashable, Callable[[], Any]], Any]


def _stronger(l2):
    """The next power of ten above l2, None from 1e-2 on."""
    exponent = math.floor(math.log10(l2) + 1e-9) + 1
    return float(f"1e{exponent}") if exponent <= -2 else None


def _memory():
    made = {}

    def once(name, make):
        if name not in made:
            made[name] = make()
        return made[name]

    return once


def make_task(train: Examples, key: jax.Array, tol: float, rough: Task | None = None) -> Task:
    """A Task whose heads are solved to the gradient norm tol, each once, from those of `rough` where that is given.

    Otherwise a plain head starts from that of the next stronger ridge, every other and the standardised one from the plain one at
    its own ridge, biases moved by class weights and offsets. What a solve starts from depends on the problem, never on what was
    solved before it.
    """
    classes = int(train.y.max()) + 1
    counts = np.bincount(train.y, minlength=classes)
    once = _memory() if rough is None else rough.once
    zeros = np.zeros((classes, train.x.shape[1] + 1), np.float32)
    solved = _memory()

    def start(name, rule, drawn, l2, scaling):
        if rough is not None:
            return rough.head(name, rule, l2, scaling).theta
        if name == "plain" and scaling is not standardised:
            stronger = _stronger(l2)
            return zeros if stronger is None else head("plain", plain, stronger, scaling).theta
        if drawn.offset.ndim == 2:
            return zeros
        theta = head("plain", plain, l2, unscaled).theta.copy()
        theta[:, -1] += np.log(np.bincount(train.y, drawn.weight, classes) / counts) - drawn.offset
        return theta

    def head(name, rule, l2, scaling):
        def solve():
            drawn = rule(key, train.y, counts)
            theta, info = fit_weighted(train, drawn, l2, start(name, rule, drawn, l2, scaling), tol, metric(scaling))
            return Head(theta, float(info.gradient_norm))

        return solved((name, l2, scaling), solve)

    def model(shrinkage):
        return once(shrinkage, lambda: class_model(train, shrinkage))

    def metric(scaling):
        return once(scaling, lambda: scaling(task))

    task = Task(train, counts, key, model, metric, head, once)
    return task


class Axis(NamedTuple):
    """One knob: the values to go over, the one to start from, and between(a, b), what lies between two of
    them, None where they are close enough."""

    name: str
    values: tuple
    start: Any
    between: Callable[[Any, Any], Any] = lambda a, b: None


class Trial(NamedTuple):
    """One setting and its accuracy on validation examples, in percent."""

    setting: Setting
    accuracy: float


def _neighbours(axis, value):
    i = axis.values.index(value)
    return axis.values[max(i - 1, 0) : i + 2]


def _finer(axis, value):
    """The axis with what lies halfway between `value` and its neighbours."""
    middles = {axis.between(a, b) for a, b in itertools.pairwise(_neighbours(axis, value))} - {None}
    if not middles:
        return axis
    return axis._replace(values=tuple(sorted({*axis.values, *middles}, reverse=axis.values[0] > axis.values[-1])))


def search(evaluate: Callable[[Setting], float], axes: Iterable[Axis], budget: int) -> list[Trial]:
    """At most `budget` different settings in the order tried; fewer where every knob's neighbours are close enough."""
    axes = list(axes)
    trials: dict[tuple, Trial] = {}

    def look(setting):
        key = tuple(setting.values())
        if key not in trials and len(trials) < budget:
            trials[key] = Trial(setting, evaluate(setting))

    def sweep(setting, values):
        for axis in axes:
            for value in values(axis, setting[axis.name]):
                look(setting | {axis.name: value})
            setting = best(trials.values()).setting
        return setting

    setting = {axis.name: axis.start for axis in axes}
    look(setting)
    setting = sweep(setting, lambda axis, value: axis.values)
    while len(trials) < budget:
        before = len(trials)
        setting = sweep(setting, _neighbours)
        if len(trials) > before:
            continue
        finer = [_finer(axis, setting[axis.name]) for axis in axes]
        if finer == axes:
            break
        axes = finer
    return list(trials.values())


def best(trials: Iterable[Trial]) -> Trial:
    """The most accurate; a tie goes to the one tried first, the simpler."""
    return max(trials, key=lambda trial: round(trial.accuracy, 9))


def at_edge(setting: Setting, axes: Iterable[Axis]) -> list[str]:
    """The knobs with an ordered grid whose chosen value is its first or last: a wider grid might have given another."""
    ordered = [axis for axis in axes if len(axis.values) > 2 and setting[axis.name] is not None]
    return [axis.name for axis in ordered if setting[axis.name] in (axis.values[0], axis.values[-1])]


class Fold(NamedTuple):
    """Normalised examples to fit on and to choose by (None: none), and a name for what is made of them."""

    name: str
    train: Examples
    val: Examples | None


def _where(examples, mask):
    return Examples(examples.x[mask], examples.y[mask])


def training_folds(name: str, train: Examples, seed: int, number: int) -> tuple[Fold, ...]:
    """At most `number` folds that together hold out every example whose class has another; none where no class has two.

    A fold that would leave a single point to train on is dropped.
    """
    held = stratified_folds(stream(seed, "folds"), train.y, number)
    used = [i for i in range(number) if (held == i).any() and np.ptp(train.x[held != i], axis=0).any()]
    return tuple(Fold(f"{name}-fold{i}of{number}", _where(train, held != i), _where(train, held == i)) for i in used)


def solvers(parts: Iterable[Fold], seed: int, tol: float, final_tol: float) -> Callable[[str], tuple[Task, Task]]:
    """part name → its Task at the tolerance of choosing and at the final one, each made when it is first asked for."""
    train = {part.name: part.train for part in parts}

    @functools.cache  # heads that several methods use are solved once
    def tasks(name):
        rough = make_task(train[name], stream(seed, "weighting"), tol)
        return rough, make_task(rough.train, rough.key, final_tol, rough)

    return tasks


def held_labels(folds: Iterable[Fold]) -> np.ndarray:
    """[n] labels of the folds' validation examples taken together."""
    return np.concatenate([fold.val.y for fold in folds if fold.val is not None])


def held_accuracy(logits: Iterable[np.ndarray], folds: Iterable[Fold]) -> float:
    """Mean per-class accuracy of the folds' validation examples taken together."""
    return mean_class_accuracy(np.concatenate(list(logits)), held_labels(folds))
