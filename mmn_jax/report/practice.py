"""Writes the parts of the page that a practitioner needs: which method to take, where it fails, what more examples buy, and every class.

Comparisons over all seeds come from results.json; what is said of single classes, of class priors and of calibration is about the first
seed, whose classifier is saved.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mmn_jax.evaluation.metrics import shot_groups
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.pipeline.table_formats import GROUPS, Table, difference, number
from mmn_jax.report import classes, more_examples
from mmn_jax.report.html import Part, grid, text

WORST = 10  # classes, and pairs of classes, in the short lists
ADDED = 10  # training examples that are added to a class
ADVISED = 5  # classes that get them
WORDS = {"plain": "plain training", "logit_adjustment": "logit adjustment"}  # methods that have a name in English


class Seed(NamedTuple):
    """What the parts are made of.

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


def examine(table: Table, first: SeedResult) -> Seed:
    """Computes what the parts show from the first seed's classifiers."""
    shipped, tail = table.get("classifier", "mmn"), first.data.tail
    compared = dict.fromkeys(name for name in ("plain", "logit_adjustment", shipped) if name in first.models)
    made = {name: classes.predictions(first.models[name], tail) for name in compared}
    groups = shot_groups(tail.counts, table["thresholds"]["few"], table["thresholds"]["many"])
    y, number_of = tail.test.y, len(tail.counts)
    right = np.bincount(y[made[shipped].label == y], minlength=number_of)
    spread = more_examples.between_class_variances(first.data.whole.train)
    gains = more_examples.gains(spread, tail.counts, right, np.bincount(y, minlength=number_of), ADDED)
    return Seed(table, tuple(first.class_names), shipped, tail.counts, y, made, groups, gains)


def parts(seed: Seed) -> list[Part]:
    """Returns the parts in the order of the page."""
    found = classes.results_by_class(seed.y, (seed.made["plain"].label, seed.made[seed.shipped].label), seed.counts)
    return [answer(seed), priors(seed), calibration(seed), worst(seed, found), more(seed), every_class(seed, found)]


def compared(values: Sequence[float], name: str, other: str) -> str:
    """States in a sentence how far a method is from another; values: the difference in points and the ends of its 95% interval."""
    mean, low, high = values
    if low <= 0 <= high:
        return f"{name} and {other} tie: the difference is {mean:+.1f} points, and its 95% interval, {low:+.1f} to {high:+.1f}, holds 0."
    more, ends = ("more", (low, high)) if mean > 0 else ("less", (-high, -low))
    return f"{name} is {abs(mean):.1f} points {more} accurate than {other} (95% interval {ends[0]:.1f} to {ends[1]:.1f})."


def advice(table: Table, shipped: str) -> str:
    """States in a sentence or two which method to take."""
    mine = table["methods"][shipped]
    _, low, high = mine["vs_plain"]
    adjusted = mine.get("vs_logit_adjustment")
    if high < 0:
        return f"Keep plain training: {shipped} is less accurate on these data."
    if adjusted and adjusted[2] < 0:
        return f'Take logit adjustment, TailClassifier(method="logit_adjustment"): it is more accurate on these data than {shipped}.'
    if low <= 0:
        return f"Either will do: {shipped} and plain training tie on these data."
    return f"Take {shipped}: it is more accurate than plain training, and classifier.npz holds it."


def answer(seed: Seed) -> Part:
    """Says which method to take, and what it gains overall and for many-, medium- and few-shot classes."""
    table, shipped = seed.table, seed.shipped
    methods = table["methods"]
    mine, adjusted = methods[shipped], methods[shipped].get("vs_logit_adjustment")
    lines = [compared(mine["vs_plain"], shipped, WORDS["plain"])]
    if adjusted:
        lines.append(compared(adjusted, shipped, WORDS["logit_adjustment"]))
    lines += _group_sentences(table, shipped)
    seeds = f" averaged over seeds {', '.join(map(str, table['seeds']))}" if len(table["seeds"]) > 1 else ""
    mean = f"{shipped} classifies {mine['accuracy']:.1f}% of the test examples of a class correctly, in the mean over classes{seeds};"
    lines.insert(0, f"{mean} plain training {methods['plain']['accuracy']:.1f}%.")
    header = ["classes", "plain", shipped, f"{shipped} minus plain", *([f"{shipped} minus logit adjustment"] if adjusted else [])]
    rows = [_difference_row("all", len(seed.counts), "accuracy", "vs_plain", "vs_logit_adjustment", methods, shipped, None)]
    rows += [
        _difference_row(f"{group}-shot", table["groups"][group], group, "vs_plain", "vs_logit_adjustment", methods, shipped, group)
        for group in GROUPS
        if table["groups"][group]
    ]
    shown = grid("gains", [header, *(row[: len(header)] for row in rows)])
    few, many = table["thresholds"]["few"], table["thresholds"]["many"]
    note = (
        f"Mean per-class test accuracy in percent, and differences in points with 95% intervals from a paired bootstrap. Many-shot classes"
        f" have more than {many} training examples, few-shot classes fewer than {few}. An interval that holds 0 is a tie."
    )
    content = f"<p><strong>{escape(advice(table, shipped))}</strong></p>{_listed(lines)}{shown.html}{_quiet(note)}"
    return Part("answer", "Which method to take", content, shown.labels)


