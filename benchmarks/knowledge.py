"""Measures what descriptions of the classes and examples without labels are worth to mmn, on one data set and several seeds.

python benchmarks/knowledge.py --data=FILE [--descriptions=FILE.npy] [--imbalance=F --largest=M] [--seeds=10,11,12]

FILE is an npz file of features, or empty for the glyphs. Examples without labels are those that the long tail leaves out of the training
set. The control has the descriptions of other classes, drawn at random. Validation examples choose hyperparameters; test accuracy is mean
per class, overall and for the third of the classes with the fewest training examples.
"""

from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags

from mmn_jax import defaults
from mmn_jax.data import feature_files, glyphs
from mmn_jax.data.descriptions import describe_names
from mmn_jax.data.longtail import UNUSED, long_tail_split, take
from mmn_jax.data.normalisation import normalisation
from mmn_jax.evaluation.bootstrap import student_interval
from mmn_jax.evaluation.metrics import per_class_accuracy, terciles
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.choosing import fit_method
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.rng import generator, stream
from mmn_jax.types import FeatureSet, Knowledge

FLAGS = flags.FLAGS
flags.DEFINE_string("data", "", "npz file of features; empty: the glyphs.")
flags.DEFINE_string("descriptions", "", "npy file [C, m] of descriptions in the order of the classes, beside those made of names.")
flags.DEFINE_float("imbalance", None, "Largest over smallest class count of the tail; by default that of the data.")
flags.DEFINE_integer("largest", None, "Training examples of the largest class.")
flags.DEFINE_integer("unlabelled", 20000, "Examples without labels, at most.")
flags.DEFINE_list("seeds", ["10", "11", "12"], "Seeds of splits and methods.")


class Case(NamedTuple):
    """One row of the table: the method that is fitted, and what it knows."""

    method: str
    known: Knowledge


def cases(features: FeatureSet, pool: np.ndarray | None, seed: int) -> dict[str, Case]:
    """Returns the cases by name; pool: normalised features of examples without labels, if there are any."""
    names = describe_names(features.class_names)
    given = np.load(FLAGS.descriptions) if FLAGS.descriptions else names
    found = {name: Case(name, Knowledge()) for name in ("plain", "logit_adjustment", "mmn")}
    for title, described in (("names", names), ("descriptions", given)):
        if described is not None and not (title == "descriptions" and described is names):
            found[f"mmn_names, {title}"] = Case("mmn_names", Knowledge(described))
            found[f"described_rows, {title}"] = Case("described_rows", Knowledge(described))
            shuffled = generator(stream(seed, "shuffled descriptions")).permutation(described)
            found[f"mmn_names, {title} shuffled"] = Case("mmn_names", Knowledge(shuffled))
    if pool is not None:
        found["pseudo_labels"] = Case("pseudo_labels", Knowledge(None, pool))
        found["mmn_unlabelled"] = Case("mmn_unlabelled", Knowledge(None, pool))
        if given is not None:
            found["mmn_all"] = Case("mmn_all", Knowledge(given, pool))
    return found


def accuracies(features: FeatureSet, seed: int) -> dict[str, np.ndarray]:
    """Fits every case to the split of a seed; returns mean per-class test accuracy overall and on the rarest third, by name."""
    part = long_tail_split(features, seed, FLAGS.imbalance, FLAGS.largest)
    tail = take(features, part)
    assert tail.val is not None and tail.test is not None
    normalise = normalisation(tail.train)
    train, val, test = (normalise.of(examples) for examples in (tail.train, tail.val, tail.test))
    left = np.flatnonzero(part == UNUSED)
    left = generator(stream(seed, "pool")).permutation(left)[: FLAGS.unlabelled]
    pool = normalise(features.train.x[left]) if len(left) else None
    methods, found = every_method(defaults.RIDGES), {}
    rarest = terciles(tail.counts)["rarest"]
    for name, case in cases(features, pool, seed).items():
        tuned = fit_method(methods[case.method], jax.random.key(seed), train, val, knowledge=case.known)
        each = per_class_accuracy(methods[case.method].logits(tuned.arrays, test.x), test.y)
        found[name] = np.array([np.nanmean(each), np.nanmean(each[rarest])])
        print(f"seed {seed}, {name}: {found[name][0]:.2f}, rarest third {found[name][1]:.2f}", flush=True)
    return found


def _line(name: str, ours: np.ndarray, mmn: np.ndarray) -> list[str]:
    """Returns a row of the table from accuracies [seeds, 2]: means, and differences to mmn with their intervals over seeds."""
    cells = [f"{value:.1f}" for value in ours.mean(0)]
    for column in (ours - mmn).T:
        mean, low, high = student_interval(column)
        cells.append(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})")
    return [name, *cells]


def main(_):
    features = feature_files.load(FLAGS.data) if FLAGS.data else glyphs.load()
    by_seed = [accuracies(features, int(seed)) for seed in FLAGS.seeds]
    stacked = {name: np.stack([one[name] for one in by_seed]) for name in by_seed[0]}
    head = ["method", "accuracy", "rarest third", "minus mmn", "rarest third minus mmn"]
    print(markdown([head, *(_line(name, ours, stacked["mmn"]) for name, ours in stacked.items())]))


if __name__ == "__main__":
    app.run(main)
