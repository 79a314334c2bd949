"""Checks the report's estimate of what more training examples buy, on the default features or on a feature file with balanced classes.

python benchmarks/more_examples.py [--data=features.npz] [--imbalance=100] [--largest=200] [--parts=4] [--seed=0]

A long tail is drawn, a classifier is fitted, and the gain of few-shot classes from 10 more examples is estimated on one half of the test
examples. These classes are then divided at random into parts. For each part the classifier is fitted again, with 10 more examples of the
classes of that part, and their gain is measured on the other half of the test examples, so that a class that was unlucky in the first half
isn't taken for one that gains.
"""

import argparse
from typing import NamedTuple

import numpy as np

from mmn_jax.data import feature_files, glyphs
from mmn_jax.data.longtail import TRAIN, UNUSED, long_tail_split, random_ranks, take
from mmn_jax.data.normalisation import normalisation
from mmn_jax.estimator import TailClassifier
from mmn_jax.evaluation.bootstrap import interval
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.report.class_parts import ADVISED
from mmn_jax.report.examined import ADDED
from mmn_jax.report.more_examples import between_class_variances, gains
from mmn_jax.rng import stream
from mmn_jax.types import FeatureSet

FEW = 20  # training examples, below which a class is few-shot


class Outcome(NamedTuple):
    """Estimated and measured gains of the few-shot classes, in points."""

    estimated: np.ndarray
    measured: np.ndarray


def study(features: FeatureSet, seed: int, imbalance: float, largest: int, parts: int) -> Outcome:
    """Estimates the gains, and measures them in as many new fits as there are parts."""
    assert features.test is not None  # it measures gains there
    part, y = long_tail_split(features, seed, imbalance, largest), features.test.y
    tail, classes = take(features, part), len(features.class_names)
    first = random_ranks(stream(seed, "halves"), y) % 2 == 0
    tested = [np.bincount(y[half], minlength=classes) for half in (first, ~first)]

    def right(marks):
        train, val = take(features, marks)[:2]
        model = TailClassifier(random_state=seed).fit(*train, X_val=val.x, y_val=val.y)
        hits = model.predict(features.test.x) == y
        print(f"{len(train.y)} training examples: {100 * hits.mean():.1f}% of the test examples", flush=True)
        return [np.bincount(y[half & hits], minlength=classes) for half in (first, ~first)]

    before = right(part)
    spread = between_class_variances(normalisation(tail.train).of(tail.train))
    found = gains(spread, tail.counts, before[0], tested[0], ADDED)
    if found is None:
        raise SystemExit("the gain can't be estimated on these data")
    few = np.random.default_rng(seed).permutation(np.flatnonzero(tail.counts < FEW))
    measured = np.full(classes, np.nan)
    for some in np.array_split(few, parts):
        measured[some] = (100.0 * (right(_added(features, part, some, seed))[1] - before[1]) / tested[1])[some]
    return Outcome((found.then - found.now)[few], measured[few])


def _added(features, part, classes, seed):
    """Returns the split with `ADDED` unused examples of these classes to train on."""
    unused, grown = np.flatnonzero((part == UNUSED) & np.isin(features.train.y, classes)), part.copy()
    grown[unused[random_ranks(stream(seed, "more"), features.train.y[unused]) < ADDED]] = TRAIN
    return grown


def table(outcome: Outcome, draws: int = 2000) -> str:
    """Formats the gains of all classes, of the classes that the report would advise, and of fifths by estimate, in Markdown."""
    order, rng = np.argsort(-outcome.estimated, kind="stable"), np.random.default_rng(0)
    groups = [("all", order), (f"the {ADVISED} of the largest estimate", order[:ADVISED])]
    groups += [(f"fifth {i + 1} by estimate", fifth) for i, fifth in enumerate(np.array_split(order, 5))]
    lines = [["few-shot classes", "number", "estimated gain", "measured gain"]]
    for name, chosen in groups:
        values = outcome.measured[chosen]
        mean, low, high = interval(rng.choice(values, (draws, len(values))).mean(1), values.mean())
        estimated = f"{outcome.estimated[chosen].mean():.1f}"
        lines.append([name, str(len(chosen)), estimated, f"{mean:.1f} ({low:.1f} to {high:.1f})"])
    return markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a feature file; by default the shipped glyphs")
    parser.add_argument("--imbalance", type=float, default=100.0)
    parser.add_argument("--largest", type=int, default=200, help="training examples of the largest class")
    parser.add_argument("--parts", type=int, default=4, help="how many fits measure the gains")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    features = feature_files.load(flags.data) if flags.data else glyphs.load()
    print(table(study(features, flags.seed, flags.imbalance, flags.largest, flags.parts)))


if __name__ == "__main__":
    main()