def _group_sentences(table: Table, shipped: str) -> list[str]:
    """States for which groups of classes the difference to plain training is clear, gains and losses in a sentence each."""
    found = {group: table["methods"][shipped]["vs_plain_groups"][group] for group in GROUPS}
    clear = {group: values for group, values in found.items() if values and not values[1] <= 0 <= values[2]}
    sentences = []
    for verb, groups in (("gains", [g for g in clear if clear[g][0] > 0]), ("loses", [g for g in clear if clear[g][0] < 0])):
        parts = [f"{abs(clear[group][0]):.1f} points on the {group}-shot classes ({table['groups'][group]})" for group in groups]
        if parts:
            sentences.append(f"Against plain training it {verb} {', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]}.")
    return sentences


def _difference_row(label, size, key, versus, other, methods, shipped, group) -> list[str]:
    """Returns the cells of a group of classes: accuracy of both methods, and the differences to plain and to logit adjustment."""
    mine = methods[shipped]
    found = [mine.get(one) if group is None else (mine.get(f"{one}_groups") or {}).get(group) for one in (versus, other)]
    return [f"{label} ({size})", number(methods["plain"][key]), number(mine[key]), *(difference(one) or "n/a" for one in found)]


def priors(seed: Seed) -> Part:
    """Compares the first seed's classifiers where every class is equally frequent, and where classes are as frequent as in training."""
    y, train = seed.y, seed.counts / seed.counts.sum()
    uniform = np.full(len(train), 1 / len(train))
    labels = {name: made.label for name, made in seed.made.items()}
    labels[f"{seed.shipped} with --prior=train"] = seed.made[seed.shipped].at_train_prior
    plain = (labels["plain"] == y).astype(int)
    lines = [["classifier", "every class equally frequent", "as frequent as in training", "the latter minus plain"]]
    for name, label in labels.items():
        right = (label == y).astype(int)
        minus = "" if name == "plain" else difference(classes.weighted_accuracy(right - plain, y, train))
        lines.append([name, *(_accuracy(classes.weighted_accuracy(right, y, prior)) for prior in (uniform, train)), minus])
    shown = grid("accuracy-by-prior", lines)
    adapted = (labels[f"{seed.shipped} with --prior=train"] == y).astype(int) - plain
    sentence = compared(classes.weighted_accuracy(adapted, y, train), f"{seed.shipped} with --prior=train", WORDS["plain"])
    first = (
        "If every class matters alike, or you don't know how frequent the classes will be, use the classifier as it is. If they will be as"
        f" frequent as in the training set, predict with --prior=train. There, {sentence}"
    )
    note = (
        f"Percentage of examples classified correctly by the classifiers of seed {seed.table['seeds'][0]}, with 95% intervals over test"
        " examples (normal approximation, stratified by class); differences in points. Test examples are weighted to these shares of"
        " the classes."
    )
    return Part("priors", "How frequent the classes will be", f"<p>{escape(first)}</p>{shown.html}{_quiet(note)}", shown.labels)


def _accuracy(values) -> str:
    mean, low, high = values
    return f"{mean:.1f} ({max(low, 0.0):.1f} to {min(high, 100.0):.1f})"


def calibration(seed: Seed) -> Part:
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
        f"Test examples of seed {seed.table['seeds'][0]}, after temperature scaling, under a uniform class prior: every true class has the"
        " same weight. Groups are those of the predicted class. The figure on calibration below shows all levels of confidence."
    )
    return Part("probabilities", "Whether its probabilities hold", f"<p>{escape(first)}</p>{shown.html}{_quiet(note)}", shown.labels)


def worst(seed: Seed, found: classes.Classes) -> Part:
    """Lists the classes that are recognised worst, and the pairs of classes that are taken for each other most."""
    label, names = seed.made[seed.shipped].label, seed.names
    chosen = classes.worst(found, WORST)
    if not len(chosen):
        return Part("worst", "Where it fails", f"<p>{escape(seed.shipped)} makes no mistake on the test examples.</p>")
    lines = [
        f"{names[c]}: {found.after[c]:.0f}% of {found.tested[c]} test examples correct ({found.low[c]:.0f} to {found.high[c]:.0f}),"
        f" {_examples(found.counts[c])}; most often taken for {names[found.confused[c]]} ({found.share[c]:.0f}%)"
        for c in chosen
    ]
    pairs = classes.confused_pairs(classes.mistakes(seed.y, label), found.tested, WORST)
    mixed = [_confusion(names, found.tested, *pair) for pair in zip(*pairs, strict=True)]
    note = (
        f"Test examples of seed {seed.table['seeds'][0]}. Classes are ordered by the upper end of their 95% interval, and pairs by the"
        " lower end of that of their share of confused examples, so that classes with few test examples aren't listed by chance."
    )
    lists = (("Classes recognised worst", lines), ("Classes taken for each other", mixed))
    content = "".join(f"<section><h3>{title}</h3>{_listed(listed)}</section>" for title, listed in lists)
    return Part("worst", "Where it fails", f'<div class="figures">{content}</div>{_quiet(note)}')


