"""Draws how rows move (`row_dynamics.py`) and how the chain was trained, in the style of `figures.py`."""

from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmn_jax.report.figures import COLOURS, INK, panels, style_of
from mmn_jax.report.row_dynamics import Norms, Paths, Shift, Similarity

LONGEST = 40  # characters of a class name in a figure


def row_norms(heads: Norms, shifts: list[Shift]) -> Figure:
    """Plots row norms by training count, relative to the head's mean; beside it those of k-shot rows before and after the chain, relative
    to θ*, if there are banks."""
    figure, axes = panels(3.2, 2 if shifts else 1, sharey=True, squeeze=False)
    _norms_of_heads(axes[0, 0], heads)
    if shifts:
        _norms_of_banks(axes[0, 1], shifts)
    return figure


def _norms_of_heads(left: Axes, heads: Norms) -> None:
    places = np.arange(len(heads.labels))
    for name, shares in heads.shares.items():
        left.plot(places, shares, **style_of(name), label=name)
    left.set_xticks(places, [f"{label}\n({size})" for label, size in zip(heads.labels, heads.sizes, strict=True)])
    left.set(
        xlabel="training examples of the class (classes)", ylabel="row norm relative to the mean", title="rows of the long-tailed head"
    )
    left.legend()


def _norms_of_banks(right: Axes, shifts: list[Shift]) -> None:
    length = [[np.linalg.norm(part, axis=-1).mean() for part in (one.before, one.after, one.target)] for one in shifts]
    before, after, target = np.array(length).T
    right.plot(before / target, **style_of("plain"), label="k-shot rows")
    right.plot(after / target, **style_of("metamodelnet"), label="after the chain")
    right.axhline(1, color=INK, linewidth=1, linestyle=":", label="θ*")
    _shots_axis(right, [one.shots for one in shifts])
    right.set(title="rows of the bank", ylim=(0, None))
    right.tick_params(labelleft=True)
    right.set_ylabel("row norm relative to θ*")
    right.legend()


def _shots_axis(axes: Axes, shots: list[int]) -> None:
    axes.set_xticks(range(len(shots)), map(str, shots))
    axes.set_xlabel("k, examples per class")


def similarity(values: Similarity) -> Figure:
    """Plots the mean cosine similarity of k-shot rows to θ* before and after the chain, and the middle 80% of held-out classes' rows."""
    figure, axes = panels(3.2)
    dashed = {"linestyle": "--", "markerfacecolor": "none"}
    kinds = (
        (values.before_seen, "plain", False, "k-shot rows, training classes"),
        (values.before_held, "plain", True, "k-shot rows, held-out classes"),
        (values.after_seen, "metamodelnet", False, "after the chain, training classes"),
        (values.after_held, "metamodelnet", True, "after the chain, held-out classes"),
    )
    for rows, name, held, label in kinds:
        style, there = style_of(name) | (dashed if held else {}), [i for i, row in enumerate(rows) if len(row)]
        axes.plot(there, [rows[i].mean() for i in there], **style, label=label)
        if held:  # four bands are too many to tell apart
            ends = np.array([np.quantile(rows[i], [0.1, 0.9]) for i in there]).reshape(-1, 2)
            axes.fill_between(there, *ends.T, color=style["color"], alpha=0.12, linewidth=0)
    _shots_axis(axes, values.shots)
    axes.set_ylabel("cosine similarity to θ*")
    axes.legend(loc="lower right")
    return figure


def movement(ladder: list[int], ratios: list[float | None]) -> Figure:
    """Plots the mean ‖f(θ; w_i)‖ / ‖θ‖ of every block; a block that no row passes has no bar."""
    figure, axes = panels(2.6)
    places = np.arange(len(ladder))
    axes.bar(places, [ratio or 0.0 for ratio in ratios], color=COLOURS["metamodelnet"], width=0.6)
    for place, ratio in zip(places, ratios, strict=True):
        axes.text(place, ratio or 0.0, "no row" if ratio is None else f"{ratio:.2f}", ha="center", va="bottom", fontsize="small")
    axes.set_xticks(places, [f"block {i}\nk = {k}" for i, k in enumerate(ladder)])
    axes.set_ylabel("‖f(θ; w_i)‖ / ‖θ‖")
    axes.set_ylim(0, 1.15 * max(0.05, *(ratio or 0.0 for ratio in ratios)))
    axes.grid(axis="x", visible=False)
    return figure


