"""Figures of how rows move (`row_dynamics.py`) and of how the chain was trained, in the style of `figures.py`."""

from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmn_jax.report.figures import COLOURS, INK, look_of, panels
from mmn_jax.report.row_dynamics import Likeness, Norms, Paths, Shift

LONGEST = 40  # characters of a class name in a figure


def row_norms(heads: Norms, every: list[Shift]) -> Figure:
    """Left the rows of whole heads by shot count, as shares of a head's mean norm; right, where there are banks, k-shot rows before and
    after the chain, as shares of θ*'s."""
    figure, axes = panels(3.2, 2 if every else 1, sharey=True, squeeze=False)
    _norms_of_heads(axes[0, 0], heads)
    if every:
        _norms_of_banks(axes[0, 1], every)
    return figure


def _norms_of_heads(left, heads):
    places = np.arange(len(heads.labels))
    for name, shares in heads.shares.items():
        left.plot(places, shares, **look_of(name), label=name)
    left.set_xticks(places, [f"{label}\n({size})" for label, size in zip(heads.labels, heads.sizes, strict=True)])
    left.set(xlabel="training examples of the class (classes)", ylabel="row norm, share of the mean", title="rows of the long-tailed head")
    left.legend()


def _norms_of_banks(right, every):
    length = [[np.linalg.norm(part, axis=-1).mean() for part in (one.before, one.after, one.target)] for one in every]
    before, after, target = np.array(length).T
    right.plot(before / target, **look_of("plain"), label="k-shot rows")
    right.plot(after / target, **look_of("metamodelnet"), label="after the chain")
    right.axhline(1, color=INK, linewidth=1, linestyle=":", label="θ*")
    _shots_axis(right, [one.shots for one in every])
    right.set(title="rows of the bank", ylim=(0, None))
    right.tick_params(labelleft=True)
    right.set_ylabel("row norm, share of θ*'s")
    right.legend()


def _shots_axis(axes, shots):
    axes.set_xticks(range(len(shots)), map(str, shots))
    axes.set_xlabel("k, examples of every class")


def likeness(values: Likeness) -> Figure:
    """Mean cosine of k-shot rows to θ* before and after the chain, with the middle 80% of the rows of classes held out."""
    figure, axes = panels(3.2)
    dashed = {"linestyle": "--", "markerfacecolor": "none"}
    kinds = (
        (values.before_seen, "plain", False, "k-shot rows, classes that the chain learns from"),
        (values.before_held, "plain", True, "k-shot rows, classes held out"),
        (values.after_seen, "metamodelnet", False, "after the chain, classes that it learned from"),
        (values.after_held, "metamodelnet", True, "after the chain, classes held out"),
    )
    for rows, name, held, label in kinds:
        look, there = look_of(name) | (dashed if held else {}), [i for i, row in enumerate(rows) if len(row)]
        axes.plot(there, [rows[i].mean() for i in there], **look, label=label)
        if held:  # four bands are too many to tell apart
            ends = np.array([np.quantile(rows[i], [0.1, 0.9]) for i in there]).reshape(-1, 2)
            axes.fill_between(there, *ends.T, color=look["color"], alpha=0.12, linewidth=0)
    _shots_axis(axes, values.shots)
    axes.set_ylabel("cosine to θ*")
    axes.legend(loc="lower right")
    return figure


