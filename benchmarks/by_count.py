"""Draws docs/by_count.svg, the picture of the README: test accuracy by the number of training examples of a class, on the default features.

python benchmarks/by_count.py [--seeds=0,1,2] [--classes=250] [--out=docs/by_count.svg]

Plain heads, logit adjustment and `mmn` are fitted to the default's long tail with hyperparameters chosen on validation examples. It also
prints mean accuracies, in percent.
"""

import argparse
from pathlib import Path

import numpy as np
from add_class import first_classes

from mmn_jax.data import glyphs
from mmn_jax.data.longtail import long_tail_split, take
from mmn_jax.estimator import TailClassifier
from mmn_jax.evaluation.metrics import per_class_accuracy
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.report.figures import accuracy_by_count, draw
from mmn_jax.types import FeatureSet

KINDS = {"plain": "paper", "logit_adjustment": "rival", "mmn": "ours"}
GROUPS = {"all classes": (1, np.inf), "fewer than 5 examples": (1, 4), "5 to 19": (5, 19), "20 and more": (20, np.inf)}


def measure(features: FeatureSet, seeds: list[int]) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Fits every method to the long tail of every seed.

    Args:
      features: the full data set.
      seeds: of the long tails, and of what methods draw.

    Returns:
      The counts [C] of every seed, and the accuracies [C] of every method and seed.
    """
    counts: list[np.ndarray] = []
    accuracies: dict[str, list[np.ndarray]] = {name: [] for name in KINDS}
    for seed in seeds:
        train, val, test, own = take(features, long_tail_split(features, seed, imbalance=100.0, max_per_class=200))
        assert val is not None and test is not None  # as the glyphs have
        counts.append(own)
        for name, each in accuracies.items():
            model = TailClassifier(name, random_state=seed).fit(*train, X_val=val.x, y_val=val.y)
            each.append(per_class_accuracy(model.decision_function(test.x), test.y))
    return counts, accuracies


def table(counts: list[np.ndarray], accuracies: dict[str, list[np.ndarray]]) -> str:
    """Formats mean accuracies by the number of examples of a class, in Markdown."""
    seen = np.concatenate(counts)
    masks = {name: (seen >= least) & (seen <= most) for name, (least, most) in GROUPS.items()}
    rows = [[name, *(f"{np.nanmean(np.concatenate(each)[mask]):.1f}" for mask in masks.values())] for name, each in accuracies.items()]
    return markdown([["method", *masks], *rows])


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--classes", type=int, default=250)
    parser.add_argument("--out", default="docs/by_count.svg")
    flags = parser.parse_args()
    counts, accuracies = measure(first_classes(glyphs.load(), flags.classes), [int(seed) for seed in flags.seeds.split(",")])
    print(table(counts, accuracies))
    methods = {name: {"kind": kind, "accuracy": float(np.nanmean(accuracies[name]))} for name, kind in KINDS.items()}
    picture = draw(lambda: accuracy_by_count({"methods": methods, "counts": counts, "per_class": accuracies}))
    Path(flags.out).write_text(picture.svg)


if __name__ == "__main__":
    main()
