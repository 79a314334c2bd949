"""From results.json to a page: the table in Markdown and a figure of accuracy against training count."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmn_jax import artifacts, results


def accuracy_by_count(table: dict[str, Any], shown: tuple[str, ...] = ("plain", "cost_sensitive", "metamodelnet")) -> Figure:
    """Mean accuracy of classes in bins of training count (powers of two), over all seeds, one line a method."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = np.concatenate(table["counts"])
    level = np.floor(np.log2(counts)).astype(int)
    levels = np.unique(level)
    for name in shown:
        accuracy = np.concatenate(table["per_class"][name])
        axes.plot(levels, [np.nanmean(accuracy[level == i]) for i in levels], marker="o", label=name)
    axes.set_xticks(levels, [f"{2**i}–{2 ** (i + 1) - 1}" if i else "1" for i in levels])
    axes.set(xlabel="training examples of the class", ylabel="test accuracy (%)", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def write(workdir: Path) -> Path:
    """Writes report.md and accuracy_by_count.png beside results.json, and returns the page."""
    table = results.read(workdir)
    picture = io.BytesIO()
    accuracy_by_count(table).savefig(picture, dpi=150)
    artifacts.write_bytes(workdir / "accuracy_by_count.png", picture.getvalue())
    page = workdir / "report.md"
    seeds = ", ".join(map(str, table["seeds"]))
    text = (
        f"# {table['dataset']}\n\nMean per-class test accuracy in percent; seeds {seeds}; many-shot: more than"
        f" {table['thresholds']['many']} training examples, few-shot: fewer than {table['thresholds']['few']}; in brackets a group's"
        " number of classes, and the 95% paired bootstrap interval of the difference to plain.\n\n"
        f"{results.as_markdown(table)}\n\n![accuracy by training count](accuracy_by_count.png)\n"
    )
    artifacts.write_bytes(page, text.encode())
    return page
