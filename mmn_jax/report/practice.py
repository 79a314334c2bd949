"""Writes the parts of the page that say which method to take, and how its predictions and probabilities hold.

Comparisons over all seeds come from results.json; what is said of class priors and of calibration is about the first seed, whose classifier
is saved.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from mmn_jax.pipeline.advice import validation_note
from mmn_jax.pipeline.table_formats import GROUPS, Table, difference, evaluated, number
from mmn_jax.report import classes
from mmn_jax.report.examined import Examined
from mmn_jax.report.html import Grid, Part, grid, listed, quiet

WORDS = {"plain": "plain training", "logit_adjustment": "logit adjustment"}  # methods that have a name in English


def parts(seed: Examined) -> list[Part]:
    """Returns the parts in the order of the page."""
    return [answer(seed), priors(seed), calibration(seed)]


def compared(values: Sequence[float], name: str, other: str) -> str:
    """States in a sentence how far a method is from another; values: the difference in points and the ends of its 95% interval."""
    mean, low, high = values
    if low <= 0 <= high:
        return f"{name} and {other} tie: the difference is {mean:+.1f} points, and its 95% interval, {low:+.1f} to {high:+.1f}, holds 0."
    more, ends = ("more", (low, high)) if mean > 0 else ("less", (-high, -low))
    return f"{name} is {abs(mean):.1f} points {more} accurate than {other} (95% interval {ends[0]:.1f} to {ends[1]:.1f})."


def _against(table: Table, shipped: str) -> dict[str, list[float]]:
    """Returns the difference of the saved classifier to each of the methods in `WORDS` that was fitted, with its 95% interval."""
    found = {name: table["methods"][shipped].get(f"vs_{name}") for name in WORDS if name != shipped}
    return {name: values for name, values in found.items() if values}


def answer(seed: Examined) -> Part:
    """Shows the advice of results.json, and what the saved classifier gains overall and for many-, medium- and few-shot classes."""
    shown, thresholds = _gains(seed), seed.table["thresholds"]
    note = (
        f"Mean per-class {evaluated(seed.table).accuracy} in percent, and differences in points with 95% intervals from a paired bootstrap."
        f" Many-shot classes"
        f" have more than {thresholds['many']} training examples, few-shot classes fewer than {thresholds['few']}. An interval that holds 0"
        f" is a tie. {validation_note(seed.table)}"
    )
    take, *price = seed.table["advice"]["sentences"]
    first = f"<p><strong>{escape(take)}</strong></p>{listed([*price, *_sentences(seed.table, seed.shipped)])}"
    return Part("answer", "Which method to take", f"{first}{shown.html}{quiet(note)}", shown.labels)


def _sentences(table: Table, shipped: str) -> list[str]:
    """States the accuracy of the saved classifier, and its differences to the methods in `WORDS`, overall and by group."""
    methods, seeds = table["methods"], table["seeds"]
    average = f", averaged over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    plain = f"; plain training {methods['plain']['accuracy']:.1f}%"
    return [
        f"{shipped} classifies {methods[shipped]['accuracy']:.1f}% of the {evaluated(table).examples} of a class correctly, in the mean"
        f" over classes{average}{plain if shipped != 'plain' else ''}.",
        *(compared(values, shipped, WORDS[name]) for name, values in _against(table, shipped).items()),
        *_group_sentences(table, shipped),
    ]


def _group_sentences(table: Table, shipped: str) -> list[str]:
    """States for which groups of classes the difference to plain training is clear, gains and losses in a sentence each."""
    found = {group: table["methods"][shipped]["vs_plain_groups"][group] for group in GROUPS}
    clear = {group: values for group, values in found.items() if values and not values[1] <= 0 <= values[2]}
    sentences = []
    for verb, groups in (("gains", [g for g in clear if clear[g][0] > 0]), ("loses", [g for g in clear if clear[g][0] < 0])):
        parts = [f"{abs(clear[group][0]):.1f} points on the {group}-shot classes ({table['groups'][group]})" for group in groups]
        if parts:
            sentences.append(f"Against plain training it {verb} {' and '.join(parts)}.")
    return sentences


def _gains(seed: Examined) -> Grid:
    """Returns the table of accuracies and differences of all classes and of each group."""
    table, shipped = seed.table, seed.shipped
    methods, against = table["methods"], _against(table, shipped)
    shown = list(dict.fromkeys(("plain", shipped)))
    lines = [["classes", *shown, *(f"{shipped} minus {WORDS[name].removesuffix(' training')}" for name in against)]]
    minus = [difference(values) for values in against.values()]
    lines.append([f"all ({len(seed.counts)})", *(number(methods[name]["accuracy"]) for name in shown), *minus])
    for group in GROUPS:
        if table["groups"][group]:
            minus = [difference(methods[shipped][f"vs_{name}_groups"][group]) or "n/a" for name in against]
            lines.append([f"{group}-shot ({table['groups'][group]})", *(number(methods[name][group]) for name in shown), *minus])
    return grid("gains", lines)


def priors(seed: Examined) -> Part:
    """Compares the first seed's classifiers where every class is equally frequent, and where classes are as frequent as in training."""
    y, train, on = seed.y, seed.counts / seed.counts.sum(), evaluated(seed.table).examples
    uniform = np.full(len(train), 1 / len(train))
    labels = {name: made.label for name, made in seed.made.items()}
    adapted_name = f"{seed.shipped} with --prior=train"
    labels[adapted_name] = seed.made[seed.shipped].at_train_prior
    plain = (labels["plain"] == y).astype(int)
    lines = [["classifier", "every class equally frequent", "as frequent as in training", "the latter minus plain"]]
    for name, label in labels.items():
        right = (label == y).astype(int)
        minus = "" if name == "plain" else difference(classes.weighted_accuracy(right - plain, y, train))
        lines.append([name, *(_accuracy(classes.weighted_accuracy(right, y, prior)) for prior in (uniform, train)), minus])
    shown = grid("accuracy-by-prior", lines)
    adapted = classes.weighted_accuracy((labels[adapted_name] == y).astype(int) - plain, y, train)
    choice = "take plain training" if adapted[2] < 0 else "predict with --prior=train"
    first = (
        "If every class matters alike, or you don't know how frequent the classes will be, use the classifier as it is. If they will be as"
        f" frequent as in the training set, {choice}. There, {compared(adapted, adapted_name, WORDS['plain'])}"
    )
    note = (
        f"Percentage of examples classified correctly by the classifiers of seed {seed.table['seeds'][0]}, with 95% intervals over {on}"
        f" (normal approximation, stratified by class); differences in points. {on.capitalize()} are weighted to these shares of the"
        " classes."
    )
    return Part("priors", "How frequent the classes will be", f"<p>{escape(first)}</p>{shown.html}{quiet(note)}", shown.labels)


