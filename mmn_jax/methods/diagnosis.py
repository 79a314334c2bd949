"""Does `mmn` help my data? Its expected gain over logit adjustment, estimated from training data alone, and what to do about it.

Classes with 8 examples or more are subsampled to a long tail again, each to the count of a random class of the training set and to at most
half of its own. Both methods are fitted to the subsample, with the same budget of settings; half of the examples left out choose the
settings, the other half evaluate. The gain is thus measured on a smaller data set. As every class gets a random count, the subsamples also
show how accuracy grows with the number of examples. Where descriptions of the classes or examples without labels are known, the methods
that use them are fitted, too, and held against `mmn`.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.data.longtail import class_pool, random_ranks
from mmn_jax.data.normalisation import Normalisation, normalisation
from mmn_jax.devices import start
from mmn_jax.errors import BadInput, Say, silent
from mmn_jax.evaluation.bootstrap import student_interval
from mmn_jax.evaluation.metrics import per_class_accuracy
from mmn_jax.methods import mmn, rivals
from mmn_jax.methods.choosing import tune
from mmn_jax.methods.contract import Method
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.progress import Step, Tell, unheard
from mmn_jax.methods.subsampling import draw_shots
from mmn_jax.methods.tasks import Task, make_task
from mmn_jax.rng import generator, stream
from mmn_jax.types import Examples, Knowledge, Normalised

LEAST = 8  # examples that a class needs: at least 2 are left to choose by and 2 to evaluate
FEW = 30  # classes; fewer hardly determine the covariance of class means
OURS, THEIRS = "mmn", "logit_adjustment"
KNOWN = {"descriptions": "descriptions of the classes", "unlabelled": "examples without labels"}  # fields of `Knowledge` in words
MANY = 10**9
EXAMPLES = ((1, 3), (4, 15), (16, 63), (64, MANY))  # levels: counts of the classes that are reported together
WORTH = 3.0  # points that examples have to add to be worth collecting
SHOWN = 5  # classes that are named


class Level(NamedTuple):
    """The classes with `least` to `most` examples.

    classes: how many the training set has. accuracies: of the methods, by name, in percent, over the classes that had so many examples in a
    subsample. low, high: 95% interval of the gain. rarest: names of some of its classes, those with the fewest examples first; empty if
    names aren't known.
    """

    least: int
    most: int
    classes: int
    accuracies: dict[str, float]
    low: float
    high: float
    rarest: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """The difference in accuracy, in percentage points."""
        return self.accuracies[OURS] - self.accuracies[THEIRS]

    @property
    def words(self) -> str:
        """The number of examples in words."""
        return f"{self.least} to {self.most}" if self.most < MANY else f"{self.least} or more"


class Worth(NamedTuple):
    """What knowledge of the classes is worth: the gain of a method of the mmn family over `mmn`.

    method: its name. needs: the fields of `Knowledge` that it uses. gains: of each subsample, in percentage points. low, high: 95% interval
    of their mean.
    """

    method: str
    needs: tuple[str, ...]
    gains: Float[np.ndarray, " subsamples"]
    low: float
    high: float

    @property
    def known(self) -> str:
        """What is known of the classes, in words."""
        return " and ".join(KNOWN[need] for need in self.needs)


class Diagnosis(NamedTuple):
    """An estimated gain; `str` puts it into words, with advice.

    gains: of each subsample, the difference in mean per-class accuracy, in percentage points. low, high: 95% interval of their mean
    (Student's t). classes: number of classes that were subsampled. levels: the gain by number of training examples. worth: what is known of
    the classes beside labelled examples, and what it adds; empty if nothing is.
    """

    gains: Float[np.ndarray, " subsamples"]
    low: float
    high: float
    classes: int
    levels: tuple[Level, ...] = ()
    worth: tuple[Worth, ...] = ()

    def __str__(self) -> str:
        return describe(self)


def expected_seconds(counts: Int[np.ndarray, " C"], dim: int, cuts: int, informed: int = 0) -> float:
    """Returns about how many seconds a diagnosis takes on two idle cores like those of docs/speed.md.

    It is a rule of thumb: a constant for each subsample, most of it for compiling, and a power of the size that matches heads of subsamples
    with 1,100 × 384 to 2,800 × 256 features, and the ones of 49,000 × 768 on that page.

    Args:
      counts: training examples of each class.
      dim: of the features.
      cuts: number of subsamples.
      informed: number of methods that use what is known of the classes; each takes about a third of the time of `mmn`, whose heads it
        shares, and longer where there are many examples without labels.
    """
    own = counts[counts >= LEAST]
    examples = np.minimum.outer(counts, own // 2).mean(0).sum()
    return 5 + cuts * (1 + informed / 3) * (5 + 5.4e-6 * (examples * dim * len(own)) ** 0.75)


def _tuned_accuracies(method: Method, task: Task, val: Normalised, test: Normalised, tell: Tell) -> Float[np.ndarray, " C"]:
    """Computes the accuracies of a method on the test examples of each class, tuned on validation examples."""
    whole = Fold("subsample", task.train, val)
    arrays = tune(method, lambda name: (task, task), [whole], whole, tell=tell).arrays
    return per_class_accuracy(method.logits(arrays, test.x), test.y)


def subsample(
    key: Key[Array, ""], pool: Examples, counts: Int[np.ndarray, " C"]
) -> tuple[Normalisation, Normalised, Normalised, Normalised]:
    """Draws a long-tailed subsample of a pool, and two halves of the rest; all are normalised by the subsample.

    Args:
      key: draws it.
      pool: examples sorted by label.
      counts: counts to draw from.

    Returns:
      What normalises features, the subsample, and the halves.
    """
    draw, keep, halve = jax.random.split(key, 3)
    shots = draw_shots(generator(draw), counts, np.bincount(pool.y))
    used = random_ranks(keep, pool.y) < shots[pool.y]
    rest = pool.at(~used)
    odd = random_ranks(halve, rest.y) % 2 == 1
    normalise = normalisation(pool.at(used))
    return normalise, normalise.of(pool.at(used)), normalise.of(rest.at(odd)), normalise.of(rest.at(~odd))


def _levels(
    counts: Int[np.ndarray, " C"],
    names: Sequence[str],
    shots: Int[np.ndarray, "cuts H"],
    accuracies: dict[str, Float[np.ndarray, "cuts H"]],
) -> tuple[Level, ...]:
    """Returns the gain by number of examples.

    Args:
      counts: of the training set's classes.
      names: of these classes; empty if they aren't known.
      shots: examples of each class in each subsample.
      accuracies: of both methods, for each class in each subsample.
    """
    found, order = [], np.argsort(counts, kind="stable")
    for least, most in EXAMPLES:
        inside = (shots >= least) & (shots <= most)
        if inside.sum() < LEAST:
            continue
        means = {name: float(each[inside].mean()) for name, each in accuracies.items()}
        gain = accuracies[OURS] - accuracies[THEIRS]
        _, low, high = student_interval([gain[i][of].mean() for i, of in enumerate(inside) if of.any()])
        own = order[(counts[order] >= least) & (counts[order] <= most)]
        found.append(Level(least, most, len(own), means, low, high, tuple(names[c] for c in own[:SHOWN]) if names else ()))
    return tuple(found)


def _of_family(knowledge: Knowledge) -> dict[str, Method]:
    """Returns the methods of the mmn family that use some of what is known, by name."""
    return {name: method for name, method in mmn.methods(defaults.RIDGES).items() if method.needs and method.applies(knowledge)}


def diagnose(
    train: Examples,
    seed: int = 0,
    cuts: int = 5,
    names: Sequence[str] = (),
    say: Say = silent,
    knowledge: Knowledge = Knowledge(),  # noqa: B008 - a NamedTuple cannot change
    tell: Callable[[str, Step], None] = unheard,
) -> Diagnosis:
    """Estimates the gain of mmn over logit adjustment on data like a training set, and what more knowledge of the classes adds.

    Args:
      train: the training set; features needn't be normalised.
      seed: determines the subsamples and what methods draw.
      cuts: number of subsamples.
      names: of the classes, for the advice.
      say: gets a line with what it will take, and one for each method on each subsample.
      knowledge: descriptions of all classes, and unlabelled examples, which needn't be normalised. Subsamples use the same unlabelled
        examples as a fit would, but not the labelled ones that they leave out.
      tell: gets every step of every choice (`progress.py`), with the words for what it belongs to before it.

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
    informed = _of_family(knowledge)
    seconds = expected_seconds(counts, train.x.shape[1], cuts, len(informed))
    say(f"{cuts} subsamples of {len(classes)} classes: {_about(seconds)} on two idle cores")
    start()
    pool, there = class_pool(train, classes), counts[counts > 0]
    if knowledge.descriptions is not None:
        knowledge = knowledge._replace(descriptions=knowledge.descriptions[classes])
    compared = {OURS: mmn.methods(defaults.RIDGES)[OURS], THEIRS: rivals.methods(defaults.RIDGES)[THEIRS], **informed}
    accuracies: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    shots, began = [], time.perf_counter()
    for i in range(cuts):
        normalise, part, val, test = subsample(stream(seed, "diagnose", i, "cut"), pool, there)  # another name would draw others
        task = make_task(part, stream(seed, "diagnose", i), defaults.TOL, knowledge=normalise.of_known(knowledge))
        shots.append(task.counts)
        for name, method in compared.items():
            what = f"subsample {i + 1} of {cuts}: {name}"
            accuracies[name].append(_tuned_accuracies(method, task, val, test, partial(tell, what)))
            say(f"{what} {accuracies[name][-1].mean():.1f}%")
        if i + 1 < cuts:
            say(f"{_about((time.perf_counter() - began) / (i + 1) * (cuts - i - 1))} left")
    by_class = {name: np.stack(each) for name, each in accuracies.items()}
    gains = (by_class[OURS] - by_class[THEIRS]).mean(1)
    _, low, high = student_interval(gains)
    worth = []
    for name, method in informed.items():
        added = (by_class[name] - by_class[OURS]).mean(1)
        worth.append(Worth(name, tuple(sorted(method.needs)), added, *student_interval(added)[1:]))
    pair = {name: by_class[name] for name in (OURS, THEIRS)}
    return Diagnosis(gains, low, high, len(classes), _levels(counts, names, np.stack(shots), pair), tuple(worth))


def _about(seconds: float) -> str:
    """Returns a duration in words, to one digit: no estimate here is better than that."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    return f"about {seconds / 60:.0f} min"


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.1f}" + ("" if np.isinf(low) else f" ({low:+.1f} to {high:+.1f})")


def _what_to_take(diagnosis: Diagnosis) -> str:
    """Returns the advice on the method."""
    if diagnosis.low > 0:
        return f"take {OURS}"
    if diagnosis.high < 0:
        return f"take {THEIRS}: logit adjustment is ahead on data like this"
    where = [level.words for level in diagnosis.levels if level.low > 0 and level.classes]
    unless = f"; take {OURS} if the classes with {' and '.join(where)} examples matter most, where it is ahead" if where else ""
    ahead = f"{OURS} was ahead in {(diagnosis.gains > 0).sum()} of {len(diagnosis.gains)} subsamples"
    return f"take either: {ahead}, {THEIRS} is simpler and faster{unless}"


def _what_to_collect(diagnosis: Diagnosis) -> str | None:
    """Returns the advice on examples: to lift the lowest level that gains from it to the next that is better; None if none gains."""
    for level, better in itertools.combinations(diagnosis.levels, 2):
        had, reached = (max(one.accuracies.values()) for one in (level, better))
        if level.classes and reached - had > WORTH:
            first = f", first of {', '.join(level.rarest)}" if level.rarest else ""
            return (
                f"collect examples of the {level.classes} classes that have {level.words}{first}:"
                f" here such classes reached {had:.0f}%, those with {better.words} {reached:.0f}%"
            )
    return None


def _what_would_change(diagnosis: Diagnosis) -> str:
    """Returns what would change the advice."""
    if diagnosis.low <= 0 <= diagnosis.high:
        return f"more subsamples (cuts): {4 * len(diagnosis.gains)} about halve the interval"
    sign = 1 if diagnosis.low > 0 else -1
    ahead, behind = (OURS, THEIRS)[::sign]
    own = [level for level in diagnosis.levels if level.classes]  # of the training set
    ends = {level.words: sorted((sign * level.low, sign * level.high)) for level in own or diagnosis.levels}
    other = [words for words, (_, high) in ends.items() if high < 0]
    if other:
        return f"another number of examples: {behind} is ahead for classes with {' and '.join(other)}"
    tied = [words for words, (low, _) in ends.items() if low <= 0]
    if len(tied) == len(ends):
        return "not known: at no number of examples by itself do these subsamples tell the two apart"
    if tied:
        return f"perhaps another number of examples: for classes with {' and '.join(tied)} these subsamples don't tell the two apart"
    return f"nothing that these subsamples show: {ahead} is ahead at every number of examples"


def _what_it_is_worth(worth: Worth) -> str:
    """Returns the gain by what is known of the classes."""
    tie = "; the interval contains 0" if worth.low <= 0 <= worth.high else ""
    return f"expected gain of {worth.method} over {OURS}, by {worth.known}: {_interval(worth.gains.mean(), worth.low, worth.high)}{tie}"


def _what_to_give(worth: Worth) -> str | None:
    """Returns the advice on what is known of the classes; None where these subsamples don't tell."""
    if worth.low > 0:
        return f"use the {worth.known}: {worth.method} is ahead of {OURS} on data like this"
    return f"leave the {worth.known} out: {worth.method} is behind {OURS} on data like this" if worth.high < 0 else None


def _table(levels: Sequence[Level]) -> list[str]:
    """Returns the levels as lines of a table."""
    if not levels:
        return []
    rows: list[tuple[str, ...]] = [("examples", "classes", THEIRS, OURS, "gain")]
    for level in levels:
        figures = (f"{level.accuracies[name]:.1f}" for name in (THEIRS, OURS))
        rows.append((level.words, str(level.classes), *figures, _interval(level.gain, level.low, level.high)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return ["accuracy by number of training examples, and how many classes of the training set have so many:", *lines]


def describe(diagnosis: Diagnosis) -> str:
    """Returns the diagnosis in words: the gain, where it comes from, and advice."""
    lines = [
        f"expected gain of mmn over logit adjustment: {diagnosis.gains.mean():+.1f} points of mean per-class accuracy"
        f" ({diagnosis.low:+.1f} to {diagnosis.high:+.1f}), from {len(diagnosis.gains)} subsamples of {diagnosis.classes} classes"
    ]
    if diagnosis.low <= 0 <= diagnosis.high:
        lines.append("the interval contains 0: on data like this the two may be equally accurate")
    if diagnosis.classes < FEW:
        lines.append(f"warning: only {diagnosis.classes} classes have {LEAST} examples; fewer than {FEW} hardly show how classes scatter")
    lines += _table(diagnosis.levels)
    lines += [_what_it_is_worth(one) for one in diagnosis.worth]
    advice = [_what_to_take(diagnosis), *map(_what_to_give, diagnosis.worth), _what_to_collect(diagnosis)]
    lines += [f"advice: {one}" for one in advice if one]
    lines.append(f"what would change it: {_what_would_change(diagnosis)}")
    return "\n".join(lines)
