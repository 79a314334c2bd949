"""Measures what `TailClassifier.add_class` loses against a new fit, and what a description of the class is worth to it.

python benchmarks/add_class.py [--seeds=0,1,2] [--shots=1,2,5,20] [--added=10] [--classes=250] [--descriptions=names]
python benchmarks/add_class.py --data=FILE.npz --imbalance=80 --largest=80 --shots=0,1,2,5 --descriptions=FILE.npy

For every number of shots, `added` random classes are left out of the long tail, and a classifier is fitted to the rest. They are then
added one by one with that many examples each, by `add_class`, and compared with a classifier fitted to all classes that have examples. Both
choose their hyperparameters on validation examples; only the new fit sees those of the added classes. With descriptions, both fits have
them, and classes are added twice: by their examples alone, and by these and their descriptions.
"""

import argparse
import time
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from mmn_jax.data import feature_files, glyphs
from mmn_jax.data.descriptions import describe_names
from mmn_jax.data.longtail import VAL, long_tail_split, random_ranks, take
from mmn_jax.estimator import TailClassifier
from mmn_jax.evaluation.bootstrap import bootstrap, interval
from mmn_jax.pipeline.table_formats import difference, markdown
from mmn_jax.rng import stream
from mmn_jax.types import Examples, FeatureSet, LongTail


class Tail(NamedTuple):
    """The long tail that is drawn: largest over smallest count, and the largest count."""

    imbalance: float
    largest: int


class Outcome(NamedTuple):
    """Results of one seed.

    right: [methods, n] whether each test example is classified correctly, by method: before classes are added, after, after with their
    descriptions where there are any, and by the new fit. shots: [C] of the added classes, OLD for the others. seconds: that each took.
    """

    right: dict[str, np.ndarray]
    shots: np.ndarray
    seconds: dict[str, float]


OLD = -1  # the number of shots of a class that isn't added
BEFORE, BY_EXAMPLES, BY_BOTH, AGAIN = "before", "add_class", "with its description", "fitted again"


def first_classes(features: FeatureSet, classes: int) -> FeatureSet:
    """Returns the data set with its first `classes` classes alone."""
    parts: dict[str, Any] = {name: part.at(part.y < classes) for name, part in features._asdict().items() if isinstance(part, Examples)}
    return features._replace(**parts, class_names=features.class_names[:classes])


def _of(part, classes):
    return part.at(np.isin(part.y, classes))


def draw(features: FeatureSet, seed: int, shots: list[int], added: int, tail: Tail) -> tuple[LongTail, Examples, np.ndarray]:
    """Draws the classes to add.

    Args:
      features: the full data set.
      seed: of the draw.
      shots: the numbers of examples.
      added: classes for each of them.
      tail: of the training set.

    Returns:
      The long tail, their few examples, and how many each of them has [C], OLD for the others.
    """
    classes = len(features.class_names)
    of_class = np.full(classes, OLD)
    of_class[np.random.default_rng(seed).choice(classes, len(shots) * added, replace=False)] = np.tile(shots, added)
    split = long_tail_split(features, seed, imbalance=tail.imbalance, max_per_class=tail.largest)
    free = features.train.at(split != VAL)
    return take(features, split), free.at(random_ranks(stream(seed, "added"), free.y) < of_class[free.y]), of_class


def grown(model: TailClassifier, few: Examples, order: np.ndarray, descriptions: np.ndarray | None) -> TailClassifier:
    """Adds classes to a copy of a classifier in this order, those without examples only if they have descriptions."""
    model = deepcopy(model)
    if descriptions is None:
        model.descriptions_ = None  # as if it had been fitted without
    for label in order:
        x = few.x[few.y == label] if (few.y == label).any() else None
        if descriptions is not None:
            model.add_class(x, int(label), class_embedding=descriptions[label])
        elif x is not None:
            model.add_class(x, int(label))
    return model