def trajectories(paths: Paths, axis: str) -> Figure:
    """Plots mean rows of frequent classes (A, B, ..) from one shot to θ*, with single rows around them, and rows of rare classes
    (a, b, ..) before and after transfer."""
    figure, axes = panels(5.4)
    shades = colormaps["plasma"](np.linspace(0.25, 0.88, len(paths.steps)))  # visible on light and dark backgrounds
    for step, (name, shade) in enumerate(zip(paths.steps, shades, strict=True)):
        axes.scatter(*paths.cloud[paths.step == step].T, s=5, color=shade, alpha=0.4, linewidths=0)
        axes.scatter(*paths.stations[:, step].T, s=26, color=shade, zorder=3, label=name if name == "θ*" else f"k = {name}")
    for stations, letter in zip(paths.stations, ascii_uppercase, strict=False):
        axes.plot(*stations.T, color=INK, linewidth=0.8, alpha=0.6, zorder=2)
        _letter(axes, letter, stations[-1], stations[-1] - stations[-2])
    axes.plot(*paths.arrows[:, 0].T, color=COLOURS["plain"], marker="o", linestyle="none", zorder=4, label="rare, before transfer")
    axes.plot([], [], color=COLOURS["metamodelnet"], linewidth=1.4, label="after transfer")
    least = 1e-3 * np.ptp(paths.cloud, axis=0).max()
    for (start, end), letter in zip(paths.arrows, ascii_lowercase, strict=False):
        _letter(axes, letter, start, start - end)
        if np.linalg.norm(end - start) <= least:  # a zero-length arrow is drawn as a head with an arbitrary direction
            continue
        arrow = {"arrowstyle": "->", "color": COLOURS["metamodelnet"], "shrinkA": 0, "shrinkB": 0, "linewidth": 1.4, "mutation_scale": 7}
        axes.annotate("", end, start, arrowprops=arrow, zorder=4)
    axes.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2", xticks=[], yticks=[])
    axes.margins(0.12)
    figure.legend(loc="outside right upper")
    figure.legend(handles=_key(paths), loc="outside lower left", ncols=2, handlelength=0, handletextpad=0)
    return figure


def _letter(axes: Axes, letter: str, point: np.ndarray, away: np.ndarray) -> None:
    """Writes a letter 9 pt from the point in the direction `away`, clear of its line, or above the point if `away` is 0."""
    length = np.linalg.norm(away)
    offset = 9 * away / length if length > 0 else (0, 9)
    axes.annotate(letter, tuple(point), offset, textcoords="offset points", ha="center", va="center", zorder=5)


def _key(paths: Paths) -> list[Line2D]:
    """Returns legend handles that explain the letters, without markers, frequent classes in the first column."""
    lines = [f"{letter}  {shortened(name)}" for letter, name in zip(ascii_uppercase, paths.names, strict=False)]
    lines += [f"{letter}  {shortened(name)}" for letter, name in zip(ascii_lowercase, paths.rare, strict=False)]
    return [Line2D([], [], linestyle="none", label=line) for line in lines]


def shortened(name: str) -> str:
    """Returns the name on one line, its middle cut out if it is longer than `LONGEST`."""
    name, half = " ".join(name.split()), LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def training_curves(records: dict[int, dict[str, Any]]) -> Figure:
    """Plots the training loss and the loss on held-out classes over the steps of all levels, in the order of training.

    Args:
      records: what each level recorded in training (`looks`, `best_step`), by its index.
    """
    figure, axes = panels(3.2)
    begin, kinds = 0, (("train", "-", "training"), ("loss", "--", "held-out classes"))
    for number, (level, record) in enumerate(records.items()):
        evaluations = record["looks"]
        steps = begin + np.array([one["step"] for one in evaluations])
        for key, line, label in kinds:
            values = [one[key] if np.isfinite(one[key]) else np.nan for one in evaluations]
            style = {"color": COLOURS["metamodelnet"], "linestyle": line, "label": label if number == 0 else None}
            axes.plot(steps, values, **style)
        best = next(one for one in evaluations if one["step"] == record["best_step"])
        once = None if number else "best, kept"
        axes.plot([begin + best["step"]], [best["loss"]], color=COLOURS["mmn"], marker="o", linestyle="none", label=once)
        axes.axvline(begin, color=INK, linewidth=0.6, alpha=0.5)
        title = f"{level}" if number else f"level {level}"  # the others may be too short for the word
        axes.text((steps[0] + steps[-1]) / 2, 1.01, title, transform=axes.get_xaxis_transform(), ha="center", fontsize="small")
        begin = steps[-1]
    axes.set(xlabel="optimiser steps, levels in the order of training", ylabel="loss of equation 4", xlim=(-0.02 * begin, 1.02 * begin))
    axes.legend()
    return figure