def _accuracy(values) -> str:
    mean, low, high = values
    return f"{mean:.1f} ({max(low, 0.0):.1f} to {min(high, 100.0):.1f})"


def calibration(seed: Examined) -> Part:
    """Compares probabilities with accuracy, for predictions of many-, medium- and few-shot classes."""
    made = seed.made[seed.shipped]
    every = {"all": np.ones(len(seed.counts), bool), **{f"{name}-shot": group for name, group in seed.groups.items() if group.any()}}
    lines = [["predicted class", "predictions", "mean probability", "correct", "probability minus correct"]]
    for name, group in every.items():
        one = classes.calibration_of(made, seed.y, group)
        if one is None:
            lines.append([name, "0", "n/a", "n/a", "n/a"])
        else:
            gap = f"{one.probability - one.right:+.1f}"
            lines.append([name, str(one.number), f"{one.probability:.1f}%", f"{one.right:.1f}%", gap])
    shown = grid("calibration-by-group", lines)
    first = (
        f"How far the probabilities of {seed.shipped} can be relied on. Where the last column is above 0, predictions of these classes are"
        " less often correct than their probability says; where it is below 0, more often."
    )
    note = (
        f"{evaluated(seed.table).examples.capitalize()} of seed {seed.table['seeds'][0]}, after temperature scaling, under a uniform class"
        " prior: every true class has the same weight. Groups are those of the predicted class. The figure on calibration below shows all"
        " levels of confidence."
    )
    return Part("probabilities", "Whether its probabilities hold", f"<p>{escape(first)}</p>{shown.html}{quiet(note)}", shown.labels)
