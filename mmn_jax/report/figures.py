"""Draws results.json as matplotlib figures, and renders figures as SVG and PNG.

A method has the same colour everywhere, from the colour-blind safe palette of Okabe and Ito, and a marker of its own.
"""

import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmn_jax.pipeline.advice import best_rival
from mmn_jax.pipeline.table_formats import Table, ranked

INK, PAPER = "#222222", "#ffffff"
RIVAL = "#CC79A7"
COLOURS = {
    "plain": "#8c8c8c",
    "over_sampling": "#56B4E9",
    "under_sampling": "#E69F00",
    "cost_sensitive": "#009E73",
    "metamodelnet": "#0072B2",
    "mmn": "#D55E00",
}
MARKERS = {"plain": "o", "cost_sensitive": "s", "metamodelnet": "^", "mmn": "D"}
WIDTH = 6.4  # inches
STYLE: dict[Any, Any] = {  # matplotlib's own type lists every key
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK),
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "lines.markersize": 4.5,
    "text.parse_math": False,  # class names may hold a $
    "svg.fonttype": "none",  # text stays text, in whatever script it is
    "svg.hashsalt": "mmn_jax",  # the same names in the file every time
}


class Picture(NamedTuple):
    """A rendered figure, as the contents of its two files."""

    svg: str
    png: bytes


def draw(make: Callable[[], Figure]) -> Picture:
    """Renders the figure that make() returns in the common style.

    Some of the style can only be set in matplotlib's global settings, which are restored afterwards.
    """
    svg, png = io.StringIO(), io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a script of a class name: the PNG shows boxes, the SVG the text
        figure = make()
        figure.savefig(svg, format="svg", facecolor=PAPER, metadata=nothing)
        figure.savefig(png, format="png", facecolor=PAPER, dpi=150)
    return Picture(svg.getvalue(), png.getvalue())


def panels(height: float, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Makes a figure of the common width.

    Args:
      height: in inches.
      columns: number of panels.
      **options: of `Figure.subplots`.

    Returns:
      The figure and its axes, an array if there are several.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, **options)


def style_of(name: str) -> dict[str, Any]:
    """Returns the colour and marker of a method."""
    return {"color": COLOURS.get(name, RIVAL), "marker": MARKERS.get(name, "v" if name not in COLOURS else "o")}


def count_axis(axes: Axes, counts: np.ndarray) -> None:
    """Makes the x axis a log axis of training counts with plain numbers."""
    axes.set_xscale("log")
    ticks = [base * 10**power for power in range(8) for base in (1, 2, 5)]
    ticks = [tick for tick in ticks if counts.min() / 1.5 <= tick <= counts.max() * 1.5]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="training examples of the class")


def shown_methods(table: Table) -> list[str]:
    """Returns the methods that line plots show: three of the paper's, the best rival and mmn."""
    names = ("plain", "cost_sensitive", "metamodelnet", best_rival(table["methods"], "mmn"), "mmn")
    return [name for name in names if name is not None and name in table["methods"]]


def leaderboard(table: Table) -> Figure:
    """Plots accuracy and difference to plain with 95% intervals, the most accurate method on top; ties have hollow markers."""
    names = ranked(table["methods"])[::-1]
    figure, (left, right) = panels(0.8 + 0.22 * len(names), 2, sharey=True)
    for place, name in enumerate(names):
        method = table["methods"][name]
        _interval(left, place, method["accuracy_interval"], name, False)
        if name != "plain":
            _, low, high = method["vs_plain"]
            _interval(right, place, method["vs_plain"], name, low <= 0 <= high)
    left.set_yticks(range(len(names)), names)
    left.set(xlabel="mean per-class accuracy (%)", ylim=(-0.7, len(names) - 0.3))
    right.axvline(0, color=COLOURS["plain"], linewidth=1)
    right.set(xlabel="difference to plain (points)")
    right.tick_params(left=False)
    return figure


def _interval(axes: Axes, place: int, values: list[float], name: str, hollow: bool) -> None:
    """Plots [mean, low, high] of a method on the line `place`."""
    mean, low, high = values
    style = style_of(name)
    axes.plot([low, high], [place, place], color=style["color"], linewidth=1.5)
    axes.plot([mean], [place], **style, linestyle="none", markerfacecolor=PAPER if hollow else style["color"])


