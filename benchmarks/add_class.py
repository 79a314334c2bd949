"""Measures what `TailClassifier.add_class` loses against a new fit, on the default features.

python benchmarks/add_class.py [--seeds=0,1,2] [--shots=1,2,5,20] [--added=10] [--classes=250]

For every number of shots, `added` random classes are left out of the default's long tail, and a classifier is fitted to the rest. They are
then added one by one with that many examples each, by `add_class`, and compared with a classifier fitted to all classes. Both choose their
hyperparameters on validation examples; only the new fit sees those of the added classes.
"""

import argparse
import time
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from mmn_jax.data import glyphs
from mmn_jax.data.longtail import long_tail_split, random_ranks, take
from mmn_jax.estimator import TailClassifier
from mmn_jax.evaluation.bootstrap import bootstrap, interval
from mmn_jax.pipeline.table_formats import difference, markdown
from mmn_jax.rng import stream
from mmn_jax.types import Examples, FeatureSet


class Outcome(NamedTuple):
    """Results of one seed.

    right: [3, n] whether each test example is classified correctly before classes are added, after, and by the new fit.
    shots: [C] of the added classes, 0 for the others. seconds: of all additions, and of the new fit.
    """

    right: np.ndarray
    shots: np.ndarray
    seconds: tuple[float, float]


def first_classes(features: FeatureSet, classes: int) -> FeatureSet:
    """Returns the data set with its first `classes` classes alone."""
    parts: dict[str, Any] = {name: part.at(part.y < classes) for name, part in features._asdict().items() if isinstance(part, Examples)}
    return features._replace(**parts, class_names=features.class_names[:classes])


def _of(part, classes):
    return part.at(np.isin(part.y, classes))


def draw(features: FeatureSet, seed: int, shots: list[int], added: int) -> tuple[Examples, Examples, np.ndarray]:
    """Draws the classes to add.

    Args:
      features: the full data set.
      seed: of the draw.
      shots: the numbers of examples.
      added: classes for each of them.

    Returns:
      The long tail without these classes, their few examples, and how many each class has [C], 0 for the others.
    """
    classes = len(features.class_names)
    of_class = np.zeros(classes, int)
    of_class[np.random.default_rng(seed).choice(classes, len(shots) * added, replace=False)] = np.tile(shots, added)
    tail = take(features, long_tail_split(features, seed, imbalance=100.0, max_per_class=200)).train
    used = random_ranks(stream(seed, "added"), features.train.y) < of_class[features.train.y]
    return _of(tail, np.flatnonzero(of_class == 0)), features.train.at(used), of_class


def compare(features: FeatureSet, seed: int, shots: list[int], added: int, method: str) -> Outcome:
    """Fits a classifier without the classes, adds them to it, and fits another to all classes."""
    assert features.test is not None
    old, few, of_class = draw(features, seed, shots, added)

    def fit(train, val):
        return TailClassifier(method, random_state=seed).fit(*train, X_val=val.x, y_val=val.y)

    model = fit(old, _of(features.val, np.unique(old.y)))
    grown, began = deepcopy(model), time.perf_counter()
    for label in np.random.default_rng(seed).permutation(np.unique(few.y)):
        grown.add_class(few.x[few.y == label], int(label))
    all_added = time.perf_counter()
    again = fit(Examples(*map(np.concatenate, zip(old, few, strict=True))), features.val)
    seconds = all_added - began, time.perf_counter() - all_added
    right = np.stack([one.predict(features.test.x) == features.test.y for one in (model, grown, again)])
    return Outcome(right, of_class, seconds)


def _group_means(right, y, masks):
    """Returns the mean accuracy [methods, groups] over classes and seeds, in percent."""
    per_class = np.apply_along_axis(lambda one: 100 * np.bincount(y, one) / np.bincount(y), 2, right)  # [seeds, methods, C]
    return np.einsum("smc,sgc->mg", per_class, masks / masks.sum(2, keepdims=True)) / len(right)


def table(outcomes: list[Outcome], y: np.ndarray, shots: list[int], draws: int = 2000) -> str:
    """Formats the accuracy of each group of classes in Markdown, with a 95% interval of the difference over test examples and seeds."""
    masks = np.stack([[outcome.shots == k for k in (0, *shots)] for outcome in outcomes])
    right = np.stack([outcome.right for outcome in outcomes])
    resampled, means = bootstrap(right, y, masks, np.random.default_rng(0), draws), _group_means(right, y, masks)
    lines = [["classes", "before", "add_class", "fitted again", "add_class − fitted again"]]
    for g, k in enumerate((0, *shots)):
        name = f"{masks[0, g].sum()} old ones" if k == 0 else f"{masks[0, g].sum()} added with {k} example{'s' if k > 1 else ''}"
        gap = interval(resampled[:, 1, g] - resampled[:, 2, g], means[1, g] - means[2, g])
        lines.append([name, f"{means[0, g]:.1f}" if k == 0 else "", f"{means[1, g]:.1f}", f"{means[2, g]:.1f}", difference(gap)])
    return markdown(lines)


def _numbers(text):
    return [int(word) for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2])
    parser.add_argument("--shots", type=_numbers, default=[1, 2, 5, 20])
    parser.add_argument("--added", type=int, default=10, help="classes to add for every number of shots")
    parser.add_argument("--classes", type=int, default=250, help="how many of the default's classes to use")
    parser.add_argument("--method", default="mmn")
    arguments = parser.parse_args()
    features = first_classes(glyphs.load(), arguments.classes)
    assert features.test is not None
    outcomes = []
    for seed in arguments.seeds:
        outcomes.append(compare(features, seed, arguments.shots, arguments.added, arguments.method))
        print("seed {}: {:.2f} s to add, {:.0f} s to fit again".format(seed, *outcomes[-1].seconds), flush=True)
    print(table(outcomes, features.test.y, arguments.shots))


if __name__ == "__main__":
    main()
