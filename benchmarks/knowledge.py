"""Measures what descriptions of the classes and examples without labels are worth to mmn, on one data set and several seeds.

python benchmarks/knowledge.py --data=FILE [--descriptions=FILE.npy] [--imbalance=F --largest=M] [--seeds=10,11,12]

FILE is an npz file of features, or empty for the glyphs. Examples without labels are those that the long tail leaves out of the training
set. The control has the descriptions of other classes, drawn at random. Validation examples choose hyperparameters; test accuracy is mean
per class, overall and for the third of the classes with the fewest training examples.

Ablations: --missing=0.5 adds cases in which this share of the classes has no description. --per_class=5 limits the examples without labels
of each class, --pool=tailed makes them as long-tailed as the training set. --strangers=0.33 leaves a quarter of the classes out of the data
set, and their examples are this share of those without labels. --only=mmn,mmn_names runs these methods alone.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags

from mmn_jax import defaults
from mmn_jax.data import feature_files, glyphs
from mmn_jax.data.descriptions import describe_names
from mmn_jax.data.longtail import UNUSED, long_tail_split, random_ranks, take
from mmn_jax.data.normalisation import normalisation
from mmn_jax.evaluation.bootstrap import student_interval
from mmn_jax.evaluation.metrics import per_class_accuracy, terciles
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.choosing import fit_method
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.rng import generator, stream
from mmn_jax.types import Examples, FeatureSet, Knowledge

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags, which tests that import functions of this and other benchmarks do without."""
    flags.DEFINE_string("data", "", "npz file of features; empty: the glyphs.")
    flags.DEFINE_string("descriptions", "", "npy file [C, m] of descriptions in the order of the classes, beside those made of names.")
    flags.DEFINE_float("imbalance", None, "Largest over smallest class count of the tail; by default that of the data.")
    flags.DEFINE_integer("largest", None, "Training examples of the largest class.")
    flags.DEFINE_integer("unlabelled", 20000, "Examples without labels, at most.")
    flags.DEFINE_integer("per_class", None, "Examples without labels of each class, at most.")
    flags.DEFINE_enum(
        "pool", "even", ["even", "tailed"], "Numbers of examples without labels: the same for all classes, or as in training."
    )
    flags.DEFINE_float("strangers", 0.0, "Share of the examples without labels that belong to classes that the data set lacks.")
    flags.DEFINE_float("missing", 0.0, "Share of the classes without a description, in further cases.")
    flags.DEFINE_list("only", [], "Methods to run; by default all.")
    flags.DEFINE_list("seeds", ["10", "11", "12"], "Seeds of splits and methods.")


class Case(NamedTuple):
    """One row of the table: the method that is fitted, and what it knows."""

    method: str
    known: Knowledge


def cases(features: FeatureSet, kept: np.ndarray, pool: np.ndarray | None, seed: int) -> dict[str, Case]:
    """Returns the cases by name.

    Args:
      features: the data set.
      kept: its classes [C] among those of the file of descriptions.
      pool: normalised features of examples without labels, if there are any.
      seed: of what is drawn.
    """
    names = describe_names(features.class_names)
    given = np.load(FLAGS.descriptions)[kept] if FLAGS.descriptions else names
    found = {name: Case(name, Knowledge()) for name in ("plain", "logit_adjustment", "mmn")}
    for title, described in (("names", names), ("descriptions", given)):
        if described is not None and not (title == "descriptions" and described is names):
            found[f"mmn_names, {title}"] = Case("mmn_names", Knowledge(described))
            found[f"described_rows, {title}"] = Case("described_rows", Knowledge(described))
            shuffled = generator(stream(seed, "shuffled descriptions")).permutation(described)
            found[f"mmn_names, {title} shuffled"] = Case("mmn_names", Knowledge(shuffled))
            if FLAGS.missing:
                lacking = random_ranks(stream(seed, "missing"), np.zeros(len(described), int)) < round(FLAGS.missing * len(described))
                part = Knowledge(np.where(lacking[:, None], 0.0, described))
                for method in ("mmn_names", "described_rows"):
                    found[f"{method}, {title}, {FLAGS.missing:.0%} missing"] = Case(method, part)
    if pool is not None:
        for method in ("pseudo_labels", "self_training", "label_spreading", "mmn_unlabelled"):
            found[method] = Case(method, Knowledge(None, pool))
        if given is not None:
            found["mmn_all"] = Case("mmn_all", Knowledge(given, pool))
    return {name: case for name, case in found.items() if not FLAGS.only or case.method in ("mmn", *FLAGS.only)}


