"""Formats the table of results as text, Markdown and CSV; `results.py` computes its content."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmn_jax.pipeline.advice import best_rival, harder_note, interval_note, validation_note
from mmn_jax.pipeline.markdown import in_markdown

GROUPS = ("many", "medium", "few")
TERCILES = ("most", "middle", "rarest")

Table = dict[str, Any]  # the content of results.json


class Evaluated(NamedTuple):
    """What texts call the examples that a table is evaluated on, and the accuracy on them."""

    examples: str
    accuracy: str


EVALUATED = {
    "test": Evaluated("test examples", "test accuracy"),
    "folds": Evaluated("held-out training examples", "cross-validated accuracy"),
}


def evaluated(table: Table) -> Evaluated:
    """Returns what a table is evaluated on; an older one on test examples."""
    return EVALUATED[table.get("evaluated_on", "test")]


def number(value: float | None) -> str:
    """Formats a number to one decimal; n/a if it is None or NaN."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.1f}"


class Clear(str):
    """The text of a difference whose interval excludes 0; tables show it in bold."""


def difference(values: Sequence[float] | None) -> str:
    """Formats a difference [mean, low, high]; it is called a tie if its interval holds 0, and is empty for None."""
    if values is None:
        return ""
    mean, low, high = values
    text = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"{text} tie" if low <= 0 <= high else Clear(text)


def ranked(methods: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the names of the methods, the most accurate first."""
    return sorted(methods, key=lambda name: -methods[name]["accuracy"])


def rows(table: Table) -> list[list[str]]:
    """Returns the table as cells of text: a header and one row per method, the most accurate first."""
    methods = table["methods"]
    prior = table["prior"] != "uniform"
    versus = {"vs_plain": "vs plain"} if "plain" in methods and len(methods) > 1 else {}
    if any(method["vs_best_rival"] for method in methods.values()):
        versus["vs_best_rival"] = versus_rival(methods)
    header = ["method", "accuracy", *(["at prior"] if prior else []), *versus.values()]
    lines = [[*header, *(f"{g} ({table['groups'][g]})" for g in GROUPS), "ECE", "scaled", "NLL", "seconds"]]
    for name in ranked(methods):
        method = methods[name]
        cells = [name, number(method["accuracy"]), *([number(method["prior_accuracy"])] if prior else [])]
        cells += ["" if (name, key) == ("plain", "vs_plain") else difference(method[key]) for key in versus]
        cells += [number(method[group]) for group in GROUPS]
        lines.append(
            [*cells, number(method["ece"]), number(method["ece_scaled"]), f"{method['nll_scaled']:.2f}", f"{method['seconds']:.0f}"]
        )
    return lines


def versus_rival(methods: dict[str, dict[str, Any]]) -> str:
    """Returns the heading of differences to the best rival, by its name; its own row compares it with the second best."""
    rivals = [name for name, method in methods.items() if method["kind"] == "rival"]
    return f"vs {best_rival(methods)}{', best rival' if len(rivals) > 1 else ''}"


def title(table: Table) -> str:
    """Returns what the table shows: the data, which accuracy it is, and of which seeds."""
    seeds = f"seed{'s' * (len(table['seeds']) > 1)} {', '.join(map(str, table['seeds']))}"
    return f"{table['dataset']}: mean per-class {evaluated(table).accuracy} in percent, {seeds}"


def as_text(table: Table) -> str:
    """Formats the table for a terminal, in aligned columns, with its title above and the advice below it."""
    lines = rows(table)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([title(table), *aligned, *sentences(table)])


def sentences(table: Table) -> list[str]:
    """Returns what stands below the table: which method to take and at what cost, and what the figures leave out."""
    methods, best = table["methods"], best_rival(table["methods"])
    second = best_rival(methods, best) if best else None
    own = f"The row of {best} compares it with {second}, the second best rival." if second else ""
    notes = own, harder_note(table), validation_note(table), interval_note(table["seeds"], table.get("interval_over", "test examples"))
    return [line for line in (*table["advice"]["sentences"], *notes) if line]


def as_markdown(table: Table) -> str:
    """Formats the table in Markdown, with its title above and the advice below it."""
    cells = [[f"**{in_markdown(cell)}**" if isinstance(cell, Clear) else in_markdown(cell) for cell in line] for line in rows(table)]
    return "\n".join([in_markdown(title(table)), "", markdown(cells), "", *map(in_markdown, sentences(table))])


def markdown(lines: list[list[str]]) -> str:
    """Formats a header and rows of Markdown cells as a Markdown table, all columns but the first aligned right."""
    bars = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], bars, *lines[1:]])


FIELDS = (
    "kind",
    "accuracy",
    *GROUPS,
    *TERCILES,
    "prior_accuracy",
    "macro_f1",
    "ece",
    "ece_scaled",
    "nll",
    "nll_scaled",
    "val_accuracy",
    "seconds",
)


def as_csv(table: Table) -> str:
    """Formats the single numbers of every method in results.json, and its two intervals, as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", *FIELDS, *(f"{v}{end}" for v in ("vs_plain", "vs_best_rival") for end in ("", "_low", "_high"))])
    for name, method in table["methods"].items():
        ends = [value for versus in ("vs_plain", "vs_best_rival") for value in (method[versus] or [""] * 3)]
        writer.writerow([name, *(method[field] for field in FIELDS), *ends])
    return buffer.getvalue()