def running_mean(x: np.ndarray, y: np.ndarray, at: np.ndarray, width: float) -> np.ndarray:
    """Returns means of y [n] at each point of `at`, weighted by a Gaussian of this width in x [n]."""
    weight = np.exp(-0.5 * ((at[:, None] - x) / width) ** 2)
    return weight @ y / weight.sum(1)


def gain_by_count(table: Table) -> Figure:
    """Plots per-class accuracy minus that of plain, one dot per class and seed, with a running mean over training counts."""
    names = [name for name in ("mmn", "metamodelnet") if name in table["methods"]]
    counts, plain = np.concatenate(table["counts"]), np.concatenate(_accuracies(table, "plain"))
    figure, every = panels(3.0, len(names), sharey=True, squeeze=False)
    at = np.linspace(np.log2(counts.min()), np.log2(counts.max()), 60)
    for axes, name in zip(every[0], names, strict=True):
        gain = np.concatenate(_accuracies(table, name)) - plain
        tested = np.isfinite(gain)
        dots = {"s": 14, "alpha": 0.5, "linewidths": 0, "zorder": 3, "color": style_of(name)["color"]}
        axes.scatter(counts[tested], gain[tested], **dots, rasterized=len(gain) > 3000)  # thousands of SVG dots make the page slow
        axes.axhline(0, color=COLOURS["plain"], linewidth=1)
        mean = running_mean(np.log2(counts[tested]), gain[tested], at, 0.5)
        axes.plot(2**at, mean, color=INK, linewidth=1.5)
        count_axis(axes, counts)
        axes.set_title(name)
    every[0, 0].set_ylabel("accuracy minus plain (points)")
    return figure


def _accuracies(table: Table, name: str) -> list[np.ndarray]:
    """Returns a method's accuracies [C] of every seed."""
    return [np.array(row, float) for row in table["per_class"][name]]


def accuracy_by_count(table: Table) -> Figure:
    """Plots mean accuracy by training count in bins of powers of two, over all seeds, one line per method."""
    figure, axes = panels(3.4)
    counts = np.concatenate(table["counts"])
    level = np.floor(np.log2(counts)).astype(int)
    bins = np.unique(level)
    for name in shown_methods(table):
        accuracy = np.concatenate(_accuracies(table, name))
        inside = [accuracy[(level == i) & np.isfinite(accuracy)] for i in bins]
        axes.plot(bins, [one.mean() if len(one) else np.nan for one in inside], **style_of(name), label=name)
    sizes = [f"({(level == i).sum():,})" for i in bins]
    ranges = [f"{2**i}+" if len(bins) > 9 else f"{2**i}–{2 ** (i + 1) - 1}" if i else "1" for i in bins]
    axes.set_xticks(bins, [f"{a}\n{b}" for a, b in zip(ranges, sizes, strict=True)])
    axes.set(xlabel="training examples of the class (number of classes over all seeds)", ylabel="accuracy (%)", ylim=(0, 100))
    axes.legend()
    return figure


def reliability(table: Table) -> Figure:
    """Plots accuracy against confidence for the first seed, before and after temperature scaling."""
    figure, every = panels(4.0, 2, sharey=True)
    titles = {"before": "before temperature scaling", "after": "after temperature scaling"}
    for axes, (when, title) in zip(every, titles.items(), strict=True):
        axes.plot([0, 100], [0, 100], color=COLOURS["plain"], linewidth=1, linestyle=":")
        for name in shown_methods(table):
            _reliability_line(axes, table["methods"][name]["reliability"][when], name)
        axes.set(xlabel="confidence (%)", title=title, xlim=(0, 100), ylim=(0, 100))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, title="mean error (points)", title_fontsize="small")
    every[0].set_ylabel("accuracy (%)")
    return figure


def _reliability_line(axes: Axes, bins: dict[str, list[float]], name: str) -> None:
    count, confidence, accuracy = (np.array(bins[key]) for key in ("count", "confidence", "accuracy"))
    error = np.average(np.abs(confidence - accuracy), weights=count)
    enough = count >= max(5, 0.005 * count.sum())
    axes.plot(confidence[enough], accuracy[enough], **style_of(name), label=f"{name} {error:.1f}")