def movement(ladder: list[int], ratios: list[float | None]) -> Figure:
    """Mean ‖f(θ; w_i)‖ / ‖θ‖ of every block, without a bar where no row passes."""
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
    """Mean rows of frequent classes (A, B, ..) from one shot to θ*, single rows around them, and rare classes (a, b, ..) before and
    after transfer."""
    figure, axes = panels(5.4)
    shades = colormaps["plasma"](np.linspace(0.25, 0.88, len(paths.steps)))  # what is seen on light and dark ground
    for step, (name, shade) in enumerate(zip(paths.steps, shades, strict=True)):
        axes.scatter(*paths.cloud[paths.step == step].T, s=5, color=shade, alpha=0.4, linewidths=0)
        axes.scatter(*paths.stations[:, step].T, s=26, color=shade, zorder=3, label=name if name == "θ*" else f"k = {name}")
    for stations, letter in zip(paths.stations, ascii_uppercase, strict=False):
        axes.plot(*stations.T, color=INK, linewidth=0.8, alpha=0.6, zorder=2)
        _letter(axes, letter, stations[-1], stations[-1] - stations[-2])
    axes.plot(*paths.arrows[:, 0].T, color=COLOURS["plain"], marker="o", linestyle="none", zorder=4, label="rare, before")
    axes.plot([], [], color=COLOURS["metamodelnet"], linewidth=1.4, label="and moved")
    least = 1e-3 * np.ptp(paths.cloud, axis=0).max()
    for (start, end), letter in zip(paths.arrows, ascii_lowercase, strict=False):
        _letter(axes, letter, start, start - end)
        if np.linalg.norm(end - start) <= least:  # an arrow without length would be a head that points somewhere
            continue
        arrow = {"arrowstyle": "->", "color": COLOURS["metamodelnet"], "shrinkA": 0, "shrinkB": 0, "linewidth": 1.4, "mutation_scale": 7}
        axes.annotate("", end, start, arrowprops=arrow, zorder=4)
    axes.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2", xticks=[], yticks=[])
    axes.margins(0.12)
    figure.legend(loc="outside right upper")
    figure.legend(handles=_key(paths), loc="outside lower left", ncols=2, handlelength=0, handletextpad=0)
    return figure


def _letter(axes, letter, point, away):
    """At 9 points from the point, in this direction, where its line doesn't run, or above it where it has none."""
    length = np.linalg.norm(away)
    offset = 9 * away / length if length > 0 else (0, 9)
    axes.annotate(letter, point, offset, textcoords="offset points", ha="center", va="center", zorder=5)


def _key(paths):
    """What the letters stand for, as handles of a legend without markers, frequent classes in the first column."""
    lines = [f"{letter}  {shortened(name)}" for letter, name in zip(ascii_uppercase, paths.names, strict=False)]
    lines += [f"{letter}  {shortened(name)}" for letter, name in zip(ascii_lowercase, paths.rare, strict=False)]
    return [Line2D([], [], linestyle="none", label=line) for line in lines]


def shortened(name: str) -> str:
    """On one line, the middle left out where it is long."""
    name, half = " ".join(name.split()), LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def training_curves(records: dict[int, dict[str, Any]]) -> Figure:
    """Loss of episodes and of held-out classes over the steps of all stages in the order in which they were trained."""
    figure, axes = panels(3.2)
    begin, kinds = 0, (("train", "-", "episodes"), ("loss", "--", "held-out classes"))
    for number, (block, record) in enumerate(records.items()):
        looks = record["looks"]
        steps = begin + np.array([look["step"] for look in looks])
        for key, line, label in kinds:
            values = [look[key] if np.isfinite(look[key]) else np.nan for look in looks]
            shown = {"color": COLOURS["metamodelnet"], "linestyle": line, "label": label if number == 0 else None}
            axes.plot(steps, values, **shown)
        kept = next(look for look in looks if look["step"] == record["best_step"])
        once = None if number else "kept"
        axes.plot([begin + kept["step"]], [kept["loss"]], color=COLOURS["mmn"], marker="o", linestyle="none", label=once)
        axes.axvline(begin, color=INK, linewidth=0.6, alpha=0.5)
        title = f"{block}" if number else f"stage {block}"  # stages may be short
        axes.text((steps[0] + steps[-1]) / 2, 1.01, title, transform=axes.get_xaxis_transform(), ha="center", fontsize="small")
        begin = steps[-1]
    axes.set(xlabel="optimiser steps, stages one after another", ylabel="loss of equation 4", xlim=(-0.02 * begin, 1.02 * begin))
    axes.legend()
    return figure
