"""Computes what the page says to a practitioner from the first seed's classifiers, whose predictions results.json doesn't hold."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mmn_jax.evaluation.metrics import shot_groups
from mmn_jax.pipeline.results import labels
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.pipeline.table_formats import Table
from mmn_jax.report import classes, more_examples

ADDED = 10  # training examples of a class, of which the gain is estimated


class Examined(NamedTuple):
    """What the parts of the page for practitioners are made of.

    table: results.json. names: of the classes. shipped: the method of classifier.npz. counts: training examples. y: test labels. made: the
    predictions of the methods that are compared, by name. groups: masks of the many-, medium- and few-shot classes. gains: what more
    examples would buy; None where this can't be estimated.
    """

    table: Table
    names: tuple[str, ...]
    shipped: str
    counts: Int[np.ndarray, " C"]
    y: Int[np.ndarray, " n"]
    made: dict[str, classes.Predictions]
    groups: dict[str, Bool[np.ndarray, " C"]]
    gains: more_examples.Gains | None


def examine(table: Table, first: SeedResult) -> Examined:
    """Computes what the parts show from the first seed's classifiers."""
    shipped, tail = table.get("classifier", "mmn"), first.data.tail
    compared = dict.fromkeys(name for name in ("plain", "logit_adjustment", shipped) if name in first.models)
    made = {name: classes.predictions(first.models[name], tail) for name in compared}
    groups = shot_groups(tail.counts, table["thresholds"]["few"], table["thresholds"]["many"])
    y, number_of = labels(first), len(tail.counts)
    right = np.bincount(y[made[shipped].label == y], minlength=number_of)
    spread = more_examples.between_class_variances(first.data.whole.train)
    gains = more_examples.gains(spread, tail.counts, right, np.bincount(y, minlength=number_of), ADDED)
    return Examined(table, tuple(first.class_names), shipped, tail.counts, y, made, groups, gains)