def _confusion(names, tested, a, b, there, back) -> str:
    """Describes a pair of classes that are taken for each other, in the direction that is more frequent first."""
    if there * tested[b] < back * tested[a]:
        a, b, there, back = b, a, back, there
    reverse = f"; the reverse: {back} of {tested[b]}" if back else ""
    return f"{names[a]} taken for {names[b]}: {there} of {tested[a]} test examples{reverse}"


def _examples(count: int) -> str:
    return f"{count} training example" if count == 1 else f"{count} training examples"


def _listed(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def _quiet(note: str) -> str:
    return f'<p class="quiet">{escape(note)}</p>'


def more(seed: Seed) -> Part:
    """Says which classes would gain most from more training examples."""
    title = "What more examples would buy"
    if seed.gains is None:
        enough = len(np.unique(seed.y)) >= more_examples.LEAST_CLASSES
        why = (
            f"{seed.shipped} doesn't recognise classes with more training examples better, so these test results don't show what more buy."
            if enough
            else f"Fewer than {more_examples.LEAST_CLASSES} classes have test examples: too few to estimate this from."
        )
        return Part("more", title, f"<p>{escape(why)}</p>")
    now, then = seed.gains
    gain = np.nan_to_num(then - now)
    chosen = np.argsort(-gain, kind="stable")[:ADVISED]
    total = gain[chosen].sum() / np.isfinite(now).sum()
    first = (
        f"If you can label more examples, label {ADDED} more of each of these {len(chosen)} classes. By the estimate they gain"
        f" {gain[chosen].mean():.0f} points on average, which is {total:.2f} points of the mean per-class accuracy."
    )
    if gain[chosen[0]] < 1.0:
        first = f"No class would gain a point from {ADDED} more training examples, by the estimate. The classes that would gain most:"
    header = ["class", "training examples", f"estimated accuracy of {seed.shipped}", f"with {ADDED} more", "gain"]
    cells = [[seed.names[c], str(seed.counts[c]), f"{now[c]:.0f}", f"{then[c]:.0f}", f"{gain[c]:+.1f}"] for c in chosen]
    shown = grid("more-table", [header, *cells])
    note = (
        "How it is estimated: a model of how class means scatter says how much of the mean of a class is unknown after n examples. How"
        " much accuracy that costs is fitted over all classes of this run. A class starts from its own test accuracy, which is shrunk"
        f" towards the fitted curve if it has few test examples, and moves along the curve by {ADDED} examples. The estimate assumes that"
        " the new examples are as varied as the old ones. It has no interval: take the order of the classes and the size of the gain as a"
        " guide."
    )
    return Part("more", title, f"<p>{escape(first)}</p>{shown.html}{_quiet(note)}", shown.labels)


def every_class(seed: Seed, found: classes.Classes) -> Part:
    """Lists every class, the most frequent first, with the controls of the page's script."""
    group_of = np.full(len(found.counts), "", object)
    for name, mask in seed.groups.items():
        group_of[mask] = name
    order = np.argsort(-found.counts, kind="stable")
    header = ["class", "training examples", "test examples", "plain", seed.shipped, "95% interval", "change", "most often taken for"]
    lines = [header, *(_class_row(seed.names, found, c) for c in order)]
    shown = grid("classes-table", lines, words=(7,), groups=[group_of[c] for c in order])
    options = "".join(f'<option value="{name}">{name}-shot</option>' for name, mask in seed.groups.items() if mask.any())
    tools = (
        '<div id="tools" hidden><label>Filter by name <input id="search" type="search"></label>'
        f'<label>Classes <select id="group"><option value="">all</option>{options}</select></label>'
        '<span id="shown" class="quiet" aria-live="polite"></span><span class="quiet">Click a heading to sort.</span></div>'
    )
    note = (
        f"Test accuracy in percent, of plain training and of {seed.shipped}, seed {seed.table['seeds'][0]}. The interval is Wilson's 95%"
        f" interval of {seed.shipped}: with few test examples it is wide, and a change of one example is many points. The last column is"
        " the class that is predicted most often in place of this one, with the share of its test examples that this happens to."
    )
    return Part("classes", "Every class", f"{tools}{shown.html}{_quiet(note)}", shown.labels)


def _class_row(names: tuple[str, ...], found: classes.Classes, c: int) -> list[str]:
    cells = [names[c], str(found.counts[c]), str(found.tested[c])]
    if found.tested[c] == 0:
        return [*cells, *["n/a"] * 4, ""]
    other = f"{names[found.confused[c]]} ({found.share[c]:.0f}%)" if found.confused[c] >= 0 else ""
    interval = f"{found.low[c]:.0f} to {found.high[c]:.0f}"
    return [*cells, f"{found.before[c]:.1f}", f"{found.after[c]:.1f}", interval, f"{found.after[c] - found.before[c]:+.1f}", other]