def compare(
    features: FeatureSet, seed: int, shots: list[int], added: int, method: str, tail: Tail, descriptions: np.ndarray | None
) -> Outcome:
    """Fits a classifier without the classes, adds them to it, and fits another to all classes that have examples."""
    drawn, few, of_class = draw(features, seed, shots, added, tail)
    old, test = _of(drawn.train, np.flatnonzero(of_class == OLD)), drawn.test
    assert test is not None

    def fit(train):
        known = {} if descriptions is None else {"class_embeddings": descriptions[np.unique(train.y)]}
        val = _of(drawn.val, np.unique(train.y))
        return TailClassifier(method, random_state=seed).fit(*train, X_val=val.x, y_val=val.y, **known)

    order = np.random.default_rng(seed).permutation(np.flatnonzero(of_class != OLD))
    models: dict[str, TailClassifier] = {}
    seconds: dict[str, float] = {}
    made = {
        BEFORE: lambda: fit(old),
        BY_EXAMPLES: lambda: grown(models[BEFORE], few, order, None),
        BY_BOTH: lambda: grown(models[BEFORE], few, order, descriptions),
        AGAIN: lambda: fit(Examples(*map(np.concatenate, zip(old, few, strict=True)))),
    }
    for name, make in made.items():
        if name != BY_BOTH or descriptions is not None:
            began = time.perf_counter()
            models[name] = make()
            seconds[name] = time.perf_counter() - began
    right = {name: model.predict(test.x) == test.y for name, model in models.items()}
    return Outcome(right, of_class, seconds)


def _group_means(right, y, masks):
    """Returns the mean accuracy [methods, groups] over classes and seeds, in percent."""
    per_class = np.apply_along_axis(lambda one: 100 * np.bincount(y, one) / np.bincount(y), 2, right)  # [seeds, methods, C]
    return np.einsum("smc,sgc->mg", per_class, masks / masks.sum(2, keepdims=True)) / len(right)


def table(outcomes: list[Outcome], y: np.ndarray, shots: list[int], draws: int = 2000) -> str:
    """Formats the accuracy of each group of classes in Markdown, with 95% intervals of differences over test examples and seeds."""
    groups, methods = (OLD, *shots), list(outcomes[0].right)
    masks = np.stack([[outcome.shots == k for k in groups] for outcome in outcomes])
    right = np.stack([list(outcome.right.values()) for outcome in outcomes])
    resampled, means = bootstrap(right, y, masks, np.random.default_rng(0), draws), _group_means(right, y, masks)
    pairs = [(BY_EXAMPLES, AGAIN), *([(BY_BOTH, BY_EXAMPLES), (BY_BOTH, AGAIN)] if BY_BOTH in methods else [])]
    lines = [["classes", *methods, *(f"{first} − {second}" for first, second in pairs)]]
    for g, k in enumerate(groups):
        name = f"{masks[0, g].sum()} old ones" if k == OLD else f"{masks[0, g].sum()} added with {k} example{'' if k == 1 else 's'}"
        there = {method for method in methods if k != 0 or method == BY_BOTH} - ({BEFORE} if k != OLD else set())
        cells = [f"{means[m, g]:.1f}" if method in there else "" for m, method in enumerate(methods)]
        for pair in pairs:
            a, b = map(methods.index, pair)
            gap = interval(resampled[:, a, g] - resampled[:, b, g], means[a, g] - means[b, g])
            cells.append(difference(gap) if there.issuperset(pair) else "")
        lines.append([name, *cells])
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
    parser.add_argument("--data", default="", help="npz file of features with validation examples; empty: the glyphs")
    parser.add_argument("--imbalance", type=float, default=glyphs.TAIL["imbalance"])
    parser.add_argument("--largest", type=int, default=glyphs.TAIL["max_per_class"], help="examples of the largest class")
    parser.add_argument("--descriptions", default="", help="names, or an npy file [C, m] in the order of the classes")
    arguments = parser.parse_args()
    features = first_classes(feature_files.load(arguments.data) if arguments.data else glyphs.load(), arguments.classes)
    assert features.test is not None
    descriptions = None
    if arguments.descriptions:
        of_names = arguments.descriptions == "names"
        descriptions = describe_names(features.class_names) if of_names else np.load(arguments.descriptions)[: arguments.classes]
    tail = Tail(arguments.imbalance, arguments.largest)
    outcomes = []
    for seed in arguments.seeds:
        outcomes.append(compare(features, seed, arguments.shots, arguments.added, arguments.method, tail, descriptions))
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcomes[-1].seconds.items())
        print(f"seed {seed}: {took}", flush=True)
    print(table(outcomes, features.test.y, arguments.shots))


if __name__ == "__main__":
    main()