class Population(NamedTuple):
    """A data set, its classes [C] among those of the file, and the features of examples of the other classes."""

    features: FeatureSet
    kept: np.ndarray
    strangers: np.ndarray


def population(features: FeatureSet, seed: int, strangers: float) -> Population:
    """Leaves a random quarter of the classes out of the data set, if there are to be strangers."""
    classes = len(features.class_names)
    order = generator(stream(seed, "strangers")).permutation(classes)
    kept = np.sort(order[classes // 4 :]) if strangers else np.arange(classes)

    def of_kept(part):
        part = part.at(np.isin(part.y, kept))
        return part._replace(y=np.searchsorted(kept, part.y).astype(np.int32))

    parts: dict[str, Any] = {name: of_kept(part) for name, part in features._asdict().items() if isinstance(part, Examples)}
    names = tuple(features.class_names[c] for c in kept)
    return Population(features._replace(**parts, class_names=names), kept, features.train.x[~np.isin(features.train.y, kept)])


class PoolSize(NamedTuple):
    """How many examples without labels there are: at most `total` of the data set's classes, and `each` of each class (None for all there
    are), in proportion to its training examples if `tailed`. strangers: the share of all that belongs to other classes."""

    total: int
    each: int | None = None
    tailed: bool = False
    strangers: float = 0.0


def draw_pool(size: PoolSize, train: Examples, counts: np.ndarray, strangers: np.ndarray, seed: int) -> np.ndarray:
    """Draws the examples without labels, and returns their features.

    Args:
      size: how many of them.
      train: examples that aren't trained on.
      counts: [C] training examples.
      strangers: features of examples of other classes.
      seed: of the draw.
    """
    largest = np.bincount(train.y, minlength=len(counts)).max() if size.each is None else size.each
    most = np.ceil(largest * (counts / counts.max() if size.tailed else np.ones(len(counts))))
    x = train.x[random_ranks(stream(seed, "pool of each class"), train.y) < most[train.y]]
    x = generator(stream(seed, "pool")).permutation(x)[: size.total]
    number = round(len(x) * size.strangers / (1 - size.strangers))
    return np.concatenate([x, generator(stream(seed, "pool of strangers")).permutation(strangers)[:number]])


def accuracies(features: FeatureSet, seed: int) -> dict[str, np.ndarray]:
    """Fits every case to the split of a seed; returns mean per-class test accuracy overall and on the rarest third, by name."""
    features, kept, strangers = population(features, seed, FLAGS.strangers)
    part = long_tail_split(features, seed, FLAGS.imbalance, FLAGS.largest)
    tail = take(features, part)
    assert tail.val is not None and tail.test is not None
    normalise = normalisation(tail.train)
    train, val, test = (normalise.of(examples) for examples in (tail.train, tail.val, tail.test))
    size = PoolSize(FLAGS.unlabelled, FLAGS.per_class, FLAGS.pool == "tailed", FLAGS.strangers)
    left = draw_pool(size, features.train.at(part == UNUSED), tail.counts, strangers, seed)
    pool = normalise(left) if len(left) else None
    print(f"seed {seed}: {len(train.y)} training examples of {len(kept)} classes, {len(left)} without labels", flush=True)
    methods, found = every_method(defaults.RIDGES), {}
    rarest = terciles(tail.counts)["rarest"]
    for name, case in cases(features, kept, pool, seed).items():
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
    define_flags()
    app.run(main)
