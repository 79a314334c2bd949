"""Writes the parts of the page on single classes: where the saved classifier fails, what more examples would buy, and every class."""

from html import escape

import numpy as np

from mmn_jax.pipeline.table_formats import evaluated
from mmn_jax.report import classes, more_examples
from mmn_jax.report.examined import ADDED, Examined
from mmn_jax.report.html import Part, grid, listed, quiet

WORST = 10  # classes, and pairs of classes, in the short lists
ADVISED = 5  # classes for which more examples are advised


def parts(seed: Examined) -> list[Part]:
    """Returns the parts in the order of the page."""
    found = classes.results_by_class(seed.y, (seed.made["plain"].label, seed.made[seed.shipped].label), seed.counts)
    return [worst(seed, found), more(seed), every_class(seed, found)]


def worst(seed: Examined, found: classes.Classes) -> Part:
    """Lists the classes that are recognised worst, and the pairs of classes that are taken for each other most."""
    label, names, on = seed.made[seed.shipped].label, seed.names, evaluated(seed.table).examples
    chosen = classes.worst(found, WORST)
    if not len(chosen):
        return Part("worst", "Where it fails", f"<p>{escape(seed.shipped)} makes no mistake on the {on}.</p>")
    lines = [
        f"{names[c]}: {found.after[c]:.0f}% of {found.tested[c]} {on} correct ({found.low[c]:.0f} to {found.high[c]:.0f}),"
        f" {_examples(found.counts[c])}; most often taken for {names[found.confused[c]]} ({found.share[c]:.0f}%)"
        for c in chosen
    ]
    pairs = classes.confused_pairs(classes.mistakes(seed.y, label), found.tested, WORST)
    mixed = [_confusion(names, on, found.tested, *pair) for pair in zip(*pairs, strict=True)]
    note = (
        f"{on.capitalize()} of seed {seed.table['seeds'][0]}. Classes are ordered by the upper end of their 95% interval, and pairs by the"
        f" lower end of that of their share of confused examples, so that classes with few {on} aren't listed by chance."
    )
    lists = (("Classes recognised worst", lines), ("Classes taken for each other", mixed))
    content = "".join(f"<section><h3>{title}</h3>{listed(one)}</section>" for title, one in lists)
    return Part("worst", "Where it fails", f'<div class="figures">{content}</div>{quiet(note)}')


def _confusion(names, on, tested, a, b, there, back) -> str:
    """Describes a pair of classes that are taken for each other, in the direction that is more frequent first."""
    if there * tested[b] < back * tested[a]:
        a, b, there, back = b, a, back, there
    reverse = f"; the reverse: {back} of {tested[b]}" if back else ""
    return f"{names[a]} taken for {names[b]}: {there} of {tested[a]} {on}{reverse}"


def _examples(count: int) -> str:
    return f"{count} training example" if count == 1 else f"{count} training examples"


def more(seed: Examined) -> Part:
    """Says which classes would gain most from more training examples."""
    title, (on, accuracy) = "What more examples would buy", evaluated(seed.table)
    if seed.gains is None:
        enough = len(np.unique(seed.y)) >= more_examples.LEAST_CLASSES
        few = f"Fewer than {more_examples.LEAST_CLASSES} classes have {on}: too few to estimate this from."
        flat = f"{seed.shipped} doesn't recognise classes with more training examples better, so these results don't show what more buy."
        return Part("more", title, f"<p>{escape(flat if enough else few)}</p>")
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
        f" much accuracy that costs is fitted over all classes of this run. A class starts from its own {accuracy}, which is shrunk"
        f" towards the fitted curve if it has few {on}, and moves along the curve by {ADDED} examples. The estimate assumes that"
        " the new examples are as varied as the old ones. It has no interval: take the order of the classes and the size of the gain as a"
        " guide."
    )
    return Part("more", title, f"<p>{escape(first)}</p>{shown.html}{quiet(note)}", shown.labels)


def every_class(seed: Examined, found: classes.Classes) -> Part:
    """Lists every class, the most frequent first, with the controls of the page's script."""
    group_of = np.full(len(found.counts), "", object)
    for name, mask in seed.groups.items():
        group_of[mask] = name
    order, (on, accuracy) = np.argsort(-found.counts, kind="stable"), evaluated(seed.table)
    header = ["class", "training examples", on, "plain", seed.shipped, "95% interval", "change", "most often taken for"]
    lines = [header, *(_class_row(seed.names, found, c) for c in order)]
    shown = grid("classes-table", lines, words=(7,), groups=[group_of[c] for c in order])
    options = "".join(f'<option value="{name}">{name}-shot</option>' for name, mask in seed.groups.items() if mask.any())
    tools = (
        '<div id="tools" hidden><label>Filter by name <input id="search" type="search"></label>'
        f'<label>Classes <select id="group"><option value="">all</option>{options}</select></label>'
        '<span id="shown" class="quiet" aria-live="polite"></span><span class="quiet">Click a heading to sort.</span></div>'
    )
    note = (
        f"{accuracy.capitalize()} in percent, of plain training and of {seed.shipped}, seed {seed.table['seeds'][0]}. The"
        f" interval is Wilson's 95% interval of {seed.shipped}: with few {on} it is wide, and a change of one example is many points."
        " The last column is the class that is predicted most often in place of this one, with the share of its"
        f" {on} that this happens to."
    )
    return Part("classes", "Every class", f"{tools}{shown.html}{quiet(note)}", shown.labels)


def _class_row(names: tuple[str, ...], found: classes.Classes, c: int) -> list[str]:
    cells = [names[c], str(found.counts[c]), str(found.tested[c])]
    if found.tested[c] == 0:
        return [*cells, *["n/a"] * 4, ""]
    other = f"{names[found.confused[c]]} ({found.share[c]:.0f}%)" if found.confused[c] >= 0 else ""
    interval = f"{found.low[c]:.0f} to {found.high[c]:.0f}"
    return [*cells, f"{found.before[c]:.1f}", f"{found.after[c]:.1f}", interval, f"{found.after[c] - found.before[c]:+.1f}", other]
